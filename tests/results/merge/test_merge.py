"""Shards put together are what one run would have written; what does not fit is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.analysis import synthetic_photos
from mnv1cli.errors import Mnv1Error, OptionError, OutputError, ResultError
from mnv1cli.inputs.shards import Shard
from mnv1cli.results.merge import merge
from tests.conftest import ROOT
from tests.support.parted import Run, error_of, is_unlabelled, metadata, rows
from tests.support.shell import mnv1, peak_megabytes

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS, VECTORS = (
    ("csv", "tsv", "jsonl", "parquet"),
    ("csv", "tsv", "jsonl", "npy", "npz", "parquet"),
)
# Spaces, quotes, line ends, bytes that are no text, one twice in a row and one far from itself.
NASTY = [
    b"a b.jpg", b'q"uo\'te.jpg', b"new\nline.jpg", b"caf\xe9.jpg", b"tab\t,.jpg", b"\r.jpg",
    "\N{SNOWMAN}.jpg".encode(), b"twice.jpg", b"twice.jpg", *(b"%d.png" % i for i in range(30)),
    b"a b.jpg", b"\xff\xfe", b"5.png",
]  # fmt: skip
ACCIDENTS = [Run(on_error="skip"), Run(on_error="row"), Run(min_probability=0.7),
             Run(on_error="row", min_probability=0.9), Run(meta=True),
             Run(meta=True, on_error="row", min_probability=0.8)]  # fmt: skip


def same(one: Path, other: Path) -> None:
    """Both results are equal, and tell the same."""
    assert rows(one) == rows(other)
    assert metadata(one) == metadata(other)
    assert list(metadata(one)) == list(metadata(other))


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("run", ACCIDENTS, ids=str)
def test_shards_of_labels_make_the_whole(tmp_path: Path, kind: str, run: Run) -> None:
    whole = run.write(tmp_path / f"whole.{kind}", NASTY)
    parts = run.shards(tmp_path, 8, NASTY, kind)
    done = merge.merge(parts[::-1], tmp_path / f"merged.{kind}")
    same(tmp_path / f"merged.{kind}", whole)
    failed = sum(bool(error_of(path)) for path in NASTY)
    assert (done.done, done.failed, done.parts) == (len(NASTY) - failed, failed, 8)
    left = {path.name for path in tmp_path.iterdir()}
    assert not {name for name in left if name.endswith((".part", ".journal", ".rows"))}


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@pytest.mark.parametrize("on_error", ["skip", "row"])
def test_wide_shards_make_the_whole(tmp_path: Path, kind: str, on_error: str) -> None:
    run = Run(wide=True, on_error=on_error, min_probability=0.8, meta=kind == "tsv")
    whole = run.write(tmp_path / f"whole.{kind}", NASTY)
    merge.merge(run.shards(tmp_path, 5, NASTY, kind), tmp_path / f"merged.{kind}")
    same(tmp_path / f"merged.{kind}", whole)


@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize("on_error", ["skip", "row"])
def test_shards_of_vectors_make_the_whole(tmp_path: Path, kind: str, on_error: str) -> None:
    run = Run("embed", on_error)
    whole = run.write(tmp_path / f"whole.{kind}", NASTY)
    merge.merge(run.shards(tmp_path, 8, NASTY, kind), tmp_path / f"merged.{kind}")
    same(tmp_path / f"merged.{kind}", whole)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_shards_of_arrays_make_the_whole(tmp_path: Path, kind: str) -> None:
    run = Run("embed", "row", pool=False)
    whole = run.write(tmp_path / f"whole.{kind}", NASTY)
    merge.merge(run.shards(tmp_path, 3, NASTY, kind), tmp_path / f"merged.{kind}")
    same(tmp_path / f"merged.{kind}", whole)


@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_shards_of_hardly_any_images_make_the_whole(tmp_path: Path, kind: str, count: int) -> None:
    run = Run("logits")
    whole = run.write(tmp_path / f"whole.{kind}", NASTY[:count])
    merge.merge(run.shards(tmp_path, 4, NASTY[:count], kind), tmp_path / f"merged.{kind}")
    same(tmp_path / f"merged.{kind}", whole)


names = st.lists(st.sampled_from([b"a", b"\n", b'"', b",", b"\xff", b"\t", b"\r", b"0"]),
                 min_size=1, max_size=3).map(b"".join)  # fmt: skip
runs = st.builds(
    Run,
    command=st.just("classify"),
    on_error=st.sampled_from(["skip", "row"]),
    min_probability=st.sampled_from([0.0, 0.9]),
    meta=st.booleans(),
) | st.builds(Run, command=st.just("embed"), on_error=st.sampled_from(["skip", "row"]))


@settings(max_examples=60, deadline=None)
@given(run=runs, paths=st.lists(names, max_size=12), count=st.integers(1, 4), data=st.data())
def test_any_sharding_of_any_listing_makes_the_whole(
    run: Run, paths: list[bytes], count: int, data: Any
) -> None:
    formats = LABELS if run.command == "classify" else VECTORS
    kinds = [data.draw(st.sampled_from(formats)) for _ in range(count)]
    kind = data.draw(st.sampled_from(formats))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whole = run.write(folder / f"whole.{kind}", paths)
        parts = data.draw(st.permutations(run.shards(folder, count, paths, *kinds)))
        out = folder / f"merged.{kind}"
        why = what_is_lacking(run, paths, kinds, kind)
        if why:
            with pytest.raises(OptionError, match=why):
                merge.merge(parts, out)
        else:
            merge.merge(parts, out)
            same(out, whole)


def what_is_lacking(run: Run, paths: list[bytes], kinds: list[str], kind: str) -> str:
    """What the parts do not hold and the whole would."""
    if kind == "jsonl":
        lost = (p for p in paths if kinds[number_of(p, len(kinds))] != "jsonl")
        return "without a label" if any(is_unlabelled(p, run) for p in lost) else ""
    unknown = run.command == "embed" and set(kinds) == {"jsonl"}
    return "how many values" if unknown and all(map(error_of, paths)) else ""


def number_of(path: bytes, count: int) -> int:
    """The shard of an image, as any other program would find it."""
    return int(hashlib.sha256(path).hexdigest()[:16], 16) % count


def test_parts_of_different_formats_make_any(tmp_path: Path) -> None:
    run = Run("embed")
    parts = run.shards(tmp_path, 6, NASTY, *VECTORS)
    for kind in VECTORS:
        merge.merge(parts, tmp_path / f"merged.{kind}")
        same(tmp_path / f"merged.{kind}", run.write(tmp_path / f"whole.{kind}", NASTY))


def test_wide_parts_make_wide_ones_alone(tmp_path: Path) -> None:
    long, wide = Run(), Run(wide=True)
    parts = [
        long.write(tmp_path / "0.jsonl", NASTY, Shard(0, 2)),
        wide.write(tmp_path / "1.csv", NASTY, Shard(1, 2)),
    ]
    merge.merge(parts, tmp_path / "merged.tsv")
    same(tmp_path / "merged.tsv", wide.write(tmp_path / "whole.tsv", NASTY))
    with pytest.raises(OptionError, match=r"1\.csv was made with --wide.*use csv or tsv"):
        merge.merge(parts, tmp_path / "merged.jsonl")


def test_images_without_a_label_are_not_lost_silently(tmp_path: Path) -> None:
    run = Run(min_probability=0.9)
    for parts in (
        run.shards(tmp_path, 2, NASTY, "csv"),
        [run.write(tmp_path / "all.csv", NASTY)],
    ):
        with pytest.raises(OptionError, match="does not name its images without a label"):
            merge.merge(parts, tmp_path / "merged.jsonl")
        merge.merge(parts, tmp_path / "merged.parquet", force=True)
    same(tmp_path / "merged.parquet", run.write(tmp_path / "whole.parquet", NASTY))


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Four shards of labels."""
    return Run().shards(tmp_path, 4, NASTY, "csv")


def refused(parts: Sequence[Path], match: str, kind: type[Mnv1Error] = ResultError) -> None:
    """No result comes of it, and nothing is left of one."""
    folder = parts[0].parent
    before = sorted(folder.iterdir())
    with pytest.raises(kind, match=match):
        merge.merge(parts, folder / "refused.csv")
    assert sorted(folder.iterdir()) == before


def change(part: Path, **members: Any) -> None:
    """Change the metadata of a part, or those of its shard."""
    file = part.with_name(part.name + ".meta.json")
    told = json.loads(file.read_text("utf-8"))
    for name, value in members.items():
        (told["shard"] if name in told["shard"] else told)[name] = value
    file.write_text(json.dumps(told))


def shard_of(part: Path) -> Any:
    return json.loads(part.with_name(part.name + ".meta.json").read_text("utf-8"))["shard"]


def test_missing_shards_are_named(parts: list[Path]) -> None:
    refused(parts[:3], r"^shard 3 of 4 is missing$")
    refused(parts[2:3], r"^shards 0, 1 and 3 of 4 are missing$")
    many = Run().write(parts[0].parent / "many.csv", NASTY, Shard(5, 100))
    refused([many], r"^shards 0, 1, 2 and 96 more of 100 are missing$")


def test_shard_that_is_there_twice_is_named(parts: list[Path]) -> None:
    copy = Run().write(parts[0].parent / "copy.jsonl", NASTY, Shard(2, 4))
    refused([*parts, copy], r"2\.csv and .*copy\.jsonl are both shard 2 of 4")
    refused([*parts, parts[1]], r"1\.csv is named twice", OptionError)


def test_shards_of_other_numbers_and_listings_are_named(parts: list[Path]) -> None:
    eighth = Run().write(parts[0].parent / "eighth.csv", NASTY, Shard(1, 8))
    refused([*parts, eighth], r"0\.csv is one of 4 shards, .*eighth\.csv of 8")
    more = Run().write(parts[0].parent / "more.csv", [*NASTY, b"one more"], Shard(3, 4))
    refused([*parts[:3], more], rf"is of a listing of {len(NASTY)} images, .*more.csv of 43")


def test_images_that_no_shard_has_or_two_have_are_named(tmp_path: Path) -> None:
    run = Run("embed", "row")
    shard = Shard(0, 2)
    mine = [path for path in NASTY if shard.contains(path)]
    other = [path for path in NASTY if not shard.contains(path)]
    one = run.write(tmp_path / "0.csv", [*mine, *other], shard)
    fewer = run.write(tmp_path / "1.csv", [*mine, b"0", *other[:-1]], Shard(1, 2))
    rows = len(shard_of(one)["rows"]) + len(shard_of(fewer)["rows"])
    assert rows == len(NASTY) - shard.contains(b"0")
    if shard.contains(b"0"):
        refused([one, fewer], f"no shard has image {len(mine)} of {len(NASTY)}")
    turned = run.write(tmp_path / "2.csv", [*other, *mine], Shard(1, 2))
    refused([one, turned], r"0\.csv and .*2\.csv both have image 0; make all shards from")


def test_shard_and_whole_do_not_mix(parts: list[Path]) -> None:
    whole = Run().write(parts[0].parent / "whole.csv", NASTY)
    refused([*parts, whole], r"0\.csv is a shard and .*whole\.csv is none")


def test_other_settings_are_named(parts: list[Path]) -> None:
    other = Run(min_probability=0.5).write(parts[0].parent / "other.csv", NASTY, Shard(3, 4))
    first = parts[:3]
    refused([*first, other], r"other\.csv was made with --min-probability 0\.5, .*0\.csv with 0\.0")
    other = Run("embed").write(parts[0].parent / "vectors.csv", NASTY, Shard(3, 4))
    refused([*first, other], r"vectors\.csv was made with command embed, .*0\.csv with classify")
    other = Run(on_error="row").write(parts[0].parent / "row.csv", NASTY, Shard(3, 4))
    refused([*first, other], r"row\.csv was made with --on-error row, .*0\.csv without")
    change(parts[3], module={"handle": "x", "fingerprint": "1" * 64, "image_size": 128})
    refused(parts, r"3\.csv was made with module x, .*0\.csv with made up")
    change(parts[3], module={"handle": "made up", "fingerprint": "1" * 64, "image_size": 128})
    refused(parts, r"3\.csv was made with another version of module made up than .*0\.csv")


def test_rows_that_are_gone_added_or_moved_are_noticed(parts: list[Path]) -> None:
    data = parts[1].read_bytes()
    images = data.split(b"\n", 4)
    parts[1].write_bytes(b"\n".join([images[0], images[4]]))
    count = len(shard_of(parts[1])["rows"])
    refused(parts, rf"1\.csv has {count - 1} images with rows, and its metadata count {count}")
    parts[1].write_bytes(data + b"\n".join(images[1:4]) + b"\n")
    refused(parts, rf"1\.csv has more than {count} images with rows")
    parts[1].write_bytes(b"\n".join([images[0], *images[4:]]) + b"\n".join(images[1:4]) + b"\n")
    refused(parts, r"the rows of .*1\.csv are not in the order of the run")
    shutil.copy(parts[0], parts[1])
    refused(parts, r"1\.csv has a row of .*, which is not in shard 1/4; make it again with --force")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_labels_that_are_gone_are_noticed(parts: list[Path], rank: int) -> None:
    lines = parts[1].read_bytes().splitlines(keepends=True)
    parts[1].write_bytes(b"".join(lines[:rank] + lines[rank + 1 :]))
    refused(parts, r"1\.csv lacks labels of .*; make it again with --force")


@pytest.mark.parametrize(
    "members",
    [
        {"rows": [0, 0]}, {"rows": [-1]}, {"rows": ["0"]}, {"rows": [1 << 70]}, {"rows": None},
        {"failures": [0.5]}, {"index": 4}, {"count": "x"}, {"total": "1"}, {"total": 1},
        {"paths": 7}, {"shard": []}, {"shard": 3}, {"failures": {}}, {"counts": None},
        {"seconds": "long"}, {"counts": {"done": 1}}, {"command": "similar"},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_metadata_are_refused(parts: list[Path], members: Any) -> None:
    change(parts[0], **members)
    refused(parts[:1], r"the metadata of .*0\.csv are (damaged|not those of its rows)")


def test_part_without_metadata_is_refused(parts: list[Path]) -> None:
    (parts[2].parent / "2.csv.meta.json").unlink()
    refused(parts, r"2\.csv has no metadata; put 2\.csv\.meta\.json back beside it")


def test_results_of_different_images_come_one_behind_the_other(tmp_path: Path) -> None:
    run = Run("embed", "row")
    one = run.write(tmp_path / "one.npy", NASTY[:20])
    other = run.write(tmp_path / "other.jsonl", [b"new 1", b"new 2", b"new 3"])
    merge.merge([one, other], tmp_path / "merged.csv")
    whole = run.write(tmp_path / "whole.csv", [*NASTY[:20], b"new 1", b"new 2", b"new 3"])
    same(tmp_path / "merged.csv", whole)
    refused([one, other, run.write(tmp_path / "x.csv", [b"x", b"new 2"])],
            r"new 2 is in .*other\.jsonl and in .*x\.csv")  # fmt: skip


def test_image_that_failed_and_was_done_later_is_done(tmp_path: Path) -> None:
    run, bad = Run(), next(path for path in NASTY if error_of(path))
    good = next(path for path in NASTY if not error_of(path))
    one = run.write(tmp_path / "one.csv", [bad, b"1.jpg"])
    again = run.write(tmp_path / "again.csv", [bad, b"2.jpg"])
    done = merge.merge([one, again], tmp_path / "merged.csv")
    fails = sum(bool(error_of(path)) for path in (b"1.jpg", b"2.jpg"))
    assert done.failed == fails + 1
    mended = tmp_path / "again.csv.meta.json"
    told = json.loads(mended.read_text())
    row = run.write(tmp_path / "row.csv", [good])
    again.write_bytes(row.read_bytes().replace(good, bad))
    told |= {"failures": [], "counts": {"done": 1, "failed": 0}}
    mended.write_text(json.dumps(told))
    done = merge.merge([one, again], tmp_path / "merged.csv", force=True)
    assert done.failed == fails - bool(error_of(b"2.jpg"))
    refused([again, one], r"is in .*again\.csv and in .*one\.csv")


def test_rows_that_left_a_whole_result_are_noticed(tmp_path: Path) -> None:
    one = Run().write(tmp_path / "one.csv", NASTY)
    lines = one.read_bytes().splitlines(keepends=True)
    one.write_bytes(b"".join(lines[:-3]))
    refused([one], "images with rows, and its metadata count")


def test_what_is_there_is_not_replaced(parts: list[Path]) -> None:
    out = parts[0].parent / "merged.csv"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists; add --force"):
        merge.merge(parts, out)
    assert out.read_text() == "mine"
    merge.merge(parts, out, force=True)
    for taken in (parts[2], Path(f"{parts[2]}.meta.json")):
        with pytest.raises(OptionError, match="is read, and cannot be written"):
            merge.merge(parts, taken, "csv", force=True)
    with pytest.raises(OptionError, match="is the name of an image"):
        merge.merge(parts, parts[0].parent / "x.jpg", "csv")
    with pytest.raises(OptionError, match="npy holds numbers"):
        merge.merge(parts, parts[0].parent / "x.npy")


def test_index_that_lies_beside_another_part_is_no_hindrance(tmp_path: Path) -> None:
    run = Run("embed")
    parts = run.shards(tmp_path, 2, NASTY, "csv")
    merge.merge([os.fspath(part) for part in parts], os.fspath(tmp_path / "0.npy"))
    assert rows(tmp_path / "0.npy") == rows(run.write(tmp_path / "whole.npy", NASTY))


def test_full_disk_leaves_nothing(parts: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mnv1cli.results.writers.delimited.CsvWriter.write", full)
    refused(parts, r"cannot write .*refused\.csv: No space left on device", OutputError)


MEMORY = """
import sys
from pathlib import Path
from mnv1cli.results.merge.merge import merge
out = Path(sys.argv[1], "merged.npy")
merge(sorted(Path(sys.argv[1]).glob("[0-9]*.npy")), out)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    used = []
    for size in (1_000, 30_000):
        folder = tmp_path / str(size)
        folder.mkdir()
        Run("embed").shards(folder, 4, [b"%d" % i for i in range(size)], "npy")
        used.append(peak_megabytes(MEMORY, folder))
    assert used[1] < used[0] + 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures under names that trip up scripts, one of them broken."""
    folder = tmp_path_factory.mktemp("my pictures")
    synthetic_photos.write_pictures(folder, 20, 40, 30)
    for number, path in enumerate(sorted(folder.iterdir())[:6]):
        os.rename(path, os.fsencode(folder) + b"/" + [b"a\n.jpg", b"b'c.jpg", b"\xff.jpg",
                  b'd".jpg', b" e.jpg", b"-f.jpg"][number])  # fmt: skip
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.mark.usefixtures("bundled_module")
def test_shards_run_by_xargs_make_what_one_run_writes(folder: Path, tmp_path: Path) -> None:
    mnv1("classify", folder, "--module", "bundled", "-q", "-o", tmp_path / "whole.csv")
    command = (
        'seq 0 3 | xargs -P 2 -I{} "$1" -m mnv1cli classify "$2" --module bundled -q '
        "--shard {}/4 -o {}.csv; echo $?"
    )
    words = ["sh", "-c", command, "sh", sys.executable, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    # What xargs says when one of its commands ends with 3.
    assert run.stdout == "123\n", run.stderr
    merged = tmp_path / "merged.csv"
    result = mnv1("merge", *sorted(tmp_path.glob("[0-3].csv")), "-o", merged)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"mnv1: 20 images of 4 results, 1 failed, in {merged}" in result.stderr
    same(merged, tmp_path / "whole.csv")


def test_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    assert mnv1("merge", "-o", tmp_path / "x.csv").exit_code == 2
    result = mnv1("merge", tmp_path / "none.csv", "-o", tmp_path / "x.csv")
    assert result.exit_code == 2
    assert result.stderr == f"mnv1: error: no such file: {tmp_path / 'none.csv'}\n"
    result = mnv1("merge", tmp_path / "none.csv", "-o", "-")
    assert (result.exit_code, "merge cannot write to stdout" in result.stderr) == (2, True)
