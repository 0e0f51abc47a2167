"""A server that plays the hub, and the module that it serves."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.modules import locate, weights
from mnv1cli.modules.transfer import connections
from tests.support import hub as hubs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.hub import Hub


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow connections; those to public addresses end at a closed local port."""
    monkeypatch.setenv("MNV1_OFFLINE", "0")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve as the only mirror."""
    with hubs.serve() as server:
        monkeypatch.setenv("MNV1_MIRRORS", server.url)
        yield server


@pytest.fixture
def hub_of_all_hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve as every host, for which the server is asked as a proxy."""
    with hubs.serve() as server:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.01)
        yield server


@pytest.fixture(scope="module")
def bundled(cache: Path) -> Path:
    """Return the directory of the bundled module, in the cache of the whole run."""
    return locate.locate("bundled").path


@pytest.fixture(scope="module")
def packed(bundled: Path) -> bytes:
    """Return the bundled module as the hub packs it."""
    return hubs.pack(bundled)


@pytest.fixture
def with_bundled(bundled: Path, own_cache: Path) -> Path:
    """Copy the bundled module to the test's own cache; return its directory there."""
    shutil.copytree(bundled, own_cache / bundled.name)
    return own_cache / bundled.name


@pytest.fixture(scope="module")
def checkpoint(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the bundled weights as a checkpoint of TF-Slim, with variables of an optimizer."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("checkpoint")
    variables = weights.read_checkpoint(bundled / "variables")
    names = list(variables)
    extra = {
        "global_step": np.array(5, np.int64),
        f"{names[0]}/RMSProp": np.ones(3, np.float32),
        f"{names[0]}/ExponentialMovingAverage": np.ones(3, np.float32),
    }
    everything = {**variables, **extra}
    tf.raw_ops.SaveV2(
        prefix=str(folder / "mobilenet_v1_1.0_128.ckpt"),
        tensor_names=list(everything),
        shape_and_slices=[""] * len(everything),
        tensors=[tf.constant(value) for value in everything.values()],
    )
    (folder / "mobilenet_v1_1.0_128.ckpt.meta").write_bytes(b"graph")
    return folder
