"""Exported models give the module's values in other programs, by their description alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli import Classifier
from mnv1cli.errors import ModuleError
from mnv1cli.inference.export import onnx
from mnv1cli.inference.export.export import export_module
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.settings import Settings
from mnv1cli.labels.names import imagenet, read_labels
from mnv1cli.modules import mobilenet
from mnv1cli.modules.files import LABELS_ASSET
from mnv1cli.types import Variant
from tests.modules.test_mobilenet import make_random_variables
from tests.support import exported, zoo
from tests.support.shell import EXAMPLES, mnv1, run

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-3
FORMATS = ("tflite", "onnx", "savedmodel")
NAMES = {"tflite": "model.tflite", "onnx": "model.onnx", "savedmodel": "model"}
PICTURES = sorted(EXAMPLES.iterdir())
SMALL = 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundled module in each of the formats."""
    folder = tmp_path_factory.mktemp("models")
    paths = {chosen: folder / NAMES[chosen] for chosen in FORMATS}
    for path in paths.values():
        run("module", "export", "bundled", "-o", path)
    return paths


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small module for seven classes, with their names as `finetune` writes them."""
    directory = tmp_path_factory.mktemp("small") / "module"
    directory.mkdir()
    mobilenet.write_module(directory, make_random_variables(0.25, 7), Variant(0.25, SMALL))
    (directory / LABELS_ASSET).write_text("class_id,wnid,label\n" + "".join(
        f"{i},,Katze Nr. {i}\n" for i in range(7)))  # fmt: skip
    return directory


def require_equal(model: Path, photos: list[Path], expected: Any) -> None:
    computed = exported.run(model, photos)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(computed, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("chosen", FORMATS)
def test_logits_of_pictures_by_the_description_alone(models: dict[str, Path], chosen: str) -> None:
    require_equal(models[chosen], PICTURES, Classifier("bundled").logits(PICTURES))


@pytest.mark.parametrize("chosen", FORMATS)
def test_logits_of_photos_by_the_description_alone(
    models: dict[str, Path], photos: Path, chosen: str
) -> None:
    twenty = sorted(photos.iterdir())[:20]
    require_equal(models[chosen], twenty, Classifier("bundled").logits(twenty))


@pytest.mark.parametrize("chosen", FORMATS)
def test_description_says_what_was_exported(
    models: dict[str, Path], chosen: str, bundled_module: Any
) -> None:
    description = exported.describe(models[chosen])
    assert description["format"] == chosen
    assert description["precision"] == "float32"
    assert description["module"] == {
        "handle": "bundled",
        "fingerprint": bundled_module.fingerprint,
        "image_size": 128,
    }
    assert description["input"]["shape"] == [None, 128, 128, 3]
    (output,) = description["outputs"]
    assert (output["name"], output["meaning"]) == ("logits", "logits")
    assert description["classes"][285] == {
        "index": 285,
        "wnid": "n02123597",
        "label": "Siamese cat",
    }
    assert len(description["classes"]) == 1001
    sums = description["sha256"]
    if chosen == "savedmodel":
        assert set(sums) == {
            str(path.relative_to(models[chosen]))
            for path in models[chosen].rglob("*")
            if path.is_file()
        }
    else:
        assert sums == hashlib.sha256(models[chosen].read_bytes()).hexdigest()


def test_tflite_goes_by_names_without_a_signature_as_well(models: dict[str, Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(models["tflite"]))
    interpreter.allocate_tensors()
    (images,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (images["name"], logits["name"]) == ("images", "logits")
    assert (images["shape"].tolist(), logits["shape"].tolist()) == ([1, 128, 128, 3], [1, 1001])


def test_tflite_is_aligned_as_its_schema_asks(models: dict[str, Path]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    data = np.fromfile(models["tflite"], np.uint8)
    model = schema.Model.GetRootAs(data.tobytes(), 0)
    raw = models["tflite"].read_bytes()
    starts = [
        raw.find(model.Buffers(i).DataAsNumpy().tobytes())
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength() > 1000
    ]
    assert len(starts) > 20
    assert {start % 16 for start in starts} == {0}


def test_onnx_is_valid_for_batches_of_any_size(models: dict[str, Path]) -> None:
    import onnx as onnx_format

    model = onnx_format.load(models["onnx"])
    onnx_format.checker.check_model(model, full_check=True)
    for value, name in ((model.graph.input, "images"), (model.graph.output, "logits")):
        (only,) = value
        assert only.name == name
        assert only.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_savedmodel_serves_keras_tensorflow_and_the_hub_library(models: dict[str, Path]) -> None:
    import keras
    import tensorflow as tf

    pixels = np.random.default_rng(1).random((2, 128, 128, 3), dtype=np.float32)
    loaded = tf.saved_model.load(str(models["savedmodel"]), tags="serve")
    expected = loaded.signatures["serving_default"](images=pixels)["logits"].numpy()
    layer = keras.layers.TFSMLayer(models["savedmodel"], call_endpoint="serving_default")
    np.testing.assert_allclose(layer(pixels)["logits"], expected, atol=TOLERANCE)
    np.testing.assert_allclose(loaded(pixels), expected, atol=TOLERANCE)


def test_savedmodel_is_a_module_again(models: dict[str, Path], small: Path, tmp_path: Path) -> None:
    assert read_labels(models["savedmodel"] / LABELS_ASSET) == imagenet()
    run("module", "export", small, "-o", tmp_path / "again")
    first, again = Classifier(small), Classifier(tmp_path / "again", engine="tf")
    np.testing.assert_allclose(again.logits(PICTURES), first.logits(PICTURES), atol=1e-4)
    assert again.predictor.module.image_size == SMALL
    assert again.classify(PICTURES, 7)[0][6].label.startswith("Katze Nr. ")


@pytest.mark.parametrize("chosen", ["tflite", "onnx"])
def test_same_module_gives_the_same_bytes(small: Path, tmp_path: Path, chosen: str) -> None:
    predictor = Predictor(small)
    paths = [tmp_path / f"{name}.{chosen}" for name in ("first", "second")]
    for path in paths:
        export_module(predictor, path, endpoint="Conv2d_1_pointwise")
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("chosen", "endpoint", "pool"),
    [
        *((chosen, "Conv2d_1_pointwise", True) for chosen in FORMATS),
        ("tflite", "MobilenetV1/Conv2d_1_pointwise", False),
        ("onnx", "features", True),
    ],
)
def test_other_layers_are_what_embed_gives(
    small: Path, tmp_path: Path, chosen: str, endpoint: str, pool: bool
) -> None:
    model = tmp_path / NAMES[chosen]
    options = () if pool else ("--no-pool",)
    run("module", "export", small, "-o", model, "--endpoint", endpoint, *options)
    layer = "" if endpoint == "features" else endpoint
    require_equal(model, PICTURES, Classifier(small).embed(PICTURES, layer, pool))
    description = exported.describe(model)
    (output,) = description["outputs"]
    assert output["name"] == endpoint.rpartition("/")[2]
    assert output["meaning"] == ("layer" if layer else "features")
    assert description["classes"] is None


def test_int8_is_the_calibrated_model(small: Path, tmp_path: Path, own_cache: Path) -> None:
    first = tmp_path / "first.tflite"
    run("module", "export", small, "-o", first, "--precision", "int8")
    description = exported.describe(first)
    assert (description["recipe"], description.get("calibrated")) == ("dynamic", None)
    integers = Classifier(small, engine="litert", precision="int8")
    require_equal(first, PICTURES, integers.logits(PICTURES))
    Classifier(small).quantize(PICTURES, recipe="dynamic-calibrated")
    integers = Classifier(small, precision="int8")
    for endpoint, expected in (
        ("logits", integers.logits(PICTURES)),
        ("features", integers.embed(PICTURES)),
    ):
        model = tmp_path / f"{endpoint}.tflite"
        run("module", "export", small, "-o", model, "--precision", "int8", "--endpoint", endpoint)
        require_equal(model, PICTURES, expected)
        assert exported.describe(model)["precision"] == "int8"
    # Both are of one calibration; without the last layer the features need fewer bytes.
    logits, features = (exported.describe(tmp_path / f"{name}.tflite")
                        for name in ("logits", "features"))  # fmt: skip
    assert logits["calibrated"] == features["calibrated"]
    assert logits["size"] > features["size"]
    for chosen in ("onnx", "savedmodel"):
        result = mnv1("module", "export", small, "-o", tmp_path / "x", "-f", chosen,
                      "--precision", "int8")  # fmt: skip
        assert result.exit_code == 2
        assert ".tflite has it" in result.stderr


def test_softmax_gives_probabilities(tmp_path: Path) -> None:
    def end_in_softmax(_features: Any, logits: Any) -> dict[str, Any]:
        import tensorflow as tf

        return {"default": tf.nn.softmax(logits)}

    module = zoo.write_tf2(tmp_path / "module", end_in_softmax)
    for options in ((), ("--endpoint", "probabilities")):
        model = tmp_path / f"model{len(options)}.tflite"
        run("module", "export", module, "-o", model, *options)
        require_equal(model, PICTURES, Classifier(module).logits(PICTURES, probabilities=True))
        (output,) = exported.describe(model)["outputs"]
        assert (output["name"], output["meaning"]) == ("probabilities", "probabilities")
    result = mnv1("module", "export", module, "-o", tmp_path / "b.onnx", "--endpoint", "logits")
    assert result.exit_code == 1
    assert "gives probabilities, not logits; --endpoint probabilities" in result.stderr


def test_map_is_of_features_where_nothing_says_what_it_is(tmp_path: Path) -> None:
    def keep_map(features: Any, _logits: Any) -> dict[str, Any]:
        return {"output_0": features[:, None, None, :] + [[[0.0]], [[1.0]]]}

    module = zoo.write_tf2(tmp_path / "module", keep_map)
    model = tmp_path / "model.onnx"
    run("module", "export", module, "-o", model)
    require_equal(model, PICTURES, Classifier(module).embed(PICTURES))
    assert exported.describe(model)["outputs"][0]["meaning"] == "features"


def test_scores_of_a_shape_that_is_not_stated(tmp_path: Path) -> None:
    def forget_shape(_features: Any, logits: Any) -> dict[str, Any]:
        import tensorflow as tf

        return {"logits": tf.reshape(logits, tf.concat([tf.shape(logits)[:1], [-1]], 0))}

    module = zoo.write_tf2(tmp_path / "module", forget_shape)
    model = tmp_path / "model"
    run("module", "export", module, "-o", model)
    require_equal(model, PICTURES, Classifier(module).logits(PICTURES))
    assert exported.describe(model)["outputs"][0]["shape"] == [None, zoo.CLASSES]


def test_names_in_the_module_are_kept(small: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    run("module", "export", "--module", small, "-o", model)
    require_equal(model, PICTURES, Classifier(small).logits(PICTURES))
    labels = [entry["label"] for entry in exported.describe(model)["classes"]]
    assert labels == [f"Katze Nr. {i}" for i in range(7)]


@pytest.mark.parametrize("preprocess", ["square", "pad", "squash"])
def test_description_has_the_steps_of_other_preprocessings(
    small: Path, tmp_path: Path, preprocess: Any
) -> None:
    predictor = Predictor(small, Settings(preprocess=preprocess, labels=small / LABELS_ASSET))
    model = export_module(predictor, tmp_path / "model.tflite").path
    expected = Classifier(small, preprocess=preprocess).logits(PICTURES)
    require_equal(model, PICTURES, expected)


def test_input_range_is_part_of_the_model(small: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    run("module", "export", small, "-o", model, "--input-range", "-1,1")
    require_equal(model, PICTURES, Classifier(small, input_range=(-1, 1)).logits(PICTURES))
    assert exported.describe(model)["input"]["range"] == [0, 1]
    assert exported.describe(model)["module"]["input_range"] == [-1, 1]


@pytest.mark.parametrize("chosen", ["onnx", "savedmodel"])
def test_module_for_images_of_any_size(shared: Path, tmp_path: Path, chosen: str) -> None:
    module = shared / "hub" / "small" / "v3_variable.tar.gz"
    if not module.is_file():
        pytest.skip(f"no {module}")
    model = tmp_path / NAMES[chosen]
    run("module", "export", module, "-o", model, "-q")
    require_equal(model, PICTURES, Classifier(module).logits(PICTURES))


def test_feature_vector_module_gives_features(shared: Path, tmp_path: Path) -> None:
    module = shared / "hub" / "feature_vector.tar.gz"
    if not module.is_file():
        pytest.skip(f"no {module}")
    model = tmp_path / "model.tflite"
    run("module", "export", module, "-o", model)
    require_equal(model, PICTURES, Classifier(module).embed(PICTURES))
    refused = mnv1("module", "export", module, "-o", tmp_path / "b.tflite", "--endpoint", "logits")
    assert refused.exit_code == 1
    assert "image_classification" in refused.stderr


def test_names_of_classes_come_from_a_file(small: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(small, bare)
    (bare / LABELS_ASSET).unlink()
    result = run("module", "export", bare, "-o", tmp_path / "a.tflite")
    assert "--labels FILE" in result.stderr
    assert exported.describe(tmp_path / "a.tflite")["classes"] is None
    run("module", "export", bare, "-o", tmp_path / "b.tflite", "--labels", small / LABELS_ASSET)
    assert len(exported.describe(tmp_path / "b.tflite")["classes"]) == 7
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("only\n")
    result = mnv1("module", "export", bare, "-o", tmp_path / "c.tflite", "--labels", wrong)
    assert result.exit_code == 1
    assert not (tmp_path / "c.tflite").exists()


def test_model_that_differs_is_not_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx as onnx_format

    write = onnx.write_onnx

    def write_wrong(source: Any, network: Any, target: Path) -> None:
        write(source, network, target)
        model = onnx_format.load(target)
        weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = onnx_format.numpy_helper.to_array(weights) * np.float32(1.5)
        weights.CopyFrom(onnx_format.numpy_helper.from_array(values, weights.name))
        onnx_format.save(model, target)

    monkeypatch.setattr(onnx, "write_onnx", write_wrong)
    with pytest.raises(ModuleError, match="gives different logits when it is exported"):
        export_module(Predictor(small), tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_print_of_json_is_the_description(small: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    printed = json.loads(run("module", "export", small, "-o", model, "--json").stdout)
    description = exported.describe(model)
    assert printed.pop("path") == str(model)
    assert printed.pop("description") == f"{model}.json"
    del description["classes"]
    assert printed == description
