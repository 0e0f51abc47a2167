"""TF2 SavedModels: with a call or only a signature, trainable or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.errors import ModuleError, SignatureError
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules import files, inspection, locate
from tests.conftest import ROOT
from tests.support.shell import mnv1, rows

if TYPE_CHECKING:
    from pathlib import Path

PHOTOS = ROOT / "examples" / "photos"


def save(directory: Path, kind: str, size: int | None = 96, key: str = "logits") -> Path:
    """Save a small network of one layer in one of the forms of TF2 models."""
    import tensorflow as tf

    width = 1001 if key == "logits" else 24
    shape = [None, size, size, 3]
    rng = np.random.default_rng(4)

    class Network(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            kernel = rng.normal(size=(3 * 16, width)).astype(np.float32)
            self.kernel = tf.Variable(kernel, trainable=kind != "frozen")

        def score(self, images: Any) -> Any:
            small = tf.image.resize(images, [4, 4])
            return tf.reshape(small, [-1, 48]) @ self.kernel

    network = Network()
    spec = tf.TensorSpec(shape, tf.float32, name="inputs")
    if kind == "call with training":

        @tf.function  # type: ignore[untyped-decorator]
        def call(images: Any, training: bool = False) -> Any:
            return network.score(images) + (100.0 if training else 0.0)

        network.__call__ = call
        for training in (False, True):
            call.get_concrete_function(spec, training=training)
    elif kind in ("call", "frozen"):
        network.__call__ = tf.function(network.score, input_signature=[spec])
    serving = tf.function(lambda inputs: {key: network.score(inputs)}, input_signature=[spec])
    network.serving = serving
    signatures = serving if kind in ("signature", "call") else None
    tf.saved_model.save(network, str(directory), signatures=signatures)
    return directory


def compute_expected(directory: Path, images: Any) -> Any:
    import tensorflow as tf

    kernel = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    names = [n for n in kernel.get_variable_to_shape_map() if "kernel" in n]
    small = tf.reshape(tf.image.resize(images, [4, 4]), [-1, 48])
    return (small @ kernel.get_tensor(names[0])).numpy()


@pytest.mark.parametrize("kind", ["call", "call with training", "signature", "frozen"])
@pytest.mark.parametrize("key", ["logits", "feature_vector"])
def test_every_form_gives_its_values(tmp_path: Path, kind: str, key: str) -> None:
    name = "classification" if key == "logits" else "feature_vector"
    directory = save(tmp_path / name, kind, key=key)
    found = inspection.open_module(str(directory), image_size=96)
    assert found.format == "TF2 SavedModel"
    output = found.logits() if key == "logits" else found.features()
    model = TensorFlowModel(found, [output])
    images = np.random.default_rng(0).random((3, 96, 96, 3), dtype=np.float32)
    values = model(images)[output.name]
    np.testing.assert_allclose(values, compute_expected(directory, images), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(model(images[:1])[output.name], values[:1])


def test_a_feature_model_is_no_classifier(tmp_path: Path) -> None:
    directory = save(tmp_path / "m", "signature", key="feature_vector")
    found = inspection.open_module(str(directory))
    assert (found.classes(), found.feature_length(), found.image_size) == (None, 24, 96)
    with pytest.raises(SignatureError, match="image_feature_vector"):
        found.logits()


def test_image_size_comes_from_the_name_or_the_option_where_the_shape_is_open(
    tmp_path: Path,
) -> None:
    directory = save(tmp_path / "m", "signature", size=None)
    with pytest.raises(ModuleError, match="--image-size"):
        inspection.open_module(str(directory))
    assert inspection.open_module(str(directory), image_size=64).logits().images.shape[1] == 64
    named = locate.LocatedModule("https://h/mobilenet_v1_050_160/classification/4", directory)
    assert inspection.read_module(named).image_size == 160


def test_commands_take_a_tf2_model(tmp_path: Path) -> None:
    directory = save(tmp_path / "m", "call with training")
    run = ("--module", directory, "--image-size", 96)
    result = mnv1("classify", PHOTOS, *run, "-f", "csv", "--top", 1)
    assert result.exit_code == 0, result.stderr
    assert len(rows(result.stdout)) == 3
    facts = json.loads(mnv1("module", "show", directory, "--image-size", 96, "--json").stdout)
    assert facts["format"] == "TF2 SavedModel"
    assert facts["tags"] == [["serve"]]
    assert facts["fingerprint"] == files.compute_fingerprint(directory)


def test_a_model_that_takes_no_images_is_refused_in_one_line(tmp_path: Path) -> None:
    import tensorflow as tf

    network = tf.Module()
    network.__call__ = tf.function(
        tf.strings.length, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    tf.saved_model.save(network, str(tmp_path / "m"))
    result = mnv1("classify", PHOTOS, "--module", tmp_path / "m", "--image-size", 96)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
