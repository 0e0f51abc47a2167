"""--shard: every image in exactly one part, whatever else is listed, and what the parts tell."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.analysis import synthetic_photos
from mnv1cli.errors import OptionError
from mnv1cli.inputs.shards import Shard, ShardSelection
from mnv1cli.results.merge import merge
from mnv1cli.types import ImageRef
from tests.runs.test_resume import Cut, cut_at
from tests.support import parted
from tests.support.shell import mnv1, rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COUNT = 3


def number_of(path: bytes, count: int) -> int:
    """The shard of an image, as any other program would find it."""
    return int(hashlib.sha256(path).hexdigest()[:16], 16) % count


@given(path=st.binary(), count=st.integers(1, 1000))
def test_image_is_in_the_shard_that_its_path_says(path: bytes, count: int) -> None:
    mine = number_of(path, count)
    assert Shard(mine, count).contains(path)
    assert count == 1 or not Shard((mine + 1) % count, count).contains(path)


@pytest.mark.parametrize(("path", "number"), [(b"a.jpg", 2), (b"b.jpg", 2), (b"", 4)])
def test_known_image_stays_in_its_shard(path: bytes, number: int) -> None:
    # Machines with other versions take part: this must never change.
    assert [index for index in range(8) if Shard(index, 8).contains(path)] == [number]


@given(paths=st.lists(st.binary(max_size=2)), count=st.integers(1, 5))
def test_shards_part_a_listing(paths: list[bytes], count: int) -> None:
    places: dict[int, bytes] = {}
    for index in range(count):
        part = ShardSelection(Shard(index, count))
        found = [ref.path for ref in part.select(ImageRef(i, p) for i, p in enumerate(paths))]
        assert part.total == len(paths)
        assert not places.keys() & set(part.positions)
        places |= zip(part.positions, found, strict=True)
    assert [places[i] for i in range(len(paths))] == paths


NO_SHARDS = [
    "8/8", "9/8", "x", "0/0", "1", "-1/8", "1/-8", "0/8/8", "", "1.0/8", " 1/8", "1/8\n",
    "\N{SUPERSCRIPT TWO}/8", "1/" + "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", NO_SHARDS)
def test_what_is_no_shard_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        Shard.parse(text)
    result = mnv1("classify", "examples", "--shard", text, "-o", tmp_path / "x.csv")
    assert result.exit_code == 2
    assert "Invalid value for '--shard'" in result.stderr
    assert not list(tmp_path.iterdir())


def test_zeros_before_a_number_are_a_scheduler_s() -> None:
    assert Shard.parse("03/08") == Shard(3, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, a broken one, and a folder below."""
    folder = tmp_path_factory.mktemp("pictures")
    synthetic_photos.write_pictures(folder, 12, 40, 30)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "below").mkdir()
    shutil.move(sorted(folder.glob("*.jpg"))[3], folder / "below")
    return folder


def run(*inputs: object, command: str = "classify") -> Any:
    return mnv1(command, "--module", "bundled", "-q", *inputs)


def listed(folder: Path) -> list[bytes]:
    """What is in the folder, in the order of a run."""
    names = [os.fsencode(path) for path in folder.rglob("*.jpg")]
    return sorted(names, key=lambda name: name.split(b"/"))


@pytest.mark.parametrize("kind", ["csv", "npy", "npz", "parquet"])
@pytest.mark.parametrize("on_error", ["skip", "row"])
def test_metadata_say_where_each_row_stands(
    folder: Path, tmp_path: Path, kind: str, on_error: str
) -> None:
    paths = listed(folder)
    for index in range(COUNT):
        out, manifest = tmp_path / f"{index}.{kind}", tmp_path / f"{index}.json"
        result = run(
            folder, "--shard", f"{index}/{COUNT}", "-o", out, "--on-error", on_error,
            "--manifest", manifest, command="logits",
        )  # fmt: skip
        mine = [i for i, path in enumerate(paths) if number_of(path, COUNT) == index]
        broken = [i for i in mine if b"broken" in paths[i]]
        assert result.exit_code == (3 if broken else 0)
        told = parted.metadata(out)
        shard = told["shard"]
        assert told["counts"] == {"done": len(mine) - len(broken), "failed": len(broken)}
        assert shard.pop("paths")
        assert shard == {
            "index": index,
            "count": COUNT,
            "total": len(paths),
            "on_error": on_error,
            "rows": [i for i in mine if on_error == "row" or i not in broken],
            "failures": broken,
            "unlabelled": [],
        }
        assert len(manifest.read_text().splitlines()) == 1
        assert json.loads(manifest.read_text())["shard"]["rows"] == shard["rows"]


def test_images_without_a_label_are_named_where_they_have_no_row(
    folder: Path, tmp_path: Path
) -> None:
    for kind in ("csv", "jsonl"):
        out = tmp_path / f"x.{kind}"
        run(folder, "--shard", "0/1", "-o", out, "--min-probability", 0.9999, "--top", 1)
        shard = parted.metadata(out)["shard"]
        total = range(13)
        assert shard["unlabelled"]
        lacking = set(shard["failures"]) | (set(shard["unlabelled"]) if kind == "csv" else set())
        assert shard["rows"] == [i for i in total if i not in lacking]


def test_shard_without_images_is_an_empty_result(folder: Path, tmp_path: Path) -> None:
    (one,) = (folder / "below").iterdir()
    other, out = 1 - number_of(os.fsencode(one), 2), tmp_path / "x.csv"
    assert run(one, "--shard", f"{other}/2", "-o", out).exit_code == 0
    assert out.read_bytes() == b"path,rank,class_id,wnid,label,probability\n"
    assert parted.metadata(out)["shard"]["total"] == 1


def test_folder_without_any_image_is_an_error_still(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "empty", "--shard", "0/2", "-o", tmp_path / "x.csv")
    assert result.exit_code == 1
    assert "no images in" in result.stderr


def test_same_file_twice_is_in_one_shard_twice(folder: Path, tmp_path: Path) -> None:
    (one,) = (folder / "below").iterdir()
    mine, out = number_of(os.fsencode(one), 5), tmp_path / "x.csv"
    run(one, folder, one, "--shard", f"{mine}/5", "-o", out, "--top", 1)
    positions = parted.metadata(out)["shard"]["rows"]
    assert (positions[0], positions[-1]) == (0, 14)
    assert [row["path"] for row in rows(out.read_bytes())].count(str(one)) == 3


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ((), "--shard needs a file, for its metadata; name it with -o"),
        (("-o", "-"), "--shard needs a file"),
        (("-o", "x.csv", "--skip-existing", "y.csv"), "--skip-existing and --append make"),
        (("-o", "x.csv", "--append"), "--skip-existing and --append make"),
        (("-o", "x.txt", "-f", "table"), "a table cannot be put together again"),
    ],
)
def test_what_does_not_go_with_a_shard_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Iterable[str], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(folder, "--shard", "0/2", *more)
    assert (result.exit_code, result.stdout) == (2, "")
    assert match in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["csv", "npz"])
@pytest.mark.parametrize("checkpoints", [1, 3])
@pytest.mark.parametrize("on_error", ["skip", "row"])
def test_shard_that_was_cut_goes_on(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    checkpoints: int,
    on_error: str,
) -> None:
    command = "logits" if kind == "npz" else "classify"
    more: list[object] = [folder, "--on-error", on_error, "--batch-size", 1]
    more += ["--min-probability", 0.9] if kind == "csv" else []
    for index in range(2):
        out = tmp_path / f"{index}.{kind}"
        shard = ("--shard", f"{index}/2", "-o", out)
        with monkeypatch.context() as patch:
            cut_at(patch, checkpoints)
            with pytest.raises(Cut):
                run(*more, *shard, command=command)
        assert not out.exists()
        other = run(*more, "--resume", "--shard", "0/3", "-o", out, command=command)
        assert f"was begun with --shard {index}/2, not 0/3" in other.stderr
        assert run(*more, "--resume", *shard, command=command).exit_code in (0, 3)
    whole, merged = tmp_path / f"whole.{kind}", tmp_path / f"merged.{kind}"
    run(*more, "-o", whole, command=command)
    merge.merge([tmp_path / f"{i}.{kind}" for i in range(2)], merged)
    assert parted.rows(merged) == parted.rows(whole)
    assert parted.metadata(merged) == parted.metadata(whole)


def test_complete_shard_is_done_unless_the_listing_is_another(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    for more in ((), ("--min-probability", 0.9)):
        words = (folder, "-o", out, *more)
        run(*words, "--shard", "0/2", "--force")
        before = out.stat().st_mtime_ns
        assert run(*words, "--shard", "0/2", "--resume").exit_code == 0
        assert out.stat().st_mtime_ns == before
        result = run(*words, "--shard", "1/2", "--resume")
        assert result.exit_code == 1
        assert "is complete, and" in result.stderr
        result = run(folder / "broken.jpg", *words, "--shard", "0/2", "--resume")
        assert result.exit_code == 1
        assert "of another listing than that of 14 images" in result.stderr
    run(folder, "-o", out, "--force")
    result = run(folder, "-o", out, "--shard", "0/2", "--resume")
    assert "is complete, and is not shard 0/2" in result.stderr


def test_shard_that_others_are_added_to_is_no_shard_any_more(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    run(folder, "-o", out, "--shard", "0/2")
    run(folder, "--skip-existing", out, "--append")
    assert "shard" not in parted.metadata(out)
    assert {os.fsencode(row["path"]) for row in rows(out.read_bytes())} == {
        path for path in listed(folder) if b"broken" not in path
    }


@pytest.mark.parametrize("shard", [None, [], {"index": 0, "count": 2, "total": 13, "rows": 7}])
def test_complete_shard_with_damaged_metadata_is_told(
    folder: Path, tmp_path: Path, shard: Any
) -> None:
    out = tmp_path / "x.csv"
    run(folder, "-o", out, "--shard", "0/2")
    file = tmp_path / "x.csv.meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "shard": shard}))
    result = run(folder, "-o", out, "--shard", "0/2", "--resume")
    assert result.exit_code == 1
    assert "is complete, and" in result.stderr


def test_part_of_the_images_is_evaluated(folder: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    names = [path for path in listed(folder) if b"broken" not in path]
    truth.write_bytes(b"path,label\n" + b"".join(b"%s,tabby\n" % name for name in names))
    for inputs in ((), (folder,)):
        counts = []
        for index in range(2):
            more = ("--truth", truth, "--json", "--shard", f"{index}/2")
            result = run(*inputs, *more, command="evaluate")
            counts.append(json.loads(result.stdout)["n"])
        assert counts == [sum(number_of(name, 2) == i for name in names) for i in range(2)]
    run(folder, "-o", tmp_path / "x.csv")
    result = run("--from", tmp_path / "x.csv", "--shard", "0/2", command="evaluate")
    assert result.exit_code == 2
    assert "--shard cannot be used with --from" in result.stderr
