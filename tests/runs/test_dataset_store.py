"""Datasets in an object store: moto's, on this machine."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from mnv1cli.results.dataset import Dataset
from mnv1cli.results.readers import open_result
from mnv1cli.runs import dataset_sink
from mnv1cli.storage import folder, objects
from mnv1cli.storage.location import Location
from tests.support.datasets import COUNT, album, rows
from tests.support.objectstore import object_store
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.objectstore import ObjectStore

__all__ = ["object_store"]

ALL = COUNT + 2
BUNDLED = ("--module", "bundled")


@pytest.fixture(scope="module")
def bucket(object_store: ObjectStore) -> str:
    return object_store.bucket("photos")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    album(tmp_path / "album")
    return tmp_path


def run(*arguments: object, command: str = "embed", code: int = 3) -> str:
    result = mnv1(command, *arguments, *BUNDLED)
    assert result.exit_code == code, result.stderr
    return result.stderr


def under(store: ObjectStore, prefix: str) -> list[str]:
    return [key for key in store.keys("photos") if key.startswith(prefix)]


def copied(store: ObjectStore, prefix: str, folder: Path) -> Path:
    folder.mkdir()
    for key in under(store, f"{prefix}/part-"):
        (folder / os.path.basename(key)).write_bytes(store.get("photos", key))
    return folder


def test_rows_go_to_a_store_once_and_come_back(
    here: Path, object_store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_sink, "PART_IMAGES", 3)
    place = f"s3://{bucket}/a/features/"
    said = run("album/0-00002.jpg", "-o", place, code=0)
    assert "1 image in 0.0 s" in re.sub(r"\d\.\d s", "0.0 s", said)
    said = run("album", "-o", place, "--batch-size", 1)
    assert f"1 was there already, in {place}" in said
    keys = under(object_store, "a/features/")
    assert len([key for key in keys if "/part-" in key]) == 4
    assert len([key for key in keys if "/_mnv1/" in key]) == 2
    assert len(keys) == 6
    assert "nothing is left to do" in run("album", "-o", place, code=0)
    assert under(object_store, "a/features/") == keys

    run("album", "-o", "local/")
    assert rows(copied(object_store, "a/features", here / "copy")) == rows(here / "local")
    said = run("album", "--skip-existing", place, "-o", "x.npy", code=0)
    assert f"{ALL} were there already" in said


def test_commands_read_it_where_it_is(here: Path, bucket: str) -> None:
    for command in ("embed", "classify"):
        run("album", "-o", f"s3://{bucket}/{command}/", command=command)
        run("album", "-o", f"{command}/", command=command)
    (here / "truth.csv").write_text("path,label\nalbum/0-00002.jpg,tabby\n")
    for arguments in (
        ("similar", "{}embed/", "--all-pairs", "--threshold", "0.1"),
        ("similar", "{}embed", "--from", "{}embed/", "--top", 1),
        ("evaluate", "--from", "{}classify/", "--truth", "truth.csv", "--json"),
    ):
        outputs = []
        for root in ("", f"s3://{bucket}/"):
            found = mnv1(*(str(word).format(root) for word in arguments))
            assert found.exit_code in (0, 3), found.stderr
            outputs.append(found.stdout_bytes)
        assert outputs[0] == outputs[1] != b"", arguments
    page = mnv1("report", f"s3://{bucket}/classify/", "-o", "x.html")
    assert f"{COUNT} images" in page.stderr


def test_force_replaces_what_is_there(here: Path, object_store: ObjectStore, bucket: str) -> None:
    place = f"s3://{bucket}/forced/"
    run("album", "-o", place)
    before = under(object_store, "forced/")
    assert "made with command embed" in run("album", "-o", place, command="classify", code=1)
    assert under(object_store, "forced/") == before
    run("album", "-o", place, "--force", command="classify")
    after = under(object_store, "forced/")
    assert len(after) == len(before) == 2
    assert not set(before) & set(after)


def test_upload_that_fails_leaves_no_half_object(
    here: Path, object_store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"s3://{bucket}/failing/"
    monkeypatch.setattr(dataset_sink, "PART_IMAGES", 4)
    put, left = folder._StoreFolder.put, iter(range(2))

    def failing(self: Any, name: str, data: bytes) -> None:
        # The probe and one part arrive; then nobody answers any more.
        if next(left, None) is None:
            raise ConnectionError("Could not connect to the endpoint")
        put(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(folder._StoreFolder, "put", failing)
        said = run("album", "-o", place, "--batch-size", 1, code=1)
    assert "cannot write s3://photos/failing/part-" in said
    assert "Could not connect to the endpoint" in said
    assert f"done so far: 4 images, in {place}; the same command goes on" in said
    assert "4 were there already" in run("album", "-o", place)


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("s3://no-such-bucket/out/", 1, "cannot write s3://no-such-bucket/out/: no such bucket"),
        ("https://127.0.0.1:9/out/", 2, "https:// can only be read"),
        ("s3://photos/other/", 1, "s3://photos/other/ is no dataset of mnv1: it has x.jpg"),
    ],
)
def test_refused_before_any_work(
    here: Path, object_store: ObjectStore, bucket: str, place: str, code: int, said: str
) -> None:
    object_store.put(bucket, {"other/x.jpg": b"x"})
    heard = run("album/none-at-all.jpg", "-o", place, code=2)
    assert "no such file" in heard
    heard = run("album", "-o", place, code=code)
    assert said in heard
    assert len(heard.splitlines()) == 1


def test_credentials_that_are_missing_are_told(
    here: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    # The one that was opened before knows them still.
    monkeypatch.setattr(objects, "_clients", {})
    monkeypatch.setattr(objects, "_failures", {})
    heard = run("album", "-o", f"s3://{bucket}/out/", code=1)
    assert "no credentials; set AWS_ACCESS_KEY_ID" in heard


def test_result_that_a_store_lacks_is_missing(bucket: str) -> None:
    result = mnv1("similar", f"s3://{bucket}/x.npy", "--all-pairs")
    assert result.exit_code == 2
    assert f"s3://{bucket}/x.npy" in result.stderr


def test_marker_of_a_folder_is_no_part(here: Path, object_store: ObjectStore, bucket: str) -> None:
    object_store.put(bucket, {"marked/": b""})
    run("album", "-o", f"s3://{bucket}/marked/")
    place = Location(f"s3://{bucket}/marked/")
    assert len(Dataset(place).list_parts()) == 1
    result = open_result(place)
    assert len(list(result.paths())) == ALL
    assert result.metadata is not None
    faults = result.metadata.failures or ()
    assert [fault.path for fault in faults] == [b"album/broken.jpg", b"album/empty.png"]


def test_duckdb_reads_what_pyarrow_finds_there(
    here: Path, object_store: ObjectStore, bucket: str
) -> None:
    place = f"s3://{bucket}/duck/"
    run("album", "-o", place, command="classify")
    import pyarrow.dataset
    from pyarrow.fs import S3FileSystem

    files = [f"{bucket}/duck/{name}" for name in Dataset(Location(place)).list_parts()]
    filesystem = S3FileSystem(endpoint_override=object_store.endpoint, region="us-east-1")
    there = pyarrow.dataset.dataset(files, filesystem=filesystem).to_table()
    assert len(there) == COUNT * 5 + 2
    query = "select count(distinct path), count(*) filter (error <> '') from there"
    assert duckdb.sql(query).fetchall() == [(ALL, 2)]
