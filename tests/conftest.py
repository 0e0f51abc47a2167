"""Where tests find the shared data, a module, and a quiet environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

# Before TensorFlow is imported anywhere: its log would drown the tests' own.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["MNV1_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole run, so that the bundled module is built once."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNV1_CACHE_DIR", str(directory))
        patch.delenv("TFHUB_CACHE_DIR", raising=False)
        patch.delenv("MNV1_MODULE", raising=False)
        yield directory


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data: photos, reference results, a genuine module."""
    directory = Path(os.environ.get("MNV1_SHARED", ROOT.parent / "shared"))
    data = directory / "data" if (directory / "data").is_dir() else directory
    if not (data / "reference.npz").is_file():
        pytest.skip(f"no shared data in {directory}; MNV1_SHARED says where they are")
    return data


@pytest.fixture(scope="session")
def photos(shared: Path) -> Path:
    """Labelled photos; a name begins with the WordNet id of what is shown."""
    return shared / "photos"
