"""Datasets for tests, read as other programs do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pyarrow.dataset
import pyarrow.parquet

from mnv1cli.analysis import synthetic_photos

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 8
# The pictures that fail, and why.
FAULTS = {b"broken.jpg": "not an image", b"empty.png": "the file is empty"}


def album(folder: Path) -> Path:
    """Make eight small pictures, two of them under difficult names, and two broken ones."""
    folder.mkdir()
    synthetic_photos.write_pictures(folder, COUNT, 40, 30)
    good = sorted(folder.iterdir())
    os.rename(good[0], os.fsencode(folder) + b"/latin\xe9.jpg")
    os.rename(good[1], folder / "a 'new\nline.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "empty.png").write_bytes(b"")
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of a dataset, or of a file, with pyarrow; sorted by path and rank."""
    found = pyarrow.dataset.dataset(folder, format="parquet").to_table().to_pylist()
    return sorted(found, key=lambda row: (raw(row), row.get("rank") or 0))


def images(folder: Path, run: str = "") -> set[bytes]:
    """Return the paths of the images that have rows, of one run or of all."""
    of_run = [part for part in parts(folder) if run in part.name]
    return {raw(row) for part in of_run for row in pyarrow.parquet.read_table(part).to_pylist()}


def raw(row: dict[str, Any]) -> bytes:
    """Return the bytes of a row's path."""
    found: bytes | None = row["path_bytes"]
    return str(row["path"]).encode() if found is None else found


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("_mnv1/*.json"))
