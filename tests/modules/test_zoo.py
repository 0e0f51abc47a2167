"""Modules as Keras 3, tf_keras, TensorFlow 2 and the exporters of TensorFlow 1 write them.

Each gives the same results on all engines, or is refused in one line.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from tests.support.shell import EXAMPLES, mnv1, run
from tests.support.zoo import (
    CLASSES,
    FEATURES,
    SIZE,
    save_keras,
    write_hub,
    write_keras,
    write_tf1,
    write_tf2,
)

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-3
Build = Callable[["Path"], "Path"]


class Taken(NamedTuple):
    """A module that is taken: the kind of its scores, and the length of its features."""

    scores: str | None
    features: int | None = None
    options: tuple[object, ...] = ()


def softmax(logits: Any) -> Any:
    import tensorflow as tf

    return tf.nn.softmax(logits)


def argmax(logits: Any) -> Any:
    import tensorflow as tf

    return tf.argmax(logits, 1)


def with_keras(make: Callable[[Any, Any, Any], Any], **more: Any) -> Build:
    """Build with Keras 3; `make` makes the outputs of its layers, features and logits."""

    def build(directory: Path) -> Path:
        import keras

        return write_keras(
            keras, directory, lambda features, logits: make(keras.layers, features, logits), **more
        )

    return build


def with_tf_keras(make: Callable[[Any, Any, Any], Any], **more: Any) -> Build:
    def build(directory: Path) -> Path:
        import tf_keras

        layers = tf_keras.layers
        return write_keras(
            tf_keras, directory, lambda features, logits: make(layers, features, logits), **more
        )

    return build


def with_module(make: Callable[[Any, Any], Any], **more: Any) -> Build:
    return lambda directory: write_tf2(directory, make, **more)


def with_builder(make: Callable[[Any, Any], Any], *keys: str, **more: Any) -> Build:
    signatures = {"serving_default": keys}
    return lambda directory: write_tf1(directory, make, signatures, tags=["serve"], **more)


def with_hub(make: Callable[[Any, Any], Any], **more: Any) -> Build:
    return lambda directory: write_hub(directory, make, **more)


def build_subclassed(directory: Path) -> Path:
    import keras

    class Network(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.convolution = keras.layers.Conv2D(4, 3, activation="relu")
            self.pool = keras.layers.GlobalMaxPooling2D()
            self.dropout = keras.layers.Dropout(0.5)
            self.head = keras.layers.Dense(CLASSES, activation="softmax")

        def call(self, images: Any, training: bool = False) -> Any:
            pooled = self.pool(self.convolution(images))
            return self.head(self.dropout(pooled, training=training))

    model = Network()
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return save_keras(model, directory)


def build_sequential(directory: Path) -> Path:
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            # The first layers of many tutorials: pixels from 0 to 255.
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    return save_keras(model, directory)


def build_application(directory: Path) -> Path:
    import keras

    model = keras.applications.MobileNet((SIZE, SIZE, 3), alpha=0.25, weights=None, classes=1000)
    return save_keras(model, directory)


def build_two_inputs(directory: Path) -> Path:
    import keras

    images, extra = keras.Input((SIZE, SIZE, 3), name="images"), keras.Input((4,), name="extra")
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    joined = keras.layers.Concatenate()([pooled, extra])
    model = keras.Model([images, extra], keras.layers.Dense(CLASSES)(joined))
    return save_keras(model, directory)


def build_callable(directory: Path) -> Path:
    """A saved object that is called with a flag for training, and has no signature."""
    import tensorflow as tf

    from tests.support.zoo import compute, make_weights

    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel, self.head = map(tf.Variable, make_weights())

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([], tf.bool)],
            autograph=False,
        )
        def __call__(self, images: Any, training: Any) -> Any:
            return compute(images, self.kernel, self.head)[1] + tf.cast(training, tf.float32)

    tf.saved_model.save(Module(), str(directory))
    return directory


def build_empty(directory: Path) -> Path:
    import tensorflow as tf

    module = tf.Module()
    module.unused = tf.Variable(1.0)
    tf.saved_model.save(module, str(directory))
    return directory


def build_two_signatures(directory: Path) -> Path:
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec([None, SIZE, SIZE, 3])
    module.run = tf.function(lambda images: {"y": images[:, 0, 0]}, input_signature=[spec])
    tf.saved_model.save(module, str(directory), signatures={"a": module.run, "b": module.run})
    return directory


def soften(layers: Any, _: Any, logits: Any) -> Any:
    return layers.Softmax()(logits)


LOGITS, PROBABILITIES = "logits", "probabilities"
SIZED = ("--image-size", SIZE)

TAKEN: dict[str, tuple[Build, Taken]] = {
    "keras-softmax": (with_keras(soften), Taken(PROBABILITIES, CLASSES)),
    "keras-any-size": (
        with_keras(soften, shape=(None, None, 3)), Taken(PROBABILITIES, CLASSES, SIZED)
    ),
    "keras-batch-of-1": (with_keras(soften, batch_size=1), Taken(PROBABILITIES, CLASSES)),
    "keras-dictionary": (
        with_keras(
            lambda layers, f, x: {LOGITS: x, PROBABILITIES: layers.Softmax()(x), "features": f}
        ),
        Taken(LOGITS, FEATURES),
    ),
    "keras-only-vector": (
        with_keras(
            lambda layers, f, x: {"a": layers.Softmax()(x), "b": layers.Reshape((1, 1, 8))(f)}
        ),
        Taken(PROBABILITIES),
    ),
    "keras-subclassed": (build_subclassed, Taken(PROBABILITIES, CLASSES)),
    "keras-sequential": (
        build_sequential, Taken(LOGITS, CLASSES, ("--input-range", "0,255"))
    ),
    "keras-application": (build_application, Taken(PROBABILITIES, 1000)),
    "tf_keras-softmax": (with_tf_keras(soften), Taken(PROBABILITIES, CLASSES)),
    "tf_keras-dictionary": (
        with_tf_keras(lambda _, f, x: {"Logits": x, "Embedding": f}), Taken(LOGITS, FEATURES)
    ),
    "module-estimator": (
        with_module(lambda _, x: {LOGITS: x, PROBABILITIES: softmax(x), "classes": argmax(x)}),
        Taken(LOGITS),
    ),
    "module-probabilities": (
        with_module(lambda _, x: {PROBABILITIES: softmax(x), "classes": argmax(x)}),
        Taken(PROBABILITIES),
    ),
    "module-default": (
        with_module(lambda f, x: {"default": x, "feature_vector": f}), Taken(LOGITS, FEATURES)
    ),
    "module-other-signature": (
        with_module(lambda _, x: {"y": x}, signature="predict"), Taken(LOGITS, CLASSES)
    ),
    "module-callable": (build_callable, Taken(LOGITS, CLASSES, SIZED)),
    "builder-scores": (
        with_builder(lambda _, x: {"scores": softmax(x)}, "scores", input_key="inputs"),
        Taken(PROBABILITIES, CLASSES),
    ),
    "hub-outputs": (
        with_hub(lambda _, x: {LOGITS: x, PROBABILITIES: softmax(x), "classes": argmax(x)}),
        Taken(LOGITS),
    ),
    "hub-float64": (with_hub(lambda _, x: {"default": cast(x, "float64")}), Taken(LOGITS)),
    "hub-float16": (
        with_hub(lambda _, x: {"default": cast(softmax(x), "float16")}), Taken(PROBABILITIES)
    ),
}  # fmt: skip


def cast(tensor: Any, dtype: str) -> Any:
    import tensorflow as tf

    return tf.cast(tensor, dtype)


REFUSED: dict[str, tuple[Build, str]] = {
    "keras-uint8": (with_keras(soften, dtype="uint8"), "takes images as uint8, which is not"),
    "keras-gray": (with_keras(soften, shape=(SIZE, SIZE, 1)), "takes images of 1 channel, which"),
    "keras-wide": (with_keras(soften, shape=(SIZE, 48, 3)), "of 32x48, not square ones"),
    "keras-list": (
        with_keras(lambda _, f, x: [x, f]),
        "gives output_0, output_1, and it is not clear which are the scores of classes",
    ),
    "keras-two-inputs": (build_two_inputs, "takes extra, images, and not only images"),
    "tf_keras-uint8": (with_tf_keras(soften, dtype="uint8"), "takes images as uint8, which"),
    "module-classes": (
        with_module(lambda _, x: {"classes": argmax(x)}),
        "gives classes as int64, and it is not clear which are the scores",
    ),
    "module-uint8": (
        with_module(lambda _, x: {LOGITS: x}, dtype="uint8"), "takes images as uint8, which"
    ),
    "module-empty": (build_empty, "has neither a call nor a signature that serves"),
    "module-two-signatures": (
        build_two_signatures,
        "neither a call nor a signature that serves; it has a, b, and none is 'serving_default'",
    ),
    "module-no-classes": (
        with_module(lambda _, x: {LOGITS: x[:, :0]}), "gives logits of the shape [-1, 0]"
    ),
    "module-scalar": (
        with_module(lambda _, x: {LOGITS: x[0, 0]}), "gives logits of the shape []"
    ),
    "hub-classes": (
        with_hub(lambda _, x: {"default": argmax(x)}), "gives 'default' as int64, which are no"
    ),
    "hub-input": (
        with_hub(lambda _, x: {"default": x}, input_key="inputs"),
        "does not lead from 'images' to 'default'; it leads from inputs to default",
    ),
    "hub-default-only": (
        with_hub(lambda _, x: {"default": x}, signature="default"),
        "has neither a signature 'image_classification' nor 'image_feature_vector'",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The names of seven classes."""
    file = tmp_path_factory.mktemp("labels") / "labels.txt"
    file.write_text("".join(f"class {i}\n" for i in range(CLASSES)))
    return file


def compute_with_all(words: list[object], tmp_path: Path) -> np.ndarray:
    """Return the values of a command, after comparing the engines."""
    values = []
    for engine in ("litert", "openvino", "tf"):
        file = tmp_path / f"{engine}.npy"
        run(*words, "--engine", engine, "-o", file, "--force")
        values.append(np.load(file))
    assert max(np.abs(value - values[0]).max() for value in values[1:]) < TOLERANCE
    result: np.ndarray = values[0]
    return result


@pytest.mark.parametrize("name", TAKEN)
def test_all_engines_give_the_same(name: str, tmp_path: Path, cache: Path, labels: Path) -> None:
    build, expected = TAKEN[name]
    # A path must not contain words that say what a module is.
    module = build(tmp_path / "m")
    words: list[object] = [EXAMPLES, "--module", module, *expected.options]
    probabilities = compute_with_all(["logits", *words, "--probabilities"], tmp_path)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-3)
    size = SIZED if "--image-size" in expected.options else ()
    facts = json.loads(run("module", "show", module, *size, "--json").stdout)
    assert (facts["scores"], facts["classes"]) == (expected.scores, probabilities.shape[1])
    assert facts["features"] == expected.features
    if expected.scores == LOGITS:
        scores = compute_with_all(["logits", *words], tmp_path).astype(float)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        np.testing.assert_allclose(
            powers / powers.sum(axis=1, keepdims=True), probabilities, atol=1e-5
        )
    if expected.features is not None:
        assert compute_with_all(["embed", *words], tmp_path).shape[1] == expected.features
    names = ("--labels", labels) if probabilities.shape[1] == CLASSES else ()
    lines = run("classify", *words, *names, "-f", "jsonl", "--top", 1).stdout.splitlines()
    best = [json.loads(line)["predictions"][0] for line in lines]
    assert [p["class_id"] for p in best] == probabilities.argmax(axis=1).tolist()
    np.testing.assert_allclose(
        [p["probability"] for p in best], probabilities.max(axis=1), atol=1e-6
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_in_one_line(
    name: str, tmp_path: Path, cache: Path
) -> None:
    build, fault = REFUSED[name]
    module = build(tmp_path / "m")
    for words in (("classify",), ("logits", "--engine", "tf"), ("module", "quantize")):
        result = mnv1(*words, EXAMPLES, "--module", module)
        assert result.exit_code == 1
        errors = [line for line in result.stderr.splitlines() if not line.endswith("(once)")]
        (line,) = errors
        assert line.startswith("mnv1: error: ")
        assert fault in line


def test_scores_with_height_and_width_are_refused(tmp_path: Path, cache: Path) -> None:
    module = write_tf2(tmp_path / "m", lambda _, x: {LOGITS: x[:, None, None]})
    for command in ("classify", "logits"):
        result = mnv1(command, EXAMPLES, "--module", module)
        assert result.exit_code == 1
        assert "gives scores of the shape [n, 1, 1, 7], not [n, classes]" in result.stderr


def test_1000_classes_have_the_names_without_the_background(tmp_path: Path, cache: Path) -> None:
    module = write_hub(tmp_path / "m", lambda _, x: {"default": x}, classes=1000)
    words = ("classify", EXAMPLES, "--module", module, "--top", 1000)
    result = run(*words, "-o", tmp_path / "labels.jsonl")
    remarks = [line for line in result.stderr.splitlines() if "1000 classes" in line]
    (remark,) = remarks
    assert "without the background" in remark
    line = (tmp_path / "labels.jsonl").read_text().splitlines()[0]
    names = {p["class_id"]: (p["wnid"], p["label"]) for p in json.loads(line)["predictions"]}
    assert sorted(names) == list(range(1000))
    assert names[0] == ("n01440764", "tench")
    assert names[999] == ("n15075141", "toilet tissue")
    metadata = json.loads((tmp_path / "labels.jsonl.meta.json").read_bytes())
    assert len(metadata["labels"]) == 64
    # The truth in ids of the module's own, by WordNet id, and of an existing result.
    best = [json.loads(text) for text in (tmp_path / "labels.jsonl").read_text().splitlines()]
    for column in ("class_id", "wnid"):
        rows = [f"{p['path']},{p['predictions'][0][column]}\n" for p in best]
        truth = tmp_path / f"{column}.csv"
        truth.write_text("path,label\n" + "".join(rows))
        for source in ((EXAMPLES, "--module", module), ("--from", tmp_path / "labels.jsonl")):
            figures = json.loads(run("evaluate", *source, "--truth", truth, "--json").stdout)
            assert (figures["n"], figures["top1"]) == (3, 1)
    scores = tmp_path / "scores.npy"
    run("logits", EXAMPLES, "--module", module, "-o", scores)
    figures = json.loads(run("evaluate", "--from", scores, "--truth", truth, "--json").stdout)
    assert figures["top1"] == 1
    run("report", scores, "--truth", truth, "-o", tmp_path / "page.html")
    bench = run("bench", EXAMPLES, "--images", 4, "--module", module, "--threads", 1)
    assert bench.stderr.count("1000 classes") == 1
    own = tmp_path / "own.txt"
    own.write_text("".join(f"mine {i}\n" for i in range(1000)))
    result = run(*words[:4], "--labels", own, "-f", "csv", "--top", 1)
    assert "1000 classes" not in result.stderr
    assert "mine " in result.stdout


def test_scores_that_are_no_numbers_are_counted_as_failures(
    tmp_path: Path, cache: Path, labels: Path
) -> None:
    module = write_hub(tmp_path / "m", lambda _, x: {"default": x * np.nan})
    truth = tmp_path / "truth.csv"
    truth.write_text("path,label\n" + "".join(f"{p},class 1\n" for p in EXAMPLES.iterdir()))
    words = ("--module", module, "--labels", labels, "--truth", truth)
    result = mnv1("evaluate", EXAMPLES, *words)
    assert result.exit_code == 1
    assert "nothing can be evaluated: 3 images failed" in result.stderr


def test_a_loop_over_images_has_no_int8(tmp_path: Path, own_cache: Path) -> None:
    # TensorFlow's calibration ends the process without a word.
    import tensorflow as tf

    module = write_tf2(tmp_path / "m", lambda _, x: {LOGITS: tf.map_fn(lambda row: row * 2, x)})
    result = mnv1("module", "quantize", EXAMPLES, "--module", module, "--recipe", "static")
    assert result.exit_code == 1
    assert "has loops over lists, which have no int8" in result.stderr
    compute_with_all(["logits", EXAMPLES, "--module", module], tmp_path)


def test_other_commands_take_a_keras_model(tmp_path: Path, own_cache: Path, labels: Path) -> None:
    module = TAKEN["keras-softmax"][0](tmp_path / "m")
    run("module", "quantize", EXAMPLES, "--module", module)
    words = ("classify", EXAMPLES, "--module", module, "--labels", labels, "--top", 1)
    small = run(*words, "--precision", "int8", "-f", "csv").stdout.splitlines()
    large = run(*words, "-f", "csv").stdout.splitlines()
    assert len(small) == len(large) == 4
    assert "end to end" in run("bench", EXAMPLES, "--images", 4, "--module", module).stdout
    result = mnv1("finetune", EXAMPLES.parent, "--module", module, "-o", tmp_path / "tuned")
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
