"""--skip-existing and --append: what is there is not done again, what does not fit is refused."""

from __future__ import annotations

import csv
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pyarrow import parquet

from mnv1cli.analysis import synthetic_photos
from mnv1cli.runs import file_sink
from tests.runs.test_resume import Cut, cut_at
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ["csv", "tsv", "jsonl", "npy", "npz", "parquet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures, a broken one, and lists: `first` of four and the broken one, `all`."""
    folder = tmp_path_factory.mktemp("pictures")
    synthetic_photos.write_pictures(folder, 8, 40, 30)
    names = sorted(folder.iterdir())
    (folder / "broken.jpg").write_bytes(b"no picture")
    lists: dict[str, list[Any]] = {
        "first": [*names[:4], folder / "broken.jpg"],
        "all": [*names[:2], folder / "broken.jpg", *names[2:]],
        # As a run and what is added to it have them.
        "whole": [*names[:4], folder / "broken.jpg", *names[4:]],
    }
    for name, paths in lists.items():
        (folder / name).write_text("".join(f"{path}\n" for path in paths))
    return folder


def run(listing: Path, *more: object, command: str = "embed") -> Any:
    return mnv1(command, "--files-from", listing, "--module", "bundled", "-q", *more)


def rows(file: Path) -> Any:
    """What must be equal: bytes, or the rows of what holds its metadata."""
    if file.suffix == ".npz":
        with np.load(file) as found:
            return {key: repr(found[key].tolist()) for key in found.files if key != "meta"}
    if file.suffix == ".parquet":
        return parquet.read_table(file).to_pylist()
    index = file.with_suffix(".index.csv")
    return file.read_bytes(), index.read_bytes() if index.exists() else b""


def metadata(file: Path) -> Any:
    if file.suffix == ".npz":
        return json.loads(str(np.load(file)["meta"]))
    if file.suffix == ".parquet":
        told: Any = parquet.read_metadata(file).metadata
        return json.loads(told[b"mnv1"])
    return json.loads(file.with_name(file.name + ".meta.json").read_text())


@pytest.mark.parametrize("on_error", ["skip", "row"])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_added_makes_a_whole(
    folder: Path, tmp_path: Path, name: str, on_error: str
) -> None:
    out, whole = tmp_path / f"x.{name}", tmp_path / f"whole.{name}"
    more = ("--on-error", on_error)
    assert run(folder / "first", "-o", out, *more).exit_code == 3
    result = run(folder / "all", "--skip-existing", out, "--append", *more)
    # The broken one is tried again where it has no row.
    assert result.exit_code == (3 if on_error == "skip" else 0), result.stderr
    run(folder / "whole", "-o", whole, *more)
    assert rows(out) == rows(whole)
    told, wanted = metadata(out), metadata(whole)
    assert told["counts"] == wanted["counts"] == {"done": 8, "failed": 1}
    assert told["failures"] == wanted["failures"]
    assert told["seconds"] > 0
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob("*.journal"))


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("name", ["csv", "npy", "parquet"])
def test_two_runs_that_add_at_once_do_not_double_rows(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, begun: bool
) -> None:
    """Let another run add everything between what the first one reads and what it writes."""
    out, whole = tmp_path / f"x.{name}", tmp_path / f"whole.{name}"
    words = (folder / "whole", "-o", out, "--skip-existing", out)
    if begun:
        run(folder / "first", "-o", out)
    begin = file_sink.FileSink.begin

    def begin_late(self: file_sink.FileSink, job: Any) -> None:
        monkeypatch.setattr(file_sink.FileSink, "begin", begin)
        assert run(*words).exit_code == 3
        begin(self, job)

    monkeypatch.setattr(file_sink.FileSink, "begin", begin_late)
    result = run(*words)
    assert result.exit_code == 1
    assert "has just written" in result.stderr or "exists now" in result.stderr
    run(folder / "whole", "-o", whole)
    assert rows(out) == rows(whole)
    assert metadata(out)["counts"] == {"done": 8, "failed": 1}
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob("*.journal"))


@pytest.mark.parametrize("more", [(), ("--wide",), ("--top", 2)])
def test_labels_are_added(folder: Path, tmp_path: Path, more: tuple[object, ...]) -> None:
    out, whole = tmp_path / "x.csv", tmp_path / "whole.csv"
    run(folder / "first", "-o", out, *more, command="classify")
    run(folder / "all", "--skip-existing", out, "--append", *more, command="classify")
    run(folder / "whole", "-o", whole, *more, command="classify")
    assert rows(out) == rows(whole)


@pytest.mark.parametrize("name", FORMATS)
def test_only_what_is_missing_is_done(folder: Path, tmp_path: Path, name: str) -> None:
    earlier, out = tmp_path / f"x.{name}", tmp_path / "new.csv"
    run(folder / "first", "-o", earlier)
    before = rows(earlier)
    result = mnv1(
        "embed", "--files-from", folder / "all", "--module", "bundled", "-o", out,
        "--skip-existing", earlier,
    )  # fmt: skip
    assert result.exit_code == 3
    assert "4 were there already" in result.stderr
    with out.open(newline="") as stream:
        done = [os.path.basename(row["path"]) for row in csv.DictReader(stream)]
    assert done == [f"{i:06}.jpg" for i in range(4, 8)] or len(done) == 4
    assert rows(earlier) == before


def test_result_is_begun_where_there_is_none_to_add_to(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    assert run(folder / "first", "--skip-existing", out, "--append").exit_code == 3
    assert out.read_bytes().count(b"\n") == 5


def test_result_that_lacks_nothing_is_left_alone(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    run(folder / "all", "-o", out, "--on-error", "row")
    before = out.stat()
    more = ("--skip-existing", out, "--append", "--on-error", "row")
    assert run(folder / "all", *more).exit_code == 0
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    assert out.stat().st_ino == before.st_ino


def test_rows_are_added_without_skipping(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    run(folder / "first", "-o", out)
    once = out.read_bytes()
    assert run(folder / "first", "-o", out, "--append").exit_code == 3
    assert out.read_bytes() == once + once.partition(b"\n")[2]
    assert metadata(out)["counts"] == {"done": 8, "failed": 1}


def test_one_result_is_skipped_and_another_added_to(folder: Path, tmp_path: Path) -> None:
    base, skipped = tmp_path / "x.csv", tmp_path / "y.npy"
    run(folder / "first", "-o", base)
    run(folder / "first", "-o", skipped)
    run(folder / "all", "-o", base, "--append", "--skip-existing", skipped)
    assert base.read_bytes().count(b"\n") == 9


@pytest.mark.parametrize("append", [True, False])
@pytest.mark.parametrize(
    ("command", "more", "told"),
    [
        ("logits", (), "was made with command embed, not logits"),
        ("embed", ("--preprocess", "pad"), "preprocess slim, not pad"),
        ("embed", ("--engine", "tf"), "engine litert, not tf"),
        ("embed", ("--no-exif",), "exif True, not False"),
        ("embed", ("--decode", "full"), "decode scaled, not full"),
        ("embed", ("--endpoint", "global_pool"), "output features, not MobilenetV1/global_pool"),
        ("embed", ("--force", "--preprocess", "pad"), "preprocess slim, not pad"),
    ],
)
def test_other_settings_are_refused(
    folder: Path, tmp_path: Path, append: bool, command: str, more: tuple[str, ...], told: str
) -> None:
    earlier = tmp_path / "x.csv"
    run(folder / "first", "-o", earlier)
    before = rows(earlier)
    where = ("--append",) if append else ("-o", tmp_path / "new.csv")
    result = run(folder / "all", "--skip-existing", earlier, *where, *more, command=command)
    assert result.exit_code == 1
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert rows(earlier) == before
    assert sorted(os.listdir(tmp_path)) == ["x.csv", "x.csv.meta.json"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--top", 3), "top 5, not 3"),
        (("--min-probability", 0.1), "--min-probability 0.0, not 0.1"),
        (("--wide",), "was made without --wide"),
        (("--on-error", "row"), "was made without --on-error row"),
    ],
)
def test_other_rows_are_refused(
    folder: Path, tmp_path: Path, more: tuple[object, ...], told: str
) -> None:
    out = tmp_path / "x.csv"
    run(folder / "first", "-o", out, command="classify")
    before = rows(out)
    result = run(folder / "all", "--skip-existing", out, "--append", *more, command="classify")
    assert result.exit_code == 1
    assert told in result.stderr
    assert rows(out) == before


def test_result_without_metadata_needs_force(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    run(folder / "first", "-o", out)
    (tmp_path / "x.csv.meta.json").unlink()
    more = ("--skip-existing", out, "--append")
    result = run(folder / "all", *more)
    assert result.exit_code == 1
    assert "has no metadata; --force" in result.stderr
    assert run(folder / "all", *more, "--force").exit_code == 3
    run(folder / "whole", "-o", tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert metadata(out)["counts"] == {"done": 8, "failed": 1}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--append",), "--append needs a file"),
        (("--append", "-f", "table", "-o", "x"), "--append needs a file"),
        (("--skip-existing", "none.csv"), "no such file: none.csv"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run(folder / "first", "-o", "x.csv", command="classify")
    before = (tmp_path / "x.csv").read_bytes()
    result = run(folder / "all", *more, command="classify")
    assert result.exit_code == 2, result.stderr
    assert told in result.stderr
    assert (tmp_path / "x.csv").read_bytes() == before


def test_file_that_is_no_result_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("name,size\na,1\n")
    result = run(folder / "all", "--skip-existing", tmp_path / "x.csv", "--append")
    assert result.exit_code == 1
    assert "x.csv is no result of mnv1" in result.stderr


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("checkpoints", [1, 2, 3])
def test_adding_that_is_cut_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, checkpoints: int
) -> None:
    out, whole = tmp_path / f"x.{name}", tmp_path / f"whole.{name}"
    run(folder / "first", "-o", out)
    run(folder / "whole", "-o", whole)
    before = rows(out)
    more = ("--skip-existing", out, "--append", "--batch-size", 2)
    with monkeypatch.context() as dying:
        cut_at(dying, checkpoints)
        with pytest.raises(Cut):
            run(folder / "all", *more)
    assert rows(out) == before
    result = run(folder / "all", *more)
    assert result.exit_code == 1
    assert "add --resume to go on" in result.stderr
    result = run(folder / "all", *more, "--resume")
    assert result.exit_code == 3, result.stderr
    assert rows(out) == rows(whole)
    assert metadata(out)["counts"] == {"done": 8, "failed": 1}
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob("*.journal"))


def test_what_changed_meanwhile_is_not_gone_on_with(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.csv"
    run(folder / "first", "-o", out)
    more = ("--skip-existing", out, "--append", "--batch-size", 2)
    with monkeypatch.context() as dying:
        cut_at(dying, 2)
        with pytest.raises(Cut):
            run(folder / "all", *more)
    out.write_bytes(out.read_bytes())
    os.utime(out, (1, 1))
    result = run(folder / "all", *more, "--resume")
    assert result.exit_code == 1
    assert "--skip-existing" in result.stderr


@pytest.mark.parametrize("name", FORMATS)
def test_resume_of_a_complete_run_sees_new_inputs(folder: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / f"x.{name}"
    run(folder / "first", "-o", out)
    assert run(folder / "first", "-o", out, "--resume").exit_code == 0
    result = run(folder / "all", "-o", out, "--resume")
    assert result.exit_code == 1
    assert "has nothing of 4 of these inputs" in result.stderr
    assert "--append adds them" in result.stderr
    result = run(folder / "first", "-o", out, "--resume", "--preprocess", "pad")
    assert result.exit_code == 1
    assert "preprocess slim, not pad" in result.stderr


def test_other_spelling_of_paths_is_told(folder: Path, tmp_path: Path) -> None:
    run(folder / "first", "-o", tmp_path / "x.csv")
    listing = tmp_path / "list"
    listing.write_bytes((folder / "first").read_bytes().replace(b"/pictures", b"//pictures"))
    result = mnv1(
        "embed", "--files-from", listing, "--module", "bundled",
        "--skip-existing", tmp_path / "x.csv", "-o", tmp_path / "y.csv",
    )  # fmt: skip
    assert "x.csv has none of these images" in result.stderr


@pytest.mark.parametrize(("name", "form"), [("x.csv", "npy"), ("x.npy", "csv"), ("x.tsv", "csv")])
def test_result_keeps_its_format(folder: Path, tmp_path: Path, name: str, form: str) -> None:
    out = tmp_path / name
    run(folder / "first", "-o", out)
    before = rows(out)
    result = run(folder / "all", "--skip-existing", out, "--append", "-f", form)
    assert result.exit_code == 2
    assert f"is {out.suffix[1:]}, not {form}" in result.stderr
    assert rows(out) == before


def test_format_of_a_result_is_known_whatever_its_name(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels"
    run(folder / "first", "-o", out, "-f", "jsonl", command="classify")
    more = ("--skip-existing", out, "--append")
    assert run(folder / "all", *more, command="classify").exit_code == 3
    assert out.read_bytes().count(b"\n") == 8


def test_resume_of_a_result_without_metadata_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    run(folder / "first", "-o", out)
    (tmp_path / "x.csv.meta.json").unlink()
    result = run(folder / "first", "-o", out, "--resume", "--preprocess", "pad")
    assert result.exit_code == 1
    assert "has no metadata" in result.stderr
