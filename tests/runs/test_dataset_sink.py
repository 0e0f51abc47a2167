"""Datasets that runs write into: what is in them, what is done once, what a cut leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnv1cli.api import Classifier
from mnv1cli.cluster import task
from mnv1cli.cluster.task import Order, Share
from mnv1cli.errors import ImageError, OptionError
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.settings import Settings
from mnv1cli.inputs import listing
from mnv1cli.inputs.walk import ImageFilter, ListedImage, walk_folder
from mnv1cli.results.dataset import Dataset, dataset_layout
from mnv1cli.results.writers.arrow import METADATA_KEY
from mnv1cli.runs import dataset_sink, loop
from mnv1cli.runs.dataset_sink import DatasetSink
from mnv1cli.runs.options import OutputOptions
from mnv1cli.runs.tally import Tally
from mnv1cli.storage.folder import open_folder
from mnv1cli.storage.location import Location
from mnv1cli.system import signals
from mnv1cli.types import ImageRef, Task
from tests.conftest import ROOT
from tests.support.datasets import COUNT, album, images, parts, raw, rows, runs
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.inference.job import Job

ALL = COUNT + 2
BUNDLED = ("--module", "bundled")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return album(tmp_path_factory.mktemp("dataset") / "album")


@pytest.fixture(autouse=True)
def here(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a test's own, in which `album` are the pictures."""
    (tmp_path / "album").symlink_to(pictures)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object, command: str = "classify", code: int = 3) -> str:
    """Run a command over the album unless it names others; gives what it said on stderr."""
    result = mnv1(command, *arguments, *BUNDLED)
    assert result.exit_code == code, result.stderr
    assert not result.stdout
    return result.stderr


# --- what is in it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("classify", ("--top", "3")),
        ("classify", ("--with-meta",)),
        ("logits", ("--probabilities",)),
        ("embed", ()),
    ],
)
def test_rows_are_those_of_a_file(here: Path, command: str, options: tuple[str, ...]) -> None:
    out, file = here / "out", here / "x.parquet"
    said = run("album/", *options, "-o", f"{out}/", command=command)
    assert f"{COUNT} images" in said
    assert f"2 failed, in {out}/" in said
    run("album/", *options, "-o", file, "--on-error", "row", "-q", command=command)
    assert rows(out) == rows(file)
    assert len({raw(row) for row in rows(out)}) == ALL
    part, whole = parts(out)[0], pq.read_schema(file)
    assert pq.read_schema(part).remove_metadata() == whole.remove_metadata()


def test_each_part_tells_how_it_came_about_and_each_run_what_became_of_it(here: Path) -> None:
    run("album/", "-o", "out/", "--manifest", "m.json", "--errors", "bad.csv")
    told = json.loads(pq.read_schema(parts(here / "out")[0]).metadata[METADATA_KEY])
    [file] = runs(here / "out")
    meta = json.loads(file.read_bytes())
    assert told.pop("run") == file.stem
    assert file.stem in parts(here / "out")[0].name
    assert {key: meta.pop(key) for key in ("counts", "failures")} == {
        "counts": {"done": COUNT, "failed": 2},
        "failures": [
            {"path": "album/broken.jpg", "reason": "not an image: the file holds text"},
            {"path": "album/empty.png", "reason": "the file is empty"},
        ],
    }
    assert meta.pop("seconds") > 0
    assert meta == told
    assert json.loads((here / "m.json").read_bytes())["counts"] == {"done": COUNT, "failed": 2}
    assert (here / "bad.csv").read_text().splitlines() == [
        "path,reason",
        "album/broken.jpg,not an image: the file holds text",
        "album/empty.png,the file is empty",
    ]


def test_other_programs_read_the_folder_as_one_table(here: Path) -> None:
    run("album/", "-o", "out/", "--top", 1, command="classify")
    (here / "out" / ".part-x.parquet.unfinished").write_bytes(b"half")
    (here / "out" / "_SUCCESS").touch()
    frame = pd.read_parquet("out")
    assert sorted(frame.columns) == sorted(
        ["path", "path_bytes", "rank", "class_id", "wnid", "label", "probability", "error"]
    )
    assert len(frame) == ALL
    assert (frame["error"] != "").sum() == 2


@pytest.mark.parametrize("limit", ["PART_IMAGES", "PART_BYTES", "PART_SECONDS"])
def test_parts_are_cut_by_number_size_and_time(
    here: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(dataset_sink, limit, {"PART_IMAGES": 4, "PART_BYTES": 17_000}.get(limit, 0))
    run("album/", "-o", "out/", "--batch-size", 2, command="embed")
    found = parts(here / "out")
    assert len(found) == {"PART_IMAGES": 3, "PART_BYTES": 2}.get(limit, 5)
    assert [p.name.rpartition("-")[2] for p in found] == [
        f"{i:05}.parquet" for i in range(len(found))
    ]
    assert sum(pq.read_metadata(part).num_rows for part in found) == ALL


def test_image_without_a_label_has_a_row_and_is_not_done_again(here: Path) -> None:
    run("album/", "-o", "out/", "--min-probability", 1)
    found = rows(here / "out")
    assert len(found) == ALL
    assert {row["label"] for row in found} == {None}
    assert sum(row["error"] == "" for row in found) == COUNT
    said = run("album/", "-o", "out/", "--min-probability", 1, code=0)
    assert "nothing is left to do" in said
    assert rows(here / "out") == found


# --- what is done once ------------------------------------------------------------------


def test_second_run_does_what_is_new_and_opens_nothing_else(here: Path, pictures: Path) -> None:
    names = sorted(os.fsencode(name) for name in os.listdir(pictures))
    own = os.fsencode(here / "own")
    os.mkdir(own)
    for name in names[:6]:
        os.link(os.path.join(os.fsencode(pictures), name), os.path.join(own, name))
    run("own", "-o", "out/", code=0)
    first, before = parts(here / "out"), rows(here / "out")
    for name in names[6:]:
        os.link(os.path.join(os.fsencode(pictures), name), os.path.join(own, name))
    for name in names[:6]:
        # Whoever opened one of these would find that it is no image any more.
        os.unlink(os.path.join(own, name))
        os.mkfifo(os.path.join(own, name))
    said = run("own", "-o", "out/", "--resume")
    assert "2 images in" in said
    assert "6 were there already, in out/" in said
    assert first == parts(here / "out")[:1]
    assert before == [row for row in rows(here / "out") if raw(row).split(b"/")[1] in names[:6]]
    assert {raw(row) for row in rows(here / "out")} == {b"own/" + name for name in names}
    assert len(runs(here / "out")) == 2
    said = run("own", "-o", "out", code=0)
    assert said == "mnv1: out is complete: nothing is left to do\n"
    assert len(runs(here / "out")) == len(parts(here / "out")) == 2


def test_path_that_comes_twice_is_done_once(here: Path) -> None:
    said = run("album/empty.png", "album", "album/broken.jpg", "-o", "out/")
    assert "2 were there already" in said
    paths = [raw(row) for row in rows(here / "out") if row["rank"] in (1, None)]
    assert len(paths) == len(set(paths)) == ALL


def test_other_paths_to_the_same_images_are_other_images(here: Path) -> None:
    run("album", "-o", "out/")
    assert "none was there already" in run("./album", "-o", "out/")
    assert "there already" not in run("album", "-o", "out/", "--force")


def test_listing_that_is_empty_makes_nothing(here: Path) -> None:
    result = mnv1("classify", "-", *BUNDLED, "-o", "out/", stdin=b"")
    assert result.exit_code == 0
    assert result.stderr.startswith("mnv1: 0 images")
    assert not (here / "out").exists()


def test_bad_image_ends_the_run_after_what_is_done(here: Path) -> None:
    before_it = sorted(os.listdir(b"album")).index(b"broken.jpg")
    for _ in range(2):
        said = run("album/", "-o", "out/", "--on-error", "fail", "--batch-size", 2, code=1)
        assert "stopped at album/broken.jpg; --on-error skip goes on after it" in said
        assert len({raw(row) for row in rows(here / "out")}) == before_it
        assert all(row["error"] == "" for row in rows(here / "out"))
        assert not runs(here / "out")
    assert f"{before_it} were there already" in run("album/", "-o", "out/")
    assert len({raw(row) for row in rows(here / "out")}) == ALL


def test_result_to_skip_is_a_dataset_or_goes_with_one(here: Path) -> None:
    run("album/broken.jpg", "album/empty.png", "-o", "bad/")
    said = run("album", "--skip-existing", "bad/", "-o", "good.csv", code=0)
    assert "2 were there already, in good.csv" in said
    said = run("album", "--skip-existing", "good.csv", "-o", "rest/")
    assert "0 images" in said
    assert f"{COUNT} were there already, in rest/" in said
    assert {raw(row) for row in rows(here / "rest")} == {b"album/broken.jpg", b"album/empty.png"}
    said = run("album", "--skip-existing", "bad/", "--append", code=0)
    assert "2 were there already, in bad/" in said
    assert len({raw(row) for row in rows(here / "bad")}) == ALL


def test_file_resumes_only_over_the_dataset_that_it_was_begun_with(here: Path) -> None:
    run("album/broken.jpg", "-o", "bad/")
    arguments = ("album", "--skip-existing", "bad/", "-o", "x.csv", "--batch-size", 1)
    run(*arguments, "--on-error", "fail", code=1)
    assert (here / "x.csv.journal").exists()
    run("album/empty.png", "-o", "bad/")
    said = run(*arguments, "--on-error", "fail", "--resume", code=1)
    assert "x.csv was begun with --skip-existing bad of 1 part," in said


@pytest.fixture(scope="module")
def job() -> Job:
    return Predictor("bundled", Settings(batch_size=4, threads=2)).make_job(Task("classify", top=1))


def sink_into(place: str, job: Job) -> DatasetSink:
    return DatasetSink(Location(place), job.task, OutputOptions())


SHADES = [Image.new("RGB", (16, 16), (shade * 25, 90, 255 - shade * 25)) for shade in range(10)]
NAMES = st.sampled_from([*(b"%d" % i for i in range(8)), b"\xff\xfe", b" \n,'\""])


@settings(max_examples=25, deadline=None)
@given(listings=st.lists(st.lists(NAMES, max_size=12), max_size=4), size=st.integers(1, 9))
def test_every_image_is_there_once_whatever_runs_there_were(
    job: Job, tmp_path_factory: pytest.TempPathFactory, listings: list[list[bytes]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("out")
    done: set[bytes] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_sink, "PART_IMAGES", size)
        for names in listings:
            sink = sink_into(f"{folder}/", job)
            refs = [ImageRef(i, name, SHADES[len(name)]) for i, name in enumerate(names)]
            tally = Tally()
            loop.run(job, refs, sink, tally)
            assert tally.done == len(set(names) - done) == len(images(folder, sink.dataset.run))
            assert sink.skipped == len(names) - tally.done
            done |= set(names)
            assert images(folder) == done
    assert sorted(raw(row) for row in rows(folder)) == sorted(done)


def test_runs_that_write_at_once_do_not_disturb_one_another(job: Job, here: Path) -> None:
    one, other = (sink_into("out/", job) for _ in range(2))
    assert one.dataset.run != other.dataset.run
    halves = [[ImageRef(i, b"%d" % i, SHADES[i]) for i in range(k, 10, 2)] for k in range(2)]
    metadata = job.metadata()
    pairs = zip((one, other), halves, strict=True)
    selected = [sink.dataset.select_missing(half, metadata) for sink, half in pairs]
    loop.run(job, selected[0], one, Tally())
    loop.run(job, selected[1], other, Tally())
    assert len(rows(here / "out")) == 10
    assert len(runs(here / "out")) == len(parts(here / "out")) == 2
    assert len(images(here / "out", one.dataset.run)) == 5
    assert len(images(here / "out", other.dataset.run)) == 5
    assert len(images(here / "out")) == 10


def test_faults_are_told_by_run(here: Path) -> None:
    run("album/broken.jpg", "-o", "out/")
    run("album/empty.png", "album/broken.jpg", "-o", "out/")
    first, last = runs(here / "out")
    assert images(here / "out", first.stem) == {b"album/broken.jpg"}
    assert images(here / "out", last.stem) == {b"album/empty.png"}
    for file, name in ((first, "broken.jpg"), (last, "empty.png")):
        failures = json.loads(file.read_bytes())["failures"]
        assert [failure["path"] for failure in failures] == [f"album/{name}"]
    dataset = Dataset(Location("out"))
    assert dataset.metadata is not None
    assert dataset.metadata.command == "classify"


# --- what a cut leaves ------------------------------------------------------------------

# As the program, with parts of two images; it is killed, or sends itself a signal.
PROGRAM = """
import os, signal, sys
from mnv1cli.results import dataset
from mnv1cli.storage import folder
from mnv1cli.runs import dataset_sink, loop
dataset_sink.PART_IMAGES = 2
left = iter(range({after}))
inner = {name}
def counted(*arguments):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.{how})
    return inner(*arguments)
{name} = counted
from mnv1cli.__main__ import main
sys.argv = ["mnv1", *{arguments!r}]
main()
"""
ARGUMENTS = ["embed", "album", *BUNDLED, "-o", "out/", "--batch-size", "1", "--threads", "1"]


def cut(name: str, after: int, how: str) -> subprocess.CompletedProcess[bytes]:
    code = PROGRAM.format(name=name, after=after, how=how, arguments=ARGUMENTS)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    ("name", "after", "whole"),
    [
        ("loop._take", 1, 0),
        ("folder.os.replace", 0, 0),
        ("folder._sync", 1, 2),
        ("loop._take", 7, 3),
        ("dataset.Dataset.finish", 0, 5),
    ],
)
def test_kill_loses_a_part_at_most_and_the_next_run_goes_on(
    here: Path, name: str, after: int, whole: int
) -> None:
    assert cut(name, after, "SIGKILL").returncode == -signal.SIGKILL
    assert len(parts(here / "out")) == whole
    assert not runs(here / "out")
    there = rows(here / "out") if whole else []
    assert len(there) == 2 * whole
    code = 0 if len(there) == ALL else 3
    said = run(*ARGUMENTS[1:], command="embed", code=code)
    assert "left to do" in said if len(there) == ALL else f"{ALL - 2 * whole - 2} images in" in said
    run("album", "-o", "whole/", command="embed")
    assert rows(here / "out") == rows(here / "whole")


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_signal_keeps_what_is_done_as_a_part(here: Path, how: str) -> None:
    stopped = cut("loop._take", 4, how)
    assert stopped.returncode == 128 + signal.Signals[how]
    assert b"done so far: 5 images, in out/; the same command goes on" in stopped.stderr
    assert [pq.read_metadata(part).num_rows for part in parts(here / "out")] == [2, 2, 1]
    assert not runs(here / "out")
    assert "5 were there already" in run(*ARGUMENTS[1:], command="embed")
    run("album", "-o", "whole/", command="embed")
    assert rows(here / "out") == rows(here / "whole")


def test_signal_at_the_very_end_finds_a_whole_dataset(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Dataset.finish

    def interrupted(self: Dataset, metadata: Any) -> None:
        finish(self, metadata)
        signals.request_stop(KeyboardInterrupt())

    monkeypatch.setattr(Dataset, "finish", interrupted)
    said = run("album", "-o", "out/", code=130)
    assert "done so far" not in said
    assert len(parts(here / "out")) == len(runs(here / "out")) == 1


def test_full_disk_is_told_and_what_was_written_stays(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_sink, "PART_IMAGES", 4)
    full = iter([False])

    def fsync(_descriptor: int) -> None:
        if next(full, True):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr("mnv1cli.storage.folder._sync", lambda _folder: None)
        said = run("album", "-o", "out/", "--batch-size", 1, code=1)
    assert "cannot write out/part-" in said
    assert "No space left on device" in said
    assert "done so far: 4 images, in out/" in said
    assert sorted(os.listdir("out")) == [parts(here / "out")[0].name]
    assert "4 were there already" in run("album", "-o", "out/")


def test_what_was_left_half_written_goes_after_a_day(here: Path) -> None:
    os.mkdir("out")
    young, old = ".part-1-00000.parquet.unfinished", ".part-0-00000.parquet.unfinished"
    for name in (young, old):
        (here / "out" / name).write_bytes(b"PAR1")
    then = time.time() - 25 * 3600
    os.utime(here / "out" / old, (then, then))
    run("album", "-o", "out/")
    assert young in os.listdir("out")
    assert old not in os.listdir("out")


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--wide", "-o", "out/"], 2, "--wide is for csv and tsv"),
        (["-f", "csv", "-o", "out/"], 2, "out/ is a folder: a dataset of Parquet files, not csv"),
        (["-f", "csv", "-o", "nested"], 1, "cannot write nested: it is a folder; name a file"),
        (["-o", "none/out/"], 1, "cannot write none/out/: there is no folder"),
        (["-o", "file/"], 1, "cannot write file/: it is a file"),
        (["-o", "album/"], 1, "album/ is no dataset of mnv1: it has 0-0"),
        (["-o", "nested"], 1, "nested is no dataset of mnv1: it has out"),
        (["-o", "out/", "--force", "--resume"], 2, "--force cannot be used with --resume"),
        (["-o", "out/", "--errors", "file"], 1, "file exists; name another file, or remove it"),
        (["-o", "ftp://x/out/"], 2, "ftp:// is not known"),
        (["-o", "out/", "--skip-existing", "none/"], 2, "no such dataset: none/"),
    ],
)
def test_refused_before_any_work(here: Path, arguments: list[str], code: int, said: str) -> None:
    (here / "file").touch()
    (here / "nested" / "out").mkdir(parents=True)
    heard = run("album/empty.png", *arguments, code=code)
    assert said in heard
    assert "Traceback" not in heard
    assert not (here / "out").exists()


def test_arrays_are_refused(here: Path) -> None:
    said = run("album", "-o", "out/", "--no-pool", command="embed", code=2)
    assert "--no-pool keeps arrays, which a dataset cannot hold" in said


def test_other_settings_are_refused_by_name(here: Path) -> None:
    run("album/empty.png", "-o", "out/", "--top", 2)
    for options, said in (
        (("--top", "3"), "out/ was made with --top 2, not 3; give the same settings"),
        (("--top", "2", "--no-exif"), "out/ was made with --exif True, not False"),
        (("--top", "2", "--with-meta"), "out/ was made with --with-meta False, not True"),
    ):
        assert said in run("album", "-o", "out/", *options, code=1)
    assert "made with command classify" in run("album", "-o", "out/", command="embed", code=1)
    assert len(parts(here / "out")) == 1


def test_force_replaces_the_rows_once_there_are_others(here: Path) -> None:
    run("album", "-o", "out/")
    before = parts(here / "out")
    run("-", "-o", "out/", "--force", code=0, command="embed")
    run("album/none.jpg", "-o", "out/", "--force", command="embed", code=2)
    assert parts(here / "out") == before
    run("album", "-o", "out/", "--force", command="embed")
    assert not set(before) & set(parts(here / "out"))
    assert len(parts(here / "out")) == len(runs(here / "out")) == 1
    assert "values" in rows(here / "out")[0]


def test_what_others_have_written_is_never_taken_for_a_part(here: Path) -> None:
    theirs = here / "out" / "part-00000-0f3c.snappy.parquet"
    theirs.parent.mkdir()
    theirs.write_bytes(b"PAR1")
    for options in ((), ("--force",)):
        said = run("album", "-o", "out/", *options, code=1)
        assert f"out/ is no dataset of mnv1: it has {theirs.name}" in said
    assert os.listdir("out") == [theirs.name]


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_what_failed_is_done_once_more_where_that_is_asked_for(here: Path, command: str) -> None:
    own = album(here / "own")
    arguments = (command, "own", "-o", "again/", *BUNDLED)
    assert mnv1(*arguments).exit_code == 3
    whole = rows(here / "again")
    (own / "broken.jpg").write_bytes(sorted(own.glob("0-*"))[0].read_bytes())
    assert mnv1(*arguments).exit_code == 0
    assert rows(here / "again") == whole
    again = mnv1(*arguments, "--retry-failed")
    assert again.exit_code == 3
    assert f"{COUNT} were there already" in again.stderr
    now = rows(here / "again")
    assert {raw(row) for row in now if row["error"]} == {b"own/empty.png"}
    assert {raw(row) for row in now} == {raw(row) for row in whole}
    good = [row for row in now if raw(row) not in (b"own/broken.jpg", b"own/empty.png")]
    assert [row for row in whole if not row["error"]] == good
    assert len(images(here / "again")) == ALL


def test_who_is_stopped_while_rows_go_finds_the_images_missing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("classify", "album", "-o", "out/", *BUNDLED)
    mnv1(*arguments)
    whole = rows(here / "out")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_take", stop)
        assert mnv1(*arguments, "--retry-failed").exit_code == 130
    assert not any(row["error"] for row in rows(here / "out"))
    assert mnv1(*arguments).exit_code == 3
    assert rows(here / "out") == whole


def test_unfinished_files_of_two_that_write_the_same_part_differ(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_folder(Location("out/"))
    replace = os.replace

    def late(hidden: str, path: str) -> None:
        # The other one, given up by a cluster, writes when this one is about to be done.
        monkeypatch.setattr(os, "replace", replace)
        folder.put("a", b"as long")
        assert Path(hidden).read_bytes() == b"as long"
        replace(hidden, path)

    monkeypatch.setattr(os, "replace", late)
    folder.put("a", b"as long")
    assert os.listdir("out") == ["a"]
    assert Path("out/a").read_bytes() == b"as long"


@pytest.mark.parametrize("runner", ["local", "ray"])
def test_a_folder_that_cannot_be_listed_is_told_by_every_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    if runner == "ray":
        pytest.importorskip("ray")
    (here / "closed").mkdir()

    def walk(top: bytes, images: ImageFilter) -> Iterator[ListedImage]:
        if top == b"closed":
            yield ListedImage(top, "it is closed")
        else:
            yield from walk_folder(top, images)

    monkeypatch.setattr(listing, "walk_folder", walk)
    run("album", "closed", "-o", "out/")
    before = parts(here / "out")
    # Another run must not take it for done: nobody knows what is in it.
    said = run("album", "closed", "-o", "out/", "--runner", runner)
    assert "closed: it is closed" in said
    assert f"1 failed, {ALL} were there already" in said
    assert parts(here / "out") == before


def test_two_that_retry_at_the_same_time_do_not_take_parts_from_each_other(here: Path) -> None:
    run("album/broken.jpg", "-o", "out/")
    run("album", "-o", "out/", code=3)
    one, other = (Dataset(Location("out/"), retry=True) for _ in range(2))
    assert one.metadata is not None
    assert list(one.select_missing([], one.metadata)) == []
    one.begin()
    listed = [ImageRef(i, path) for i, path in enumerate((b"album/broken.jpg", b"none.jpg"))]
    assert list(other.select_missing(listed, one.metadata)) == listed
    other.begin()
    assert len(one.list_parts()) == 2
    assert not any(row["error"] for row in rows(here / "out"))
    assert len(images(here / "out")) == COUNT
    assert run("album", "-o", "out/").endswith("in out/\n")
    assert len(images(here / "out")) == ALL


@pytest.mark.parametrize("runner", ["local", "task"])
def test_what_could_not_be_got_has_no_row_and_is_asked_for_again(
    here: Path, job: Job, runner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away: Any = Away()
    monkeypatch.setattr(task, "_node", str)
    refs = [ImageRef(0, b"album/broken.jpg"), ImageRef(1, b"away.jpg", member=away)]
    sink, tally = sink_into("out/", job), Tally()
    dataset = sink.dataset
    if runner == "task":
        share = Share(0, refs)
        schema = dataset.make_schema(dataset_layout(job.task, job.shape), job.metadata())
        order = Order(
            None, Location(f"{here}/out/"), dataset.run, schema.metadata, str(here), "", {}
        )
        dataset.begin()
        done = task.do_share(share, order, job)
        assert (done.done, len(done.faults)) == (0, 2)
    else:
        loop.run(job, refs, sink, tally)
        assert [fault.reason for fault in tally.faults][1] == "cannot be read: no answer in time"
    assert [raw(row) for row in rows(here / "out")] == [b"album/broken.jpg"]
    left = Dataset(Location("out/")).select_missing(refs, job.metadata())
    assert [ref.path for ref in left] == [b"away.jpg"]


class Away:
    """An image in a store that does not answer."""

    def __call__(self, limit: int) -> bytes:
        raise ImageError("cannot be read: no answer in time")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "out.csv"), "is for datasets"),
        (("-o", "out/", "--force"), "say one of them"),
    ],
)
def test_retry_where_there_is_nothing_to_retry(
    here: Path, options: tuple[str, ...], said: str
) -> None:
    run = mnv1("classify", "album", "--retry-failed", *options, *BUNDLED)
    assert run.exit_code == 2
    assert said in run.stderr


@pytest.mark.parametrize(
    ("dataset", "extras"), [("out/", b"parquet"), ("s3://bucket/out/", b"parquet,s3")]
)
def test_without_pyarrow_the_extra_is_named(here: Path, dataset: str, extras: bytes) -> None:
    code = (
        "import sys\nsys.modules['pyarrow'] = None\n"
        "from mnv1cli.__main__ import main\n"
        f"sys.argv = ['mnv1', 'classify', 'album', '-o', {dataset!r}]\nmain()\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert found.returncode == 2
    assert b"pip install 'mnv1cli[%s]'" % extras in found.stderr


def test_layout_of_a_dataset_has_room_for_every_image() -> None:
    layout = dataset_layout(Task("classify", meta=True), (5,))
    assert (layout.labels, layout.errors, layout.meta, layout.every) == (True,) * 4
    assert not dataset_layout(Task("embed"), (1024,)).labels


@pytest.fixture
def read_only(here: Path) -> Iterator[Path]:
    folder = here / "sealed"
    folder.mkdir()
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_told_before_any_work(read_only: Path) -> None:
    said = run("album", "-o", f"{read_only}/out/", code=1)
    assert "is read-only" in said


def test_python_fills_a_dataset_with_what_is_missing(tmp_path: Path) -> None:
    photos = ROOT / "examples" / "photos"
    classifier = Classifier("bundled")
    one, rest = sorted(photos.iterdir())[0], photos
    assert classifier.fill(one, tmp_path / "labels").done == 1
    assert classifier.fill(rest, f"{tmp_path}/labels/").done == len(list(photos.iterdir())) - 1
    assert classifier.fill(rest, tmp_path / "labels").done == 0
    vectors = Task("embed")
    assert classifier.fill(rest, tmp_path / "vectors", vectors).done == 3
    with pytest.raises(OptionError, match="runner='spark'"):
        classifier.fill(rest, tmp_path / "labels", runner="spark")  # type: ignore[arg-type]
