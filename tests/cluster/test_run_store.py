"""A bucket through both runners: the rows of the same files on disk, put back into the bucket."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from mnv1cli.results.readers import open_result
from mnv1cli.storage.location import Location
from tests.conftest import ROOT
from tests.support import images
from tests.support.objectstore import object_store
from tests.support.shell import program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.objectstore import ObjectStore

pytest.importorskip("ray")
__all__ = ["object_store"]

# More than a page of a listing has.
IMAGES = 1_100
OPTIONS = ("--module", "bundled", "--threads", 2, "--top", 2)
# What is no image, or none any more, by its key.
FAULTS = {
    "a/cut.jpg": images.encode(Image.new("RGB", (200, 150)), "JPEG")[:400],
    "b/empty.png": b"",
    "none + 100% #1?.webp": b"no picture",
}


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images on disk: small ones, each in several folders."""
    root = tmp_path_factory.mktemp("photos")
    various = [
        images.encode(Image.fromarray(images.noise(40, 50, seed)), "JPEG") for seed in range(50)
    ]
    names = (f"{letter}/{i // 50}/ü {i:03}.jpg" for letter in "ab" for i in range(IMAGES // 2))
    pictures = dict(zip(names, itertools.cycle(various), strict=False))
    for name, data in {**pictures, **FAULTS}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture(scope="module")
def bucket(folder: Path, object_store: ObjectStore) -> str:
    """The same in a bucket, below a prefix."""
    name = object_store.bucket("photos")

    def put(path: Path) -> None:
        key = f"album/{path.relative_to(folder)}"
        object_store.put(name, {key: path.read_bytes()})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, [path for path in folder.rglob("*") if path.is_file()]))
    return f"s3://{name}/album"


def found(place: str, root: str) -> dict[str, Any]:
    """Each image's labels and error, by its path below `root`; none comes twice."""
    rows: dict[str, Any] = {}
    for table in open_result(Location(place)).tables():
        for path, error, labels in zip(table.paths, table.errors, table.predictions, strict=True):
            name = os.fsdecode(path).removeprefix(f"{root}/")
            assert name not in rows
            rows[name] = (error, labels)
    return rows


def test_both_runners_give_the_rows_of_the_files_on_disk(
    folder: Path, bucket: str, object_store: ObjectStore, tmp_path: Path
) -> None:
    disk = program("classify", folder, "-o", f"{tmp_path}/disk/", *OPTIONS)
    assert disk.returncode == 3, disk.stderr.decode()
    rows = found(f"{tmp_path}/disk/", str(folder))
    assert len(rows) == IMAGES + len(FAULTS)
    assert {name for name, (error, _) in rows.items() if error} == set(FAULTS)
    for runner in ("local", "ray"):
        out = f"{bucket}-{runner}/"
        arguments = ("classify", bucket, "--runner", runner, "-o", out, *OPTIONS)
        run = program(*arguments)
        assert run.returncode == 3, run.stderr.decode()
        assert f"{IMAGES:,} images in" in run.stderr.decode()
        assert found(out, bucket) == rows
        # Nobody needs the images any more: only what is new is read.
        before = object_store.keys("photos")
        object_store.put("photos", {"album/a/0/ü 000.jpg": b"a fault, if anybody looks"})
        again = program(*arguments)
        assert again.returncode == 0, again.stderr.decode()
        assert "nothing is left to do" in again.stderr.decode()
        assert object_store.keys("photos") == before
        object_store.put("photos", {"album/a/0/ü 000.jpg": (folder / "a/0/ü 000.jpg").read_bytes()})
