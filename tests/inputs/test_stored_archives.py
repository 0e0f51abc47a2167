"""Archives in stores: the rows of the same archives on disk, tars as streams, ZIPs in ranges."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support import webserver
from tests.support.objectstore import ObjectStore, object_store
from tests.support.shell import mnv1, rows
from tests.support.webserver import Answer

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["object_store"]

COFFEE = (ROOT / "examples" / "photos" / "coffee.jpg").read_bytes()
FILES = {
    "000.jpg": COFFEE,
    "000.cls": b"504",
    "001.jpg": COFFEE[:3000],
    "sub/002.jpg": COFFEE,
    "003.jpg": b"",
}
PLAIN = ("--module", "bundled", "--top", 1, "-f", "csv", "--wide", "--on-error", "row")
NAMES = ("shard-0000.tar", "shard-0001.tar.gz", "photos.zip")


def pack(name: str) -> bytes:
    file = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in FILES.items():
                archive.writestr(member, data)
    else:
        with tarfile.open(fileobj=file, mode="w:gz" if name.endswith("gz") else "w") as tar:
            for member, data in FILES.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture(scope="module")
def store(object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archives, which are in the bucket `archives` as well."""
    folder = tmp_path_factory.mktemp("archives")
    object_store.bucket("archives")
    for name in NAMES:
        (folder / name).write_bytes(pack(name))
        object_store.put("archives", {name: folder / name})
    object_store.put("archives", {"cut.tar": pack(NAMES[0])[: len(COFFEE)], "no.zip": b"no ZIP"})
    return folder


@pytest.mark.parametrize("inside", ["", "!/sub", "!/000.jpg"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_are_those_of_the_archive_on_disk(store: Path, name: str, inside: str) -> None:
    there = mnv1("classify", f"s3://archives/{name}{inside}", *PLAIN)
    here = mnv1("classify", f"{store}/{name}{inside}", *PLAIN)
    assert there.exit_code == here.exit_code == (0 if inside else 3), there.stderr
    assert there.stdout.replace("s3://archives/", f"{store}/") == here.stdout


def test_globs_and_lists_name_archives(store: Path, tmp_path: Path) -> None:
    shards = mnv1("classify", "s3://archives/shard-*", *PLAIN)
    assert len(rows(shards.stdout)) == 8
    (tmp_path / "list").write_text("".join(f"s3://archives/{n}!/000.jpg\n" for n in NAMES))
    listed = mnv1("classify", "--files-from", tmp_path / "list", *PLAIN)
    assert [row["label_1"] for row in rows(listed.stdout)] == ["espresso"] * 3


@pytest.mark.parametrize("name", ["cut.tar", "no.zip"])
def test_damaged_archives_are_faults(store: Path, name: str) -> None:
    result = mnv1("classify", f"s3://archives/{name}", *PLAIN)
    assert result.exit_code == 3
    assert f"s3://archives/{name}: damaged archive: " in result.stderr


def test_what_cannot_be_read_is_an_error_of_one_line(store: Path) -> None:
    missing = mnv1("classify", "s3://archives/none.tar", *PLAIN)
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert "no such object" in missing.stderr
    with webserver.serving() as web:
        web.answers["/a.zip"] = Answer(b"PK")
        refused = mnv1("classify", f"{web.url}/a.zip", *PLAIN)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "archives are not read from web servers; copy it here first" in refused.stderr
