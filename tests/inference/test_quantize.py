"""Calibration for int8: refused without, deterministic, and honest about its price."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli import Classifier, Mnv1Error
from mnv1cli.analysis import synthetic_photos
from mnv1cli.inference.quantize import draw_sample
from mnv1cli.types import ImageRef
from tests.conftest import copy_bundled
from tests.support.shell import mnv1, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.modules.hub_module import HubModule

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are nobody's, and a file that is none."""
    directory = tmp_path_factory.mktemp("pictures")
    synthetic_photos.write_pictures(directory, COUNT, 160, 120, seed=3)
    (directory / "broken.jpg").write_bytes(b"no picture")
    return directory


@pytest.fixture(scope="module")
def calibrated(
    folder: Path,
    compiled_cache: Path,
    bundled_module: HubModule,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Classifier]:
    """A classifier in int8, calibrated in a cache of its own."""
    own_cache = tmp_path_factory.mktemp("calibrated")
    copy_bundled(compiled_cache, bundled_module, own_cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNV1_CACHE_DIR", str(own_cache))
        with pytest.raises(Mnv1Error, match="not calibrated for int8"):
            Classifier("bundled", precision="int8").logits(str(folder / "3-00000.jpg"))
        Classifier("bundled").quantize([str(folder)], samples=6, seed=1)
        yield Classifier("bundled", precision="int8")


def test_price_is_of_images_that_were_held_back(calibrated: Classifier, folder: Path) -> None:
    result = mnv1("module", "quantize", folder, "--module", "bundled", "--samples", 5, "--json")
    assert result.exit_code == 0, result.stderr
    price = json.loads(result.stdout)
    # Ten are drawn, and one of them may be the broken one.
    assert price["calibrated_on"] + price["held_back"] + price["failed"] == 10
    assert 0 <= price["agreement"] <= 1
    assert 0.9 < price["similarity"] <= 1
    assert price["speed"] > 0
    assert price["outputs"] == ["logits", "features"]


@pytest.mark.usefixtures("warm_cache")
def test_int8_is_near_float32_on_photos_that_it_did_not_see(photos: Path) -> None:
    names = [str(path) for path in sorted(photos.iterdir())]
    floats = Classifier("bundled")
    # Half of them are held back again: twenty-odd photos are enough.
    floats.quantize(names[::2])
    wanted = floats.classify(names[1::2], top=1)
    found = Classifier("bundled", precision="int8").classify(names[1::2], top=1)
    same = [a[0].class_id == b[0].class_id for a, b in zip(found, wanted, strict=True)]
    assert np.mean(same) >= 0.7
    truth = [image.path.rpartition("/")[2].partition("_")[0] for image in wanted]
    right = [
        sum(image[0].wnid == wnid for image, wnid in zip(results, truth, strict=True))
        for results in (found, wanted)
    ]
    assert right[0] >= right[1] - 3


def test_one_calibration_serves_logits_and_features(calibrated: Classifier, folder: Path) -> None:
    picture = str(folder / "3-00001.jpg")
    assert calibrated.logits(picture).shape == (1, 1001)
    assert calibrated.embed(picture).shape == (1, 1024)
    with pytest.raises(Mnv1Error, match="--endpoint"):
        calibrated.embed(picture, endpoint="Conv2d_5_pointwise")


def test_rows_do_not_depend_on_their_batch(calibrated: Classifier, folder: Path) -> None:
    names = [str(folder / f"3-{i:05}.jpg") for i in range(COUNT)]
    whole = calibrated.logits(names)
    alone = np.concatenate([calibrated.logits(name) for name in names])
    np.testing.assert_array_equal(alone, whole)


def test_endpoint_is_calibrated_on_its_own(calibrated: Classifier, folder: Path) -> None:
    price = Classifier("bundled").quantize([str(folder)], 4, endpoint="Conv2d_3_pointwise")
    assert price.agreement is None
    layer = calibrated.embed(str(folder / "3-00002.jpg"), endpoint="Conv2d_3_pointwise")
    assert layer.shape == (1, 128)


def test_same_images_and_seed_give_the_same_model(calibrated: Classifier, folder: Path) -> None:
    names = [str(folder / f"3-{i:05}.jpg") for i in range(6)]
    classifier = Classifier("bundled")
    assert classifier.quantize(names, 3).sha256 == classifier.quantize(names, 3).sha256


def test_results_name_the_calibrated_model(
    calibrated: Classifier, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.csv"
    run = mnv1(
        "classify", folder / "3-00000.jpg", "--module", "bundled", "--precision", "int8", "-o", out
    )
    assert run.exit_code == 0, run.stderr
    meta = json.loads((tmp_path / "x.csv.meta.json").read_text())
    assert meta["precision"] == "int8"
    assert len(meta["calibrated"]) == 64
    assert len(rows(out.read_bytes())) == 5


@pytest.mark.parametrize("keep", [0, 1])
def test_too_few_images_are_refused(folder: Path, tmp_path: Path, keep: int) -> None:
    for i in range(keep):
        shutil.copy(folder / f"3-{i:05}.jpg", tmp_path)
    shutil.copy(folder / "broken.jpg", tmp_path)
    result = mnv1("module", "quantize", tmp_path, "--module", "bundled")
    assert result.exit_code == 1
    assert "too few to calibrate with" in result.stderr


def test_every_image_is_as_likely_to_be_drawn() -> None:
    refs = [ImageRef(i, b"%d" % i) for i in range(10)]
    counts = np.zeros(10)
    for seed in range(2000):
        drawn = draw_sample(refs, 3, seed)
        assert len({ref.index for ref in drawn}) == 3
        for ref in drawn:
            counts[ref.index] += 1
    # 600 each; the standard deviation is 20.
    assert abs(counts - 600).max() < 120


def test_fewer_images_than_wanted_are_all_drawn() -> None:
    refs = [ImageRef(i, b"%d" % i) for i in range(3)]
    assert {ref.index for ref in draw_sample(refs, 10, seed=0)} == {0, 1, 2}
