"""From a module to a model for LiteRT: the same results, from every kind of module."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.errors import ModuleError
from mnv1cli.inference import convert
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules import inspection
from mnv1cli.types import FetchOptions
from tests.modules.test_savedmodel import save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import FloatArray

CLOSE = 1e-3


@pytest.fixture(scope="module")
def both(compiled_both: CompiledModel) -> LiteRTModel:
    return ready(compiled_both)


@pytest.fixture(scope="module")
def images() -> FloatArray:
    return np.random.default_rng(5).random((3, 128, 128, 3), dtype=np.float32)


def ready(compiled: CompiledModel) -> LiteRTModel:
    return LiteRTModel(compiled.model, compiled.outputs, workers=1)


def farthest(
    model: LiteRTModel, found: HubModule, outputs: Sequence[Output], images: FloatArray
) -> float:
    """How far any value is from the module's own, for values of about 1."""
    ours, theirs = model(images), TensorFlowModel(found, outputs)(images)
    assert {name: v.shape for name, v in ours.items()} == {n: v.shape for n, v in theirs.items()}
    scale = max(1.0, *(float(np.abs(values).max()) for values in theirs.values()))
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs) / scale


def test_engines_agree_on_the_photos(
    both: LiteRTModel, bundled_module: HubModule, photo_pixels: FloatArray
) -> None:
    reference = TensorFlowModel(bundled_module, bundled_module.main_outputs())
    ours, theirs = both(photo_pixels), reference(photo_pixels)
    np.testing.assert_allclose(ours["logits"], theirs["logits"], rtol=0, atol=CLOSE)
    np.testing.assert_allclose(ours["features"], theirs["features"], rtol=0, atol=CLOSE)
    np.testing.assert_array_equal(ours["logits"].argmax(1), theirs["logits"].argmax(1))


def test_reference_results_are_near(both: LiteRTModel, shared: Path) -> None:
    reference = np.load(shared / "reference.npz")
    results = both(reference["pixels"])
    np.testing.assert_allclose(results["logits"], reference["logits"][:4], atol=0.02)
    np.testing.assert_allclose(results["features"], reference["features"][:4], atol=0.01)


def test_one_output_alone_is_that_of_both_in_one_pass(
    both: LiteRTModel, bundled_module: HubModule, compiled_both: CompiledModel, images: FloatArray
) -> None:
    features = convert.compile_module(bundled_module, [bundled_module.features()])
    np.testing.assert_array_equal(ready(features)(images)["features"], both(images)["features"])
    # The classifier's weights are left out.
    assert len(features.model) < len(compiled_both.model) - 1024 * 1001 * 3


def test_hidden_layer_is_that_of_the_module_and_prunes_the_rest(
    bundled_module: HubModule, compiled_both: CompiledModel, images: FloatArray
) -> None:
    output = bundled_module.endpoint("Conv2d_5_pointwise")
    compiled = convert.compile_module(bundled_module, [output])
    assert compiled.outputs == ("MobilenetV1/Conv2d_5_pointwise",)
    assert len(compiled.model) < len(compiled_both.model) / 10
    model = ready(compiled)
    assert model(images)[output.name].shape == (3, 16, 16, 256)
    assert farthest(model, bundled_module, [output], images) < CLOSE


def test_genuine_feature_module(shared: Path, photo_pixels: FloatArray) -> None:
    found = inspection.open_module(str(shared / "hub" / "feature_vector.tar.gz"))
    compiled = convert.compile_module(found, [found.features()])
    assert farthest(ready(compiled), found, [found.features()], photo_pixels[:16]) < CLOSE


@pytest.mark.parametrize("kind", ["call", "call with training", "signature", "frozen"])
@pytest.mark.parametrize("key", ["logits", "feature_vector"])
def test_every_form_of_a_tf2_model(tmp_path: Path, kind: str, key: str) -> None:
    name = "classification" if key == "logits" else "feature_vector"
    found = inspection.open_module(str(save(tmp_path / name, kind, key=key)), image_size=96)
    images = np.random.default_rng(0).random((5, 96, 96, 3), dtype=np.float32)
    compiled = convert.compile_module(found, found.main_outputs())
    assert farthest(ready(compiled), found, found.main_outputs(), images) < CLOSE


def test_model_that_is_classifier_and_features_in_one_has_both(tmp_path: Path) -> None:
    found = inspection.open_module(str(save(tmp_path / "m", "frozen")), image_size=96)
    assert len(found.main_outputs()) == 2
    compiled = convert.compile_module(found, found.main_outputs())
    images = np.random.default_rng(0).random((2, 96, 96, 3), dtype=np.float32)
    results = ready(compiled)(images)
    np.testing.assert_array_equal(results["logits"], results["features"])
    assert farthest(ready(compiled), found, found.main_outputs(), images) < CLOSE


def test_compiled_model_says_how_it_came_about(
    compiled_both: CompiledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compiled_both.outputs == ("logits", "features")
    assert (compiled_both.precision, compiled_both.calibration) == ("float32", None)
    assert compiled_both.converter == convert.version()
    assert convert.is_current(compiled_both)
    other_tensorflow = dataclasses.replace(compiled_both, converter=f"{convert.REVISION}/0.0")
    assert not convert.is_current(other_tensorflow)
    assert convert.is_usable(other_tensorflow)
    monkeypatch.setattr(convert, "REVISION", convert.REVISION + 1)
    assert not convert.is_current(compiled_both)
    assert not convert.is_usable(compiled_both)


def test_version_names_the_tensorflow_that_is_there() -> None:
    import tensorflow as tf

    assert convert.version() == f"{convert.REVISION}/{tf.__version__}"


def test_conversion_gives_the_same_model_again(
    bundled_module: HubModule, images: FloatArray, both: LiteRTModel
) -> None:
    again = ready(convert.compile_module(bundled_module, bundled_module.main_outputs()))
    for name, values in both(images).items():
        np.testing.assert_array_equal(again(images)[name], values)


# int8


@pytest.fixture(scope="module")
def quantized(bundled_module: HubModule, photo_pixels: FloatArray) -> CompiledModel:
    some = (image[None] for image in photo_pixels[::4])
    outputs = bundled_module.main_outputs()
    return convert.quantize_module(bundled_module, outputs, some, {"samples": 24})


def test_int8_is_near_float32_and_a_quarter_of_its_size(
    quantized: CompiledModel,
    both: LiteRTModel,
    compiled_both: CompiledModel,
    photo_pixels: FloatArray,
) -> None:
    ours, theirs = (model(photo_pixels)["logits"] for model in (ready(quantized), both))
    assert ours.dtype == np.float32
    agreement = float((ours.argmax(1) == theirs.argmax(1)).mean())
    assert agreement >= 0.7
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95
    assert len(quantized.model) < 0.3 * len(compiled_both.model)


def test_int8_says_how_it_came_about(quantized: CompiledModel) -> None:
    assert (quantized.precision, quantized.calibration) == ("int8", {"samples": 24})
    assert quantized.outputs == ("logits", "features")


def test_row_of_int8_does_not_depend_on_its_batch(
    quantized: CompiledModel, photo_pixels: FloatArray
) -> None:
    model = ready(quantized)
    whole = model(photo_pixels[:12])["logits"]
    for size in (1, 5):
        parts = [model(photo_pixels[i : min(i + size, 12)])["logits"] for i in range(0, 12, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


# What cannot be compiled


def saved(directory: Path, score: Callable[[Any], Any]) -> HubModule:
    """A TF2 model that scores images of 32x32 in some way of its own, whatever that runs."""
    import tensorflow as tf

    network = tf.Module()
    spec = tf.TensorSpec([None, 32, 32, 3], tf.float32)
    network.__call__ = tf.function(score, input_signature=[spec])
    tf.saved_model.save(network, str(directory))
    return inspection.open_module(str(directory), FetchOptions(trust=True), image_size=32)


def test_operation_that_litert_lacks_is_told_in_one_line(tmp_path: Path) -> None:
    import tensorflow as tf

    found = saved(tmp_path / "m", lambda images: tf.linalg.svd(images[:, :, :, 0])[0])
    with pytest.raises(ModuleError, match="cannot be compiled for LiteRT") as caught:
        convert.compile_module(found, [found.logits()])
    assert "\n" not in str(caught.value)
    assert "--engine tf" in caught.value.remedy


def test_module_that_gives_other_results_compiled_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def random(images: Any) -> Any:
        return tf.reduce_mean(images, [1, 2]) + tf.random.uniform([3])

    found = saved(tmp_path / "m", random)
    with pytest.raises(ModuleError, match="gives different logits") as caught:
        convert.compile_module(found, [found.logits()])
    assert "--engine tf" in caught.value.remedy
