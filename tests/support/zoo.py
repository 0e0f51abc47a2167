"""Modules as others make them, with tiny networks: TF1 exports, and SavedModels of TF2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    # Makes the outputs of a signature of features [n, 8] and logits [n, classes].
    MakeOutputs = Callable[[Any, Any], Mapping[str, Any]]

SIZE = 32
CLASSES = 7
FEATURES = 8


def make_weights(classes: int = CLASSES) -> tuple[Any, Any]:
    """Make the weights of a network: a convolution of 3x3, and a last layer."""
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(3, 3, 3, FEATURES)).astype(np.float32)
    return kernel, generator.normal(size=(FEATURES, classes)).astype(np.float32)


def compute(images: Any, kernel: Any, head: Any) -> tuple[Any, Any]:
    """Compute the features and the logits of images."""
    import tensorflow as tf

    convolved = tf.nn.conv2d(tf.cast(images, tf.float32), kernel, 2, "SAME")
    features = tf.reduce_mean(tf.nn.relu(convolved), [1, 2])
    return features, features @ head


def write_tf1(
    directory: Path,
    make_outputs: MakeOutputs,
    signatures: Mapping[str, Sequence[str]],
    *,
    tags: Sequence[str] = (),
    dtype: str = "float32",
    batch: int | None = None,
    classes: int = CLASSES,
    input_key: str = "images",
) -> Path:
    """Write a module with TensorFlow 1's builder; `signatures` name outputs of each."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(dtype, [batch, SIZE, SIZE, 3], name="images")
        kernel, head = (
            v1.get_variable(f"net/{i}", initializer=weights)
            for i, weights in enumerate(make_weights(classes))
        )
        outputs = make_outputs(*compute(images, kernel, head))
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(directory))
        info = v1.saved_model.build_tensor_info
        definitions = {
            name: v1.saved_model.build_signature_def(
                {input_key: info(images)}, {key: info(outputs[key]) for key in keys}, "predict"
            )
            for name, keys in signatures.items()
        }
        builder.add_meta_graph_and_variables(session, list(tags), signature_def_map=definitions)
        builder.save()
    if not tags:
        (directory / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return directory


def write_hub(
    directory: Path, make_outputs: MakeOutputs, signature: str = "image_classification", **more: Any
) -> Path:
    """Write a module of the TF1 Hub format whose only signature has all the outputs."""
    keys = list(make_outputs(np.zeros((1, FEATURES)), np.zeros((1, CLASSES))))
    return write_tf1(directory, make_outputs, {signature: keys}, **more)


def write_tf2(
    directory: Path,
    make_outputs: MakeOutputs,
    *,
    dtype: str = "float32",
    shape: Sequence[int | None] = (None, SIZE, SIZE, 3),
    classes: int = CLASSES,
    signature: str = "serving_default",
) -> Path:
    """Write a SavedModel of TF2 with one signature."""
    import tensorflow as tf

    model = tf.Module()
    model.kernel, model.head = map(tf.Variable, make_weights(classes))
    spec = tf.TensorSpec(shape, dtype, name="images")

    def run(images: Any) -> Mapping[str, Any]:
        pixels = images if dtype == "float32" else tf.cast(images, tf.float32) / 255
        return make_outputs(*compute(pixels, model.kernel, model.head))

    model.run = tf.function(run, input_signature=[spec], autograph=False)
    tf.saved_model.save(model, str(directory), signatures={signature: model.run})
    return directory


def write_keras(
    keras: Any,
    directory: Path,
    make_outputs: Callable[[Any, Any], Any],
    shape: Sequence[int | None] = (SIZE, SIZE, 3),
    **more: Any,
) -> Path:
    """Write a functional model of Keras 3 or tf_keras; `more` goes to its input."""
    layers = keras.layers
    images = keras.Input(tuple(shape), **more)
    pixels = layers.Rescaling(1 / 255)(images) if more.get("dtype") == "uint8" else images
    convolved = layers.Conv2D(FEATURES, 3, 2, "same", activation="relu")(pixels)
    features = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(convolved))
    # Weights that are large enough for a clear winner.
    initializer = keras.initializers.RandomNormal(stddev=9.0, seed=1)
    logits = layers.Dense(CLASSES, kernel_initializer=initializer)(features)
    return save_keras(keras.Model(images, make_outputs(features, logits)), directory)


def save_keras(model: Any, directory: Path) -> Path:
    """Save a model as a SavedModel: Keras 3 exports it, tf_keras saves it to be called."""
    if type(model).__module__.startswith("tf_keras"):
        model.save(str(directory), save_format="tf")
    else:
        model.export(str(directory), verbose=False)
    return directory
