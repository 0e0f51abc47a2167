"""Int8 without calibration: the same model each time, rows of their own, any graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from mnv1cli.errors import ModuleError
from mnv1cli.inference.int8 import dynamic
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.modules.artifacts import CompiledModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from mnv1cli.types import FloatArray

    Layers = Callable[[Any], Any]

SIZE = 32


@pytest.fixture(scope="module")
def quantized(compiled_both: CompiledModel) -> CompiledModel:
    return dynamic.quantize_without_images(compiled_both, 128, "bundled")


def run(model: CompiledModel, images: FloatArray) -> FloatArray:
    return LiteRTModel(model.model, model.outputs, 1)(images)[model.outputs[0]]


def test_labels_are_those_of_float32(
    compiled_both: CompiledModel, quantized: CompiledModel, photo_pixels: FloatArray
) -> None:
    same = run(quantized, photo_pixels).argmax(1) == run(compiled_both, photo_pixels).argmax(1)
    assert same.sum() >= 86
    assert len(quantized.model) < 0.3 * len(compiled_both.model)


def test_same_module_gives_the_same_model(
    compiled_both: CompiledModel, quantized: CompiledModel
) -> None:
    again = dynamic.quantize_without_images(compiled_both, 128, "bundled")
    assert again.sha256 == quantized.sha256


@pytest.mark.parametrize("sizes", [[1] * 8, [3, 5], [8], [2, 1, 5]])
def test_a_row_does_not_depend_on_its_batch(
    quantized: CompiledModel, photo_pixels: FloatArray, sizes: list[int]
) -> None:
    whole = run(quantized, photo_pixels[:32])[:8]
    parts = np.split(photo_pixels[:8], np.cumsum(sizes)[:-1])
    # Interpreters keep what other images left, brighter ones too.
    model = LiteRTModel(quantized.model, quantized.outputs, 1)
    model(np.full((8, 128, 128, 3), 9, np.float32))
    computed = np.concatenate([model(part)["logits"] for part in parts])
    np.testing.assert_array_equal(computed, whole)


def test_noise_is_within_range_and_always_the_same() -> None:
    images = dynamic.make_noise(50, 3)
    assert images.shape == (3, 50, 50, 3)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images, dynamic.make_noise(50, 3))
    assert np.isfinite(dynamic.make_noise(1)).all()


# Other graphs


def constant(*shape: int, seed: int = 0) -> Any:
    return tf.constant(np.random.default_rng(seed).normal(size=shape).astype(np.float32) / 5)


KERNEL, SMALL, GROUPED = (
    constant(3, 3, 3, 64),
    constant(1, 1, 64, 64, seed=1),
    constant(3, 3, 16, 64),
)
LARGE = constant(3, 3, 64, 64, seed=2)


def convolve(images: Any, kernel: Any, **options: Any) -> Any:
    return tf.nn.conv2d(images, kernel, options.pop("strides", 1), "SAME", **options)


GRAPHS: dict[str, tuple[Layers, int]] = {
    # The layers, and how many of them run in int8.
    "small": (lambda x: convolve(convolve(x, KERNEL), SMALL), 2),
    "large": (lambda x: convolve(convolve(x, KERNEL), LARGE), 1),
    "shared": (lambda x: convolve(convolve(convolve(x, KERNEL), LARGE), LARGE), 1),
    "strides": (lambda x: tf.nn.relu6(convolve(x, KERNEL, strides=2) + constant(64)), 1),
    "dilated": (lambda x: convolve(convolve(x, KERNEL), LARGE, dilations=2), 1),
    "grouped": (lambda x: convolve(convolve(x, KERNEL), GROUPED), 1),
    "zero": (lambda x: convolve(convolve(x, KERNEL), LARGE * 0), 1),
}


def compile_graph(layers: Layers) -> CompiledModel:
    def compute(images: Any) -> Any:
        return {"output_0": tf.reduce_mean(layers(images), [1, 2])}

    owner = tf.Module()
    owner.compute = tf.function(compute, autograph=False)
    function = owner.compute.get_concrete_function(
        tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="images")
    )
    model = tf.lite.TFLiteConverter.from_concrete_functions([function], owner).convert()
    return CompiledModel(bytes(model), ("features",), "float32", "1/0")


@pytest.mark.parametrize("name", GRAPHS)
def test_any_convolution_becomes_int8_or_stays(name: str) -> None:
    layers, number = GRAPHS[name]
    floats = compile_graph(layers)
    integers = dynamic.quantize_without_images(floats, SIZE, name)
    assert integers.model.count(b"/bias") == number
    images = dynamic.make_noise(SIZE, 4)
    expected, computed = run(floats, images), run(integers, images)
    np.testing.assert_allclose(computed, expected, atol=0.05 * max(1e-6, np.abs(expected).max()))
    alone = np.concatenate([run(integers, images[i : i + 1]) for i in range(4)])
    np.testing.assert_array_equal(alone, computed)


def convolve_channels(images: Any) -> Any:
    return tf.nn.depthwise_conv2d(images, constant(3, 3, 3, 8), [1, 1, 1, 1], "SAME")


@pytest.mark.parametrize("layers", [tf.nn.relu, convolve_channels])
def test_graph_without_convolutions_is_refused_in_one_line(layers: Layers) -> None:
    floats = compile_graph(layers)
    with pytest.raises(ModuleError, match="no convolutions") as caught:
        dynamic.quantize_without_images(floats, SIZE, "x")
    assert "\n" not in str(caught.value)
