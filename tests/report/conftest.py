"""Pictures to make reports of."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from mnv1cli.analysis import synthetic_photos

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="package")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    synthetic_photos.write_pictures(folder, 6, 90, 60)
    return folder


@pytest.fixture
def folder(pictures: Path, tmp_path: Path) -> Path:
    """A folder with six pictures in its folder `photos`."""
    shutil.copytree(pictures, tmp_path / "photos")
    return tmp_path
