"""The stores of three clouds, used in the same way: inputs, faults, results and datasets."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import ImageError
from mnv1cli.inputs.listing import InputOptions, Listing
from mnv1cli.storage.base import ExistsError
from mnv1cli.storage.stores import RemoteImage, open_bucket
from tests.conftest import ROOT
from tests.support import azurite, googlestore, objectstore
from tests.support.shell import mnv1, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.storage.base import Bucket

PHOTOS = ROOT / "examples" / "photos"
COFFEE = (PHOTOS / "coffee.jpg").read_bytes()
ODD = "photos/sub/100 %25 + #1?é.jpg"
PLAIN = ("--module", "bundled", "--top", 1, "-f", "csv", "--wide")


@pytest.fixture(scope="module", params=["s3", "gs", "az"])
def scheme(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A scheme whose store runs on this machine, with the empty bucket `bucket`."""
    with ExitStack() as stack:
        if request.param == "s3":
            stack.enter_context(objectstore.serving()).bucket("bucket")
        elif request.param == "gs":
            stack.enter_context(googlestore.serving()).buckets["bucket"] = {}
        else:
            folder = tmp_path_factory.mktemp("azurite")
            stack.enter_context(azurite.serving(folder, "bucket"))
        yield request.param


@pytest.fixture(scope="module")
def bucket(scheme: str) -> Bucket:
    """The bucket with some photos."""
    store = open_bucket(scheme)
    files = {"photos/a.jpg": COFFEE, "photos/empty.jpg": b"", ODD: COFFEE, "photos2/b.jpg": COFFEE}
    for key, data in files.items():
        store.write(f"{scheme}://bucket/{key}".encode(), data)
    return store


@pytest.mark.parametrize(
    ("name", "recursive", "keys"),
    [
        ("photos", True, ["photos/a.jpg", "photos/empty.jpg", ODD]),
        ("photos", False, ["photos/a.jpg", "photos/empty.jpg"]),
        (ODD, True, [ODD]),
        ("photos*/?.jpg", True, ["photos/a.jpg", "photos2/b.jpg"]),
    ],
)
def test_uris_name_objects_folders_and_globs(
    scheme: str, bucket: Bucket, name: str, recursive: bool, keys: list[str]
) -> None:
    options = InputOptions(recursive=recursive)
    listing = Listing([f"{scheme}://bucket/{name}".encode()], (), options)
    assert [os.fsdecode(ref.path) for ref in listing] == [
        f"{scheme}://bucket/{key}" for key in keys
    ]


def test_rows_and_faults(scheme: str, bucket: Bucket) -> None:
    result = mnv1(
        "classify", f"{scheme}://bucket/photos", *PLAIN, "--on-error", "row", "--with-meta"
    )
    labels = rows(result.stdout)
    assert [row["label_1"] for row in labels] == ["espresso", "", "espresso"]
    assert [row["error"] for row in labels] == ["", "the file is empty", ""]
    assert labels[0]["mtime"].startswith("20")


def test_objects_are_read_whole_or_in_ranges(scheme: str, bucket: Bucket) -> None:
    uri = f"{scheme}://bucket/photos/a.jpg".encode()
    assert RemoteImage(uri)(len(COFFEE)) == COFFEE
    with bucket.open(uri) as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == COFFEE[-10:]
        file.seek(100)
        assert file.read(20) == COFFEE[100:120]
    for name, limit, reason in (
        ("photos/a.jpg", len(COFFEE) - 1, "too large"),
        ("none", 9, "no such file"),
    ):
        with pytest.raises(ImageError, match=reason):
            RemoteImage(f"{scheme}://bucket/{name}".encode())(limit)


def test_objects_are_created_once(scheme: str, bucket: Bucket) -> None:
    uri = f"{scheme}://bucket/new/once".encode()
    bucket.write(uri, b"first", replace=False)
    with pytest.raises(ExistsError):
        bucket.write(uri, b"second", replace=False)
    assert bucket.read(uri, 9) == b"first"
    bucket.write(uri, b"third")
    assert bucket.read(uri, 9) == b"third"
    bucket.remove(uri)
    bucket.remove(uri)
    assert bucket.look_up(uri) is None


def test_results(scheme: str, bucket: Bucket, tmp_path: Path) -> None:
    place = f"{scheme}://bucket/out/r.csv"
    assert mnv1("classify", PHOTOS, *PLAIN, "-o", place).exit_code == 0
    mnv1("classify", PHOTOS, *PLAIN, "-o", tmp_path / "r.csv")
    assert bucket.read(place.encode(), 1 << 20) == (tmp_path / "r.csv").read_bytes()
    assert f"{place} exists" in mnv1("classify", PHOTOS, *PLAIN, "-o", place).stderr
    lost = mnv1("classify", PHOTOS, *PLAIN, "-o", f"{scheme}://none/r.csv")
    assert f"cannot write {scheme}://none/r.csv: no such bucket" in lost.stderr
    gone = mnv1("classify", f"{scheme}://none/photos", *PLAIN)
    assert (gone.exit_code, gone.stderr.count("\n")) == (2, 1)
    assert "no such bucket" in gone.stderr


def test_dataset_is_written_once_and_read_back(scheme: str, bucket: Bucket) -> None:
    words = ("embed", PHOTOS, "-o", f"{scheme}://bucket/features/", "--module", "bundled")
    assert mnv1(*words).exit_code == 0
    assert "nothing is left to do" in mnv1(*words).stderr
    similar = mnv1("similar", f"{scheme}://bucket/features/", "--all-pairs", "--threshold", "0")
    assert similar.exit_code == 0, similar.stderr
    assert similar.stdout.count("\n") > 2
