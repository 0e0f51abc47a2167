"""Calibration for int8: the best recipe serves, the same images give the same model."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli import Classifier
from mnv1cli.analysis import synthetic_photos
from mnv1cli.errors import EngineError
from mnv1cli.inference import compiled, openvino_model
from mnv1cli.inference.int8 import dynamic, trials
from mnv1cli.inference.int8.quantize import draw_sample
from mnv1cli.inference.int8.trials import Trial
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.labels.names import imagenet
from mnv1cli.modules import artifacts, build
from mnv1cli.types import ImageRef
from tests.modules.test_build import write_npz
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.types import FloatArray

COUNT = 12
LITERT = ("dynamic", "dynamic-calibrated", "static")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are nobody's, and a file that is none."""
    directory = tmp_path_factory.mktemp("pictures")
    synthetic_photos.write_pictures(directory, COUNT, 160, 120, seed=3)
    (directory / "broken.jpg").write_bytes(b"no picture")
    return directory


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest of the family: what is made of it is soon made."""
    directory = tmp_path_factory.mktemp("small")
    build.build_module(None, write_npz(directory, 0.25, 128), None, None, directory / "module")
    return directory / "module"


def quantize_in(cache: Path, small: Path, folder: Path, recipe: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNV1_CACHE_DIR", str(cache))
        Classifier(small).quantize([str(folder)], 6, seed=1, recipe=recipe)
    return cache


def copy_cache(cache: Path, own_cache: Path, small: Path) -> Classifier:
    """Make a classifier in int8 with a copy of a cache, which a test may change."""
    shutil.copytree(cache, own_cache)
    return Classifier(small, precision="int8")


@pytest.fixture(scope="module")
def litert_cache(small: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("litert")
    return quantize_in(cache, small, folder, "dynamic-calibrated")


@pytest.fixture(scope="module")
def network_cache(small: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nncf")
    return quantize_in(tmp_path_factory.mktemp("network"), small, folder, "nncf")


@pytest.fixture
def calibrated(litert_cache: Path, own_cache: Path, small: Path) -> Classifier:
    """A classifier in int8, calibrated for LiteRT."""
    return copy_cache(litert_cache, own_cache, small)


@pytest.fixture
def network(network_cache: Path, own_cache: Path, small: Path) -> Classifier:
    """A classifier in int8, calibrated for OpenVINO."""
    return copy_cache(network_cache, own_cache, small)


def test_price_is_of_images_that_were_held_back(
    small: Path, calibrated: Classifier, folder: Path
) -> None:
    result = mnv1("module", "quantize", folder, "--module", small, "--samples", 5, "--json",
                  "--engine", "litert")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    price = json.loads(result.stdout)
    assert [trial["recipe"] for trial in price["trials"]] == [*LITERT]
    assert price["recipe"] in LITERT
    # Ten are drawn, and one of them may be the broken one.
    assert price["calibrated_on"] + price["held_back"] + price["failed"] == 10
    assert 0 <= price["agreement"] <= 1
    assert 0.9 < price["similarity"] <= 1
    assert price["speed"] > 0
    assert price["outputs"] == ["logits", "features"][: len(price["outputs"])]


def test_calibrated_int8_gives_the_labels_of_float32(
    photos: Path, compiled_both: CompiledModel, photo_pixels: FloatArray
) -> None:
    images, held_back = photo_pixels[::2], photo_pixels[1::2]
    model = dynamic.calibrate(compiled_both, images, {}, "bundled").model
    expected, computed = (
        LiteRTModel(each, compiled_both.outputs, 1)(held_back)["logits"].argmax(1)
        for each in (compiled_both.model, model)
    )
    # Forty-six photos, some of which have two labels of about the same probability.
    assert (expected == computed).sum() >= len(held_back) - 4
    truth = [path.name.partition("_")[0] for path in sorted(photos.iterdir())][1::2]
    right = [
        sum(imagenet()[label].wnid == wnid for label, wnid in zip(labels, truth, strict=True))
        for labels in (expected, computed)
    ]
    assert right[1] >= right[0] - 2


def test_one_calibration_serves_logits_and_features(calibrated: Classifier, folder: Path) -> None:
    picture = str(folder / "3-00001.jpg")
    assert calibrated.logits(picture).shape == (1, 1001)
    assert calibrated.embed(picture).shape == (1, 256)
    assert calibrated.embed(picture, endpoint="Conv2d_3_pointwise").shape == (1, 32)


@pytest.mark.parametrize("kind", ["calibrated", "network"])
def test_rows_do_not_depend_on_their_batch(
    request: pytest.FixtureRequest, kind: str, folder: Path
) -> None:
    classifier = request.getfixturevalue(kind)
    names = [str(folder / f"3-{i:05}.jpg") for i in range(COUNT)]
    whole = classifier.logits(names)
    parts = [names[:1], names[1:4], names[4:5], names[5:]]
    np.testing.assert_array_equal(np.concatenate([*map(classifier.logits, parts)]), whole)


def test_endpoint_is_calibrated_on_its_own(small: Path, folder: Path, own_cache: Path) -> None:
    layer = "Conv2d_3_pointwise"
    price = Classifier(small).quantize([str(folder)], 4, endpoint=layer, recipe="static")
    assert price.agreement is None
    classifier = Classifier(small, precision="int8")
    assert classifier.embed(str(folder / "3-00002.jpg"), endpoint=layer).shape == (1, 32)


def test_same_images_and_seed_give_the_same_model(
    small: Path, folder: Path, calibrated: Classifier
) -> None:
    names = [str(folder / f"3-{i:05}.jpg") for i in range(6)]
    first, second = (
        Classifier(small).quantize(names, 3, recipe="dynamic-calibrated") for _ in range(2)
    )
    assert first.sha256 == second.sha256


def test_model_for_openvino_serves_until_another_is_kept(
    small: Path, network: Classifier, folder: Path, tmp_path: Path
) -> None:
    options = ("--module", small, "--precision", "int8", "-o", tmp_path / "x.csv")

    def classify(*more: object) -> list[Any]:
        run = mnv1("classify", folder / "3-00000.jpg", *options, "--force", *more)
        assert run.exit_code == 0, run.stderr
        meta = json.loads((tmp_path / "x.csv.meta.json").read_text())
        return [meta["engine"], meta["recipe"], len(meta.get("calibrated", ""))]

    assert classify() == ["openvino", "nncf", 64]
    assert classify("--engine", "litert") == ["litert", "dynamic", 0]
    described = {(model.engine, model.recipe) for model in
                 artifacts.list_models(network.predictor.module.fingerprint)}  # fmt: skip
    assert ("openvino", "nncf") in described
    assert ("litert", "dynamic") in described
    refused = mnv1("classify", folder / "3-00001.jpg", *options, "--append")
    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
    Classifier(small).quantize([str(folder)], 4, recipe="dynamic-calibrated")
    assert classify() == ["litert", "dynamic-calibrated", 64]
    assert classify("--engine", "openvino") == ["openvino", "nncf", 64]
    Classifier(small).quantize([str(folder)], 4, recipe="dynamic")
    assert classify() == ["litert", "dynamic", 0]


def test_model_for_openvino_is_near_float32(small: Path, network: Classifier, folder: Path) -> None:
    names = [str(folder / f"3-{i:05}.jpg") for i in range(COUNT)]
    computed, expected = network.logits(names), Classifier(small).logits(names)
    lengths = np.linalg.norm(computed, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((computed * expected).sum(1) / lengths).min() > 0.95
    assert not np.array_equal(computed, expected)


def test_model_is_left_out_where_openvino_is_not_installed(
    small: Path, network: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    module = network.predictor.module
    key = Classifier(small).quantize([str(folder)], 3, recipe="nncf-depthwise-float")
    assert compiled.choose_int8_engine(module, module.logits()) == key.engine == "openvino"
    monkeypatch.setattr(openvino_model, "is_available", lambda: False)
    assert compiled.choose_int8_engine(module, module.logits()) == "litert"
    assert "is not installed" in caplog.text
    assert [recipe.name for recipe in trials.choose_recipes(None, None)] == [*LITERT]
    with pytest.raises(EngineError, match="NNCF is not installed"):
        trials.choose_recipes("openvino", None)


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        # The fastest, unless it loses too many labels or too much of the cosine.
        ([(0.98, 0.999, 2.0), (0.97, 0.995, 1.0)], 1),
        ([(0.98, 0.999, 2.0), (0.95, 0.995, 1.0)], 0),
        ([(0.98, 0.999, 2.0), (0.98, 0.98, 1.0)], 0),
        ([(0.96, 0.999, 2.0), (0.945, 0.999, 1.0)], 0),
        ([(0.80, 0.999, 2.0), (0.79, 0.999, 1.0)], 1),
        # The same time: the better cosine.
        ([(0.98, 0.998, 1.0), (0.97, 0.999, 1.05)], 1),
        # No classes.
        ([(None, 0.999, 2.0), (None, 0.995, 1.0), (None, 0.9, 0.5)], 1),
        # The best in labels is not the best in the cosine.
        ([(0.99, 0.97, 2.0), (0.90, 0.999, 1.0)], 0),
    ],
)
def test_best_recipe_is_the_fastest_of_the_good(
    figures: list[tuple[float | None, float, float]], best: int
) -> None:
    tried = [Trial(str(i), "litert", "", *row) for i, row in enumerate(figures)]
    assert trials.choose_best(tried).recipe == str(best)


@pytest.mark.parametrize("options", [("--recipe", "x"), ("--engine", "litert", "--recipe", "nncf")])
def test_recipe_that_there_is_not_is_a_mistake_of_usage(
    folder: Path, options: tuple[str, ...]
) -> None:
    result = mnv1("module", "quantize", folder, "--module", "bundled", *options)
    assert result.exit_code == 2


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
