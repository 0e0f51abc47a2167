"""Where tests find the shared data, a module, and a quiet environment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.pixels import load_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.types import FloatArray

ROOT = Path(__file__).resolve().parent.parent

# Before TensorFlow is imported anywhere: its log would drown the tests' own.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["MNV1_OFFLINE"] = "1"
# Hundreds of tests start the program: it is compiled once, not by each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# The files that take longest, so that no core is left with one of them at the end.
LONG = (
    "resume", "run", "run_store", "real_library", "real_modules", "full", "search", "docs",
    "export", "quantize", "finetune", "soak", "zoo", "kept_module", "mobilenet", "loader",
    "convert", "results", "accidents", "existing", "input_range", "bundled", "tf2_exports",
    "locate", "sources", "source_failures", "export_files", "connections", "benchmark", "build",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files."""

    def turn(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=turn)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole run, so that no two workers build or compile the same module."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    directory.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNV1_CACHE_DIR", str(directory))
        patch.delenv("TFHUB_CACHE_DIR", raising=False)
        patch.delenv("MNV1_MODULE", raising=False)
        patch.setenv("KAGGLEHUB_CACHE", str(directory / "kagglehub"))
        yield directory


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own; the folder is not there yet."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("MNV1_CACHE_DIR", str(directory))
    return directory


@pytest.fixture(scope="session")
def compiled_cache(bundled_module: HubModule, cache: Path) -> Path:
    """The cache, with the bundled module compiled for its logits."""
    from mnv1cli.inference import models

    models.open_model(bundled_module, [bundled_module.logits()], 1)
    return cache


@pytest.fixture
def warm_cache(compiled_cache: Path, bundled_module: HubModule, own_cache: Path) -> Path:
    """A cache of the test's own, with the bundled module and its compiled models."""
    copy_bundled(compiled_cache, bundled_module, own_cache)
    return own_cache


def copy_bundled(source: Path, bundled_module: HubModule, target: Path) -> None:
    """Copy the bundled module and its compiled models from a cache to another."""
    for inside in (bundled_module.path.name, f"compiled/{bundled_module.fingerprint}"):
        shutil.copytree(source / inside, target / inside)


@pytest.fixture
def unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that not even root is able to make."""
    (tmp_path / "a file").touch()
    directory = tmp_path / "a file" / "cache"
    monkeypatch.setenv("MNV1_CACHE_DIR", str(directory))
    return directory


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


@pytest.fixture(scope="session")
def photo_pixels(photos: Path) -> FloatArray:
    """The photos as a module of 128x128 sees them, in the order of their names."""
    import numpy as np

    from mnv1cli.types import PixelSpec

    spec = PixelSpec(128)
    return np.stack([load_pixels(path.read_bytes(), spec) for path in sorted(photos.iterdir())])


@pytest.fixture(scope="session")
def bundled_module(cache: Path) -> HubModule:
    """The bundled module."""
    from mnv1cli.modules import inspection

    return inspection.open_module("bundled")


@pytest.fixture(scope="session")
def compiled_both(bundled_module: HubModule) -> CompiledModel:
    """The bundled module compiled for logits and features in one pass."""
    from mnv1cli.inference import convert

    return convert.compile_module(bundled_module, bundled_module.main_outputs())
