"""Data that several tests of the commands read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def reference(shared: Path) -> Any:
    return np.load(shared / "reference.npz")


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A folder with four small photos."""
    folder = tmp_path / "few"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name in ("b.png", "a.jpg", "d.jpg", "c.bmp"):
        Image.fromarray(rng.integers(0, 256, (50, 60, 3), np.uint8)).save(folder / name)
    return folder
