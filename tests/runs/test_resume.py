"""A run that was cut goes on, and ends with the bytes of one that never was."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyarrow import parquet

from mnv1cli.analysis import synthetic_photos
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.writers import parquet as parquet_writer
from mnv1cli.runs import file_sink, journal
from mnv1cli.runs.journal import Journal
from mnv1cli.system import signals
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 40
# As the program, but with a checkpoint after every batch, and batches that take a while.
PROGRAM = """
import sys, time
from mnv1cli.runs import journal, loop
journal.CHECKPOINT_SECONDS = 0
take = loop._take
def slowly(*arguments):
    time.sleep({pause})
    take(*arguments)
loop._take = slowly
from mnv1cli.__main__ import main
sys.argv = ["mnv1", *{arguments!r}]
main()
"""


class Cut(BaseException):
    """What a kill is to the program: it gets no further."""


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of small pictures, one of them broken and one missing, over and over."""
    folder = tmp_path_factory.mktemp("pictures")
    synthetic_photos.write_pictures(folder, 6, 40, 30)
    (folder / "broken.jpg").write_bytes(b"no picture")
    names = [*sorted(folder.iterdir()), folder / "missing.png"]
    file = folder / "list"
    file.write_text("".join(f"{names[i % len(names)]}\n" for i in range(COUNT)))
    return file


def run(listing: Path, out: object, *more: object, command: str = "logits") -> Any:
    return mnv1(
        command, "--files-from", listing, "--module", "bundled", "-o", out, "--batch-size", 4, *more
    )


def cut_at(monkeypatch: pytest.MonkeyPatch, checkpoints: int) -> None:
    """Let the program die just after so many checkpoints, without a farewell."""
    monkeypatch.setattr(journal, "CHECKPOINT_SECONDS", 0)
    left = iter(range(checkpoints - 1))
    write = Journal.write

    def until(self: Journal, state: Any) -> None:
        write(self, state)
        if next(left, None) is None:
            monkeypatch.setattr(Journal, "write", dies)
            raise Cut

    def dies(*_: object) -> None:
        raise Cut

    monkeypatch.setattr(Journal, "write", until)
    monkeypatch.setattr(file_sink.FileSink, "abandon", lambda self, *_: close_files(self))


def close_files(self: file_sink.FileSink) -> None:
    """What the system does with a process that is gone."""
    for file in self.files._open.values():
        file.close()
    if self.resume._journal is not None:
        self.resume._journal.close()


FILES = {
    "x.csv": ("x.csv",),
    "x.tsv": ("x.tsv",),
    "x.jsonl": ("x.jsonl",),
    "x.npy": ("x.npy", "x.index.csv"),
    "x.npz": (),
    "x.parquet": (),
}


def content(folder: Path, name: str) -> Any:
    """What must be equal: bytes, or the rows of what is put together at the end."""
    if name == "x.npz":
        with np.load(folder / name) as found:
            # As text, for which NaN is NaN.
            return {key: repr(found[key].tolist()) for key in found.files if key != "meta"}
    if name == "x.parquet":
        return parquet.read_table(folder / name).to_pylist()
    return [(folder / each).read_bytes() for each in FILES[name]]


@pytest.fixture(scope="module")
def make_whole(listing: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of the result of a run that nothing stopped, made only once."""

    @functools.cache
    def make(name: str, *more: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert run(listing, name, *more).exit_code == 3
        return folder

    return make


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("checkpoints", "on_error"), [(1, "skip"), (2, "row"), (10, "row"), (11, "skip")]
)
def test_run_that_is_cut_at_a_checkpoint_goes_on(
    listing: Path,
    make_whole: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    checkpoints: int,
    on_error: str,
) -> None:
    more = ("--on-error", on_error, "--errors", "bad.csv")
    whole = make_whole(name, *more)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as dying:
        cut_at(dying, checkpoints)
        with pytest.raises(Cut):
            run(listing, name, *more)
    result = run(listing, name, *more, "--resume")
    assert result.exit_code == 3, result.stderr
    assert content(tmp_path, name) == content(whole, name)
    assert (tmp_path / "bad.csv").read_bytes() == (whole / "bad.csv").read_bytes()
    assert sorted(os.listdir(tmp_path)) == sorted(os.listdir(whole))


@pytest.mark.parametrize(
    ("name", "seed"), [("x.csv", 0), ("x.npy", 1), ("x.jsonl", 2), ("x.parquet", 3)]
)
def test_run_that_is_killed_goes_on(listing: Path, tmp_path: Path, name: str, seed: int) -> None:
    command = "embed" if name == "x.npy" else "classify"
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    run(listing, tmp_path / "whole" / name, command=command)
    out = tmp_path / "cut" / name
    arguments = [command, "--files-from", str(listing), "--module", "bundled", "-o", str(out)]
    arguments += ["--batch-size", "3", "--resume"]
    chance = random.Random(seed)
    kills = 0
    while True:
        code = PROGRAM.format(pause=0.05, arguments=arguments)
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            # From its very beginning to well into its rows.
            wait = chance.uniform(0, 1.2) if kills < 2 else None
            try:
                _, complaint = process.communicate(timeout=wait)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    # 0 where it was killed with nothing left to do.
    assert process.returncode in (0, 3), complaint
    assert content(tmp_path / "cut", name) == content(tmp_path / "whole", name)
    assert sorted(os.listdir(tmp_path / "cut")) == sorted(os.listdir(tmp_path / "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_state_to_go_on_from(
    listing: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "x.csv"
    arguments = ["classify", "--files-from", str(listing), "--module", "bundled", "-o", str(out)]
    arguments += ["--batch-size", "2"]
    code = PROGRAM.format(pause=0.2, arguments=arguments)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while not (tmp_path / "x.csv.part").exists() or (
            (tmp_path / "x.csv.part").stat().st_size < 300
        ):
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert b"the same command with --resume goes on" in errors
    result = mnv1(*arguments, "--resume")
    assert result.exit_code == 3
    whole = run(listing, tmp_path / "whole.csv", command="classify")
    assert whole.exit_code == 3
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    meta = json.loads((tmp_path / "x.csv.meta.json").read_text())
    assert meta["counts"] == {"done": 30, "failed": 10}
    assert len(meta["failures"]) == 10


@pytest.mark.parametrize("name", FILES)
def test_signal_at_the_very_end_finds_a_whole_result(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    finish = file_sink.FileSink.finish

    def interrupted(self: file_sink.FileSink, *arguments: Any) -> None:
        finish(self, *arguments)
        signals.request_stop(KeyboardInterrupt())

    with monkeypatch.context() as patch:
        patch.setattr(file_sink.FileSink, "finish", interrupted)
        result = run(listing, tmp_path / name)
    assert result.exit_code == 130
    assert "this is a bug" not in result.stderr
    assert "done so far" not in result.stderr
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob("*.journal"))
    result = run(listing, tmp_path / name, "--resume")
    assert "is complete" in result.stderr


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_signal_while_the_rows_are_put_together_is_answered_at_once(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    finish = file_sink.FileSink.finish

    def interrupted(self: file_sink.FileSink, *arguments: Any) -> None:
        signals.request_stop(KeyboardInterrupt())
        finish(self, *arguments)

    (tmp_path / "whole").mkdir()
    run(listing, tmp_path / "whole" / name)
    monkeypatch.setattr(parquet_writer, "_GROUP_ROWS", 8)
    for more in ((), ("--resume",)):
        with monkeypatch.context() as patch:
            patch.setattr(file_sink.FileSink, "finish", interrupted)
            result = run(listing, tmp_path / name, *more)
        assert result.exit_code == 130
        assert "the same command with --resume goes on" in result.stderr
        assert not (tmp_path / name).exists()
    assert run(listing, tmp_path / name, "--resume").exit_code == 3
    assert content(tmp_path, name) == content(tmp_path / "whole", name)


def cut_run(listing: Path, out: object, *more: object) -> None:
    """Let a run be cut half way."""
    with pytest.MonkeyPatch.context() as dying:
        cut_at(dying, 5)
        with pytest.raises(Cut):
            run(listing, out, *more)


@pytest.mark.parametrize("name", FILES)
def test_files_that_were_moved_go_on_from_any_folder(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Begin with a relative path, move the folder, and go on in it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "whole").mkdir()
    run(listing, tmp_path / "whole" / name, "--errors", tmp_path / "whole" / "bad.csv")
    monkeypatch.chdir(tmp_path)
    cut_run(listing, f"out/{name}", "--errors", "out/bad.csv")
    (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    result = run(listing, name, "--errors", "bad.csv", "--resume")
    assert result.exit_code == 3, result.stderr
    assert content(tmp_path / "moved", name) == content(tmp_path / "whole", name)
    assert sorted(os.listdir(tmp_path / "moved")) == sorted(os.listdir(tmp_path / "whole"))


def test_result_that_appears_is_not_replaced_by_a_run_that_goes_on(
    listing: Path, tmp_path: Path
) -> None:
    """Refuse it each time, and finish when it has been moved away."""
    out = tmp_path / "x.csv"
    cut_run(listing, out)
    out.write_text("precious")
    for _ in range(2):
        result = run(listing, out, "--resume")
        assert result.exit_code == 1
        assert "x.csv exists now" in result.stderr
        assert out.read_text() == "precious"
    out.unlink()
    assert run(listing, out, "--resume").exit_code == 3


def test_run_that_was_begun_with_force_goes_on_to_replace(listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    out.write_text("old")
    cut_run(listing, out, "--force")
    assert out.read_text() == "old"
    assert run(listing, out, "--resume").exit_code == 3
    assert out.read_text() != "old"


def half(listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was cut half way."""
    out = tmp_path / "x.csv"
    with monkeypatch.context() as dying:
        cut_at(dying, 5)
        with pytest.raises(Cut):
            run(listing, out, command="classify")
    return out


def test_leftover_is_named_and_not_overwritten(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = half(listing, tmp_path, monkeypatch)
    before = (tmp_path / "x.csv.part").read_bytes()
    result = run(listing, out, command="classify")
    assert result.exit_code == 1
    assert "x.csv.part is left" in result.stderr
    assert "--resume" in result.stderr
    assert (tmp_path / "x.csv.part").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--preprocess", "pad"), "--preprocess slim, not pad"),
        (("--top", 3), "--top 5, not 3"),
        (("--engine", "tf"), "--engine litert, not tf"),
        (("--on-error", "row"), "--on-error skip, not row"),
        (("--errors", "bad.csv"), "--errors"),
        (("--no-exif",), "--exif True, not False"),
    ],
)
def test_other_settings_are_refused(
    listing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[object, ...],
    told: str,
) -> None:
    out = half(listing, tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "x.csv.part").read_bytes()
    result = run(listing, out, "--resume", *more, command="classify")
    assert result.exit_code == 1
    assert told in result.stderr
    assert (tmp_path / "x.csv.part").read_bytes() == before


def test_engine_that_was_not_named_is_that_of_the_run(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.csv"
    with monkeypatch.context() as dying:
        # As where the module cannot be compiled just then.
        cut_at(dying, 5)
        with pytest.raises(Cut):
            run(listing, out, "--engine", "tf", command="classify")
    result = run(listing, out, "--resume", command="classify")
    assert result.exit_code == 3, result.stderr
    assert json.loads((tmp_path / "x.csv.meta.json").read_text())["engine"] == "tf"
    run(listing, tmp_path / "whole.csv", "--engine", "tf", command="classify")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_threads_and_batches_may_differ(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = half(listing, tmp_path, monkeypatch)
    result = run(listing, out, "--resume", "--threads", 1, "--batch-size", 7, command="classify")
    assert result.exit_code == 3, result.stderr
    run(listing, tmp_path / "whole.csv", command="classify")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_other_inputs_are_refused(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = half(listing, tmp_path, monkeypatch)
    other = tmp_path / "list"
    other.write_text("".join(listing.read_text().splitlines(keepends=True)[1:]))
    result = run(other, out, "--resume", command="classify")
    assert result.exit_code == 1
    assert "inputs are not those" in result.stderr


def test_result_that_lost_bytes_is_refused(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = half(listing, tmp_path, monkeypatch)
    os.truncate(tmp_path / "x.csv.part", 10)
    result = run(listing, out, "--resume", command="classify")
    assert result.exit_code == 1
    assert "does not have what was written to it" in result.stderr


def test_part_without_a_journal_is_refused(listing: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv.part").write_text("path\n")
    result = run(listing, tmp_path / "x.csv", "--resume", command="classify")
    assert result.exit_code == 1
    assert "there is no journal" in result.stderr


def dying_before(owner: Any, name: str) -> Any:
    """Let the program die where it would call this, without a farewell."""

    def dies(*_: object, **__: object) -> None:
        raise Cut

    patch = pytest.MonkeyPatch()
    patch.setattr(owner, name, dies)
    patch.setattr(file_sink.FileSink, "abandon", lambda self, *_: close_files(self))
    return patch


STEPS = [
    (Journal, "_append"),
    (ResultFiles, "open_main"),
    (ResultFiles, "open"),
    (ResultFiles, "flush"),
    (file_sink.FileSink, "write"),
    (file_sink.FileSink, "commit"),
    (file_sink.FileSink, "finish"),
    (ResultFiles, "write_json"),
    (ResultFiles, "commit"),
    (Journal, "remove"),
]


@pytest.mark.parametrize(
    ("owner", "name", "out", "resumed"),
    [
        (owner, name, out, resumed)
        for owner, name in STEPS
        for out, resumed in (
            ("x.csv", False), ("x.npy", False), ("x.npy", True),
            ("x.parquet", False), ("x.parquet", True),
        )
        # Parquet has its metadata inside.
        if (name, out) != ("write_json", "x.parquet")
    ],
)  # fmt: skip
def test_run_that_dies_at_any_step_goes_on(
    listing: Path,
    make_whole: Callable[..., Path],
    tmp_path: Path,
    owner: Any,
    name: str,
    out: str,
    resumed: bool,
) -> None:
    if resumed:
        # It had got so far before.
        with pytest.MonkeyPatch.context() as dying:
            cut_at(dying, 3)
            with pytest.raises(Cut):
                run(listing, tmp_path / out)
    patch = dying_before(owner, name)
    try:
        with pytest.raises(Cut):
            run(listing, tmp_path / out, "--resume")
    finally:
        patch.undo()
    result = run(listing, tmp_path / out, "--resume")
    assert result.exit_code in (0, 3), result.stderr
    assert content(tmp_path, out) == content(make_whole(out), out)
    assert sorted(os.listdir(tmp_path)) == sorted(os.listdir(make_whole(out)))


def test_run_that_dies_while_it_gives_up_leaves_nothing_in_the_way(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.csv"

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def dies(self: Journal) -> None:
        self._file.close()
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(file_sink.FileSink, "write", fails)
        patch.setattr(Journal, "remove", dies)
        patch.setattr(Journal, "close", dies)
        with pytest.raises(Cut):
            run(listing, out)
    assert run(listing, out, "--resume").exit_code == 3
    run(listing, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_nothing_left_is_a_beginning_and_a_result_an_end(listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    assert run(listing, out, "--resume", command="classify").exit_code == 3
    before = out.read_bytes()
    result = run(listing, out, "--resume", command="classify")
    assert result.exit_code == 0
    assert "is complete" in result.stderr
    assert out.read_bytes() == before


def test_result_of_other_settings_is_not_taken_for_complete(listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    assert run(listing, out, command="classify").exit_code == 3
    before = out.read_bytes()
    result = run(listing, out, "--resume")
    assert result.exit_code == 1
    assert "command classify, not logits" in result.stderr
    result = run(listing, out, "--resume", "--preprocess", "pad", command="classify")
    assert "preprocess slim, not pad" in result.stderr
    assert out.read_bytes() == before


def test_run_that_is_cut_while_it_renames_has_only_to_rename(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.npy"
    with monkeypatch.context() as dying:

        def renames_one(self: Any) -> None:
            path = self.sidecars[0]
            self._open.pop(path).close()
            os.replace(f"{path}.part", path)
            raise Cut

        dying.setattr("mnv1cli.results.files.ResultFiles.commit", renames_one)
        dying.setattr(file_sink.FileSink, "abandon", lambda self, *_: close_files(self))
        with pytest.raises(Cut):
            run(listing, out)
    result = run(listing, out, "--resume")
    assert "is complete" in result.stderr
    run(listing, tmp_path / "y.npy")
    assert out.read_bytes() == (tmp_path / "y.npy").read_bytes()
    assert (tmp_path / "x.index.csv").read_bytes() == (tmp_path / "y.index.csv").read_bytes()
    assert not list(tmp_path.glob("x*.part")) + list(tmp_path.glob("*.journal"))


def test_force_begins_anew(listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = half(listing, tmp_path, monkeypatch)
    assert run(listing, out, "--force", command="classify").exit_code == 3
    run(listing, tmp_path / "whole.csv", command="classify")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("more", [("--force",), ("-f", "table"), ()])
def test_resume_that_makes_no_sense_is_wrong_usage(
    listing: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    where = ("-o", tmp_path / "x.csv") if more else ()
    result = mnv1("classify", "--files-from", listing, "--resume", *where, *more)
    assert result.exit_code == 2
    assert not os.listdir(tmp_path)


def test_full_disk_leaves_a_state_to_go_on_from(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.csv"
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))\n"
    ) + PROGRAM.format(
        pause=0,
        arguments=[
            "logits", "--files-from", str(listing), "--module", "bundled", "-o", str(out),
            "--batch-size", "2",
        ],
    )  # fmt: skip
    full = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert full.returncode == 1
    assert b"cannot write" in full.stderr
    result = run(listing, out, "--resume")
    assert result.exit_code == 3, result.stderr
    run(listing, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
