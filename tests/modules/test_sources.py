"""Every source of a module, played by a server on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules import (
    build,
    cache,
    catalog,
    files,
    inspection,
    locate,
)
from mnv1cli.types import FetchOptions
from tests.support import hub as hubs
from tests.support.hub import HANDLE_PATH, QUERY, SLOT, Hub

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("online")


def compute_logits(path: Path) -> np.ndarray:
    found = inspection.read_module(locate.LocatedModule("x", path))
    model = TensorFlowModel(found, [found.logits()])
    return model(np.random.default_rng(0).random((2, 128, 128, 3), dtype=np.float32))["logits"]


# --- the hub's protocol ----------------------------------------------------------


def test_first_run_downloads_and_the_second_asks_nobody(
    hub: Hub, own_cache: Path, packed: bytes, bundled: Path
) -> None:
    hub.answers = {"/moved/here.tgz": hubs.sends(packed), QUERY: hubs.redirects("/moved/here.tgz")}
    assert locate.locate("hub").path == own_cache / SLOT
    assert hub.asked == [QUERY, "/moved/here.tgz"]
    assert files.compute_fingerprint(own_cache / SLOT) == files.compute_fingerprint(bundled)
    hub.asked.clear()
    assert locate.locate().path == own_cache / SLOT
    assert hub.asked == []
    assert not list(own_cache.glob("*-tmp*"))


def test_module_laid_by_hand_needs_no_download(hub: Hub, own_cache: Path, bundled: Path) -> None:
    shutil.copytree(bundled, own_cache / SLOT)
    before = sorted(os.listdir(own_cache))
    assert locate.locate("hub").path == own_cache / SLOT
    assert hub.asked == []
    assert sorted(os.listdir(own_cache)) == before


def test_other_query_arguments_are_kept(hub: Hub, own_cache: Path, packed: bytes) -> None:
    handle = f"{hub.url}/team/model/1?key=a%20b"
    hub.answers["/team/model/1?key=a%20b&tf-hub-format=compressed"] = hubs.sends(packed)
    assert locate.locate(handle).path == cache.cache_directory(handle)


def test_a_bar_shows_on_a_stream(
    hub: Hub, own_cache: Path, packed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    locate.locate("hub", FetchOptions(bar=sys.stderr))
    assert "B/s" in capsys.readouterr().err


# --- every source gives the same -------------------------------------------------


def test_every_source_gives_the_same_logits(
    hub: Hub, own_cache: Path, packed: bytes, checkpoint: Path, tmp_path: Path
) -> None:
    """Let the mirror stand in for the hub, the bucket and the checkpoint host in turn."""
    archive = hubs.pack(checkpoint)
    every = {
        QUERY: hubs.sends(packed),
        f"{HANDLE_PATH}.tar.gz": hubs.sends(packed),
        "/mobilenet_v1_1.0_128.tgz": hubs.sends(archive),
    }
    results = []
    while every:
        hub.answers = dict(every)
        path = locate.locate("hub").path
        results.append(compute_logits(path))
        if len(every) == 1:
            built = tmp_path / "built"
            assert build.build_module(
                checkpoint, None, None, None, built
            ) == files.compute_fingerprint(path)
        cache.remove(path)
        del every[next(iter(every))]
    assert len(results) == 3
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-4)


def test_checkpoint_of_a_feature_module_leaves_the_head_out(
    hub: Hub, own_cache: Path, checkpoint: Path
) -> None:
    hub.answers["/mobilenet_v1_1.0_128.tgz"] = hubs.sends(hubs.pack(checkpoint))
    handle = f"{catalog.HUB}mobilenet_v1_100_128/feature_vector/1"
    found = inspection.open_module(handle)
    assert (found.classes(), found.feature_length()) == (None, 1024)


def test_cache_is_read_by_handle_of_kaggle_in_either_spelling() -> None:
    short = "https://www.kaggle.com/models/google/mobilenet-v1/tensorFlow2/100-128-classification/2"
    long = (
        "https://www.kaggle.com/models/google/mobilenet-v1/frameworks/tensorFlow2/"
        "variations/100-128-classification/versions/2"
    )
    assert locate.resolve_handle(short) == locate.resolve_handle(long) == short
    urls = [source.url for source in catalog.list_sources(short, [])]
    assert urls == [
        "https://www.kaggle.com/api/v1/models/google/mobilenet-v1/tensorFlow2/"
        "100-128-classification/2/download"
    ]


def test_default_sources_are_those_of_the_contract() -> None:
    urls = [source.url for source in catalog.list_sources(catalog.DEFAULT_HANDLE, ["http://m/b"])]
    path = "google/imagenet/mobilenet_v1_100_128/classification/1"
    storage = "https://storage.googleapis.com"
    assert urls == [
        f"http://m/b/{path}?tf-hub-format=compressed",
        f"http://m/b/{path}.tar.gz",
        "http://m/b/mobilenet_v1_1.0_128.tgz",
        f"https://tfhub.dev/{path}?tf-hub-format=compressed",
        f"{storage}/tfhub-modules/{path}.tar.gz",
        f"{storage}/download.tensorflow.org/models/mobilenet_v1_2018_02_22/mobilenet_v1_1.0_128.tgz",
        "https://www.kaggle.com/api/v1/models/google/mobilenet-v1/tensorFlow2/"
        "100-128-classification/2/download",
    ]


def test_archive_with_a_module_below_one_folder_is_taken(
    hub: Hub, own_cache: Path, bundled: Path
) -> None:
    hub.answers[QUERY] = hubs.sends(hubs.pack(bundled, "mobilenet/"))
    assert locate.locate("hub").path == own_cache / SLOT


def test_build_makes_an_archive_that_the_hub_could_serve(
    bundled: Path, tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / "m.tar.gz"
    built = build.build_module(checkpoint, None, None, None, out, as_tar=True)
    assert built == files.compute_fingerprint(bundled)
    with tarfile.open(out) as tar:
        assert all(f"{name}/".startswith("./") for name in tar.getnames())
    assert inspection.open_module(str(out)).fingerprint == built
