"""Modules that want pixels in another range than [0, 1]."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mnv1cli import Classifier
from mnv1cli.errors import OptionError, ResultError
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules import artifacts, inspection, mobilenet, weights
from mnv1cli.types import InputRange, PixelSpec, Variant
from tests.support import zoo
from tests.support.digits import find_bundled_weights
from tests.support.pixels import load_pixels
from tests.support.shell import EXAMPLES, mnv1, run

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.types import FloatArray

RANGES = [("-1,1", (-1, 1)), ("0,255", (0, 255)), ("-0.5,2.25", (-0.5, 2.25))]
TOLERANCE = 1e-3


def compute_logits(module: Path, tmp_path: Path, *words: object) -> FloatArray:
    file = tmp_path / "logits.npy"
    run("logits", EXAMPLES, "--module", module, *words, "-o", file, "--force")
    values: FloatArray = np.load(file)
    return values


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two layers, which is soon compiled."""
    directory = tmp_path_factory.mktemp("tiny") / "m"
    return zoo.write_tf2(directory, lambda f, x: {"default": x, "feature_vector": f})


@pytest.fixture(scope="module")
def named(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """The options for the network and the names of its classes."""
    labels = tmp_path_factory.mktemp("labels") / "labels.txt"
    labels.write_text("".join(f"class {i}\n" for i in range(zoo.CLASSES)))
    return ("--module", tiny, "--labels", labels)


@pytest.mark.parametrize(("text", "pair"), RANGES)
def test_the_module_is_fed_the_range_by_both_engines(
    text: str, pair: tuple[float, float], tmp_path: Path, tiny: Path
) -> None:
    pixels = [load_pixels(p.read_bytes(), PixelSpec(zoo.SIZE)) for p in sorted(EXAMPLES.iterdir())]
    low, high = pair
    mapped = (low + np.stack(pixels) * (high - low)).astype(np.float32)
    module = inspection.open_module(str(tiny))
    expected = TensorFlowModel(module, [module.logits()])(mapped)["logits"]
    litert = compute_logits(tiny, tmp_path, "--input-range", text)
    tf = compute_logits(tiny, tmp_path, f"--input-range={text}", "--engine", "tf")
    assert np.abs(litert - expected).max() < TOLERANCE
    assert np.abs(tf - expected).max() < TOLERANCE
    # The usual range has a compiled model of its own.
    usual = compute_logits(tiny, tmp_path)
    assert np.abs(usual - litert).max() > 1
    in_python = Classifier(tiny, input_range=pair).logits(EXAMPLES)
    assert np.array_equal(in_python, litert)


def test_a_compiled_model_is_kept_for_each_range(
    tiny: Path, own_cache: Path, tmp_path: Path
) -> None:
    for words in ((), ("--input-range", "0,1"), ("--input-range", "-1,1")):
        compute_logits(tiny, tmp_path, *words)
    (fingerprint,) = artifacts.list_fingerprints()
    assert len(artifacts.list_models(fingerprint)) == 2
    assert artifacts.find_model(fingerprint, ("logits",), "float32") is not None
    wide = artifacts.find_model(
        fingerprint, ("logits",), "float32", input_range=InputRange(-1.0, 1.0)
    )
    assert wide is not None


def test_the_range_is_in_the_metadata_and_decides(
    named: tuple[object, ...], tmp_path: Path
) -> None:
    plain, wide = tmp_path / "plain.csv", tmp_path / "wide.csv"
    run("classify", EXAMPLES, *named, "-o", plain)
    run("classify", EXAMPLES, *named, "--input-range", "-1,1", "-o", wide)
    assert "input_range" not in json.loads((tmp_path / "plain.csv.meta.json").read_bytes())
    metadata = json.loads((tmp_path / "wide.csv.meta.json").read_bytes())
    assert metadata["input_range"] == [-1, 1]
    for words, fault in (
        (("--append", "-o", wide), "was made with --input-range -1,1, not 0,1"),
        (("--append", "-o", plain, "--input-range", "-1,1"), "--input-range 0,1, not -1,1"),
        (("--skip-existing", wide, "-o", tmp_path / "new.csv"), "--input-range -1,1, not 0,1"),
    ):
        result = mnv1("classify", EXAMPLES, *named, *words)
        assert result.exit_code == 1
        assert fault in result.stderr
    result = mnv1("merge", plain, wide, "-o", tmp_path / "both.csv")
    assert result.exit_code == 1
    assert "--input-range" in result.stderr


def test_a_dataset_has_one_range(named: tuple[object, ...], tmp_path: Path) -> None:
    dataset = f"{tmp_path}/labels/"
    words = ("classify", EXAMPLES, *named, "-o", dataset)
    run(*words, "--input-range=-1,1")
    result = mnv1(*words)
    assert result.exit_code == 1
    assert "--input-range -1,1, not 0,1" in result.stderr
    assert "nothing is left to do" in run(*words, "--input-range=-1,1").stderr


def test_a_search_restores_the_range(tiny: Path, tmp_path: Path) -> None:
    index = tmp_path / "features.npy"
    run("embed", EXAMPLES, "--module", tiny, "--input-range", "-1,1", "-o", index)
    lines = run("similar", index, EXAMPLES, "--top", 1, "-f", "csv").stdout.splitlines()[1:]
    for query, rank, path, similarity in (line.split(",") for line in lines):
        assert (query, rank) == (path, "1")
        assert float(similarity) == pytest.approx(1)
    metadata = json.loads((tmp_path / "features.npy.meta.json").read_bytes())
    assert Classifier.as_for(metadata).predictor.module.input_range == (-1, 1)
    with pytest.raises(ResultError, match=r"the metadata have input_range=.*is not valid"):
        Classifier.as_for({**metadata, "input_range": [1, -1]})


def test_int8_is_calibrated_for_a_range(tiny: Path, tmp_path: Path, own_cache: Path) -> None:
    words = ("--input-range", "-1,1")
    run("module", "quantize", EXAMPLES, "--module", tiny, *words)
    small = compute_logits(tiny, tmp_path, "--precision", "int8", *words)
    large = compute_logits(tiny, tmp_path, *words)
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.8
    # Other ranges have the model that is made without images, not the one for this range.
    for other in ((), ("--input-range", "0,255")):
        out = tmp_path / "other.csv"
        run(
            "logits",
            EXAMPLES,
            "--module",
            tiny,
            "--precision",
            "int8",
            *other,
            "-o",
            out,
            "--force",
        )
        assert json.loads((tmp_path / "other.csv.meta.json").read_text())["recipe"] == "dynamic"


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled weights for small images."""
    directory = tmp_path_factory.mktemp("usual")
    variables = weights.read_weights(find_bundled_weights())
    mobilenet.write_module(directory, variables, Variant(1.0, 64))
    return directory


@pytest.fixture(scope="module")
def centred(usual: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module without its first two operations, which map [0, 1] to [-1, 1]."""
    from tensorflow.core.protobuf import saved_model_pb2

    directory = tmp_path_factory.mktemp("modules") / "centred"
    shutil.copytree(usual, directory)
    file = directory / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved_model.meta_graphs:
        for signature in graph.signature_def.values():
            signature.inputs["images"].name = "sub:0"
    file.write_bytes(saved_model.SerializeToString())
    return directory


@pytest.mark.parametrize("engine", ["litert", "tf"])
def test_a_module_for_another_range_gives_the_usual_results(
    usual: Path, centred: Path, engine: str, tmp_path: Path
) -> None:
    logits = compute_logits(centred, tmp_path, "--input-range", "-1,1", "--engine", engine)
    assert np.abs(logits - compute_logits(usual, tmp_path)).max() < TOLERANCE


def test_a_module_that_is_trained_from_another_range_takes_the_usual_one(
    usual: Path, centred: Path, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    for name, scale in (("dark", 90), ("light", 255)):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for i in range(4):
            pixels = generator.random((96, 96, 3)) * scale
            image = Image.fromarray(pixels.astype(np.uint8)).resize((40 + i, 40))
            image.save(tmp_path / "classes" / name / f"{i}.png")
    words = ("finetune", tmp_path / "classes", "--module", centred)
    result = mnv1(*words, "-o", tmp_path / "wrong")
    assert result.exit_code == 1
    assert "computes something else" in result.stderr
    run(*words, "-o", tmp_path / "right", "--input-range", "-1,1")
    run("finetune", tmp_path / "classes", "--module", usual, "-o", tmp_path / "usual")
    values = [
        Classifier(tmp_path / name).logits(tmp_path / "classes") for name in ("right", "usual")
    ]
    np.testing.assert_allclose(values[0], values[1], rtol=0.01, atol=0.01)


@pytest.mark.parametrize(
    "text", ["1,0", "nan,1", "0", "a,b", "0,0", "0,inf", "0,1e-60", "0,1,2", ""]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    result = mnv1("classify", EXAMPLES, "--input-range", text)
    assert result.exit_code == 2
    assert "'--input-range'" in result.stderr


@pytest.mark.parametrize(
    "pair", [(1, 0), (0, float("nan")), (0,), "0,1", (True, 2), (0, 10**400), None]
)
def test_what_is_no_range_is_refused_in_python(pair: object) -> None:
    with pytest.raises(OptionError, match="input_range"):
        Classifier("bundled", input_range=pair)  # type: ignore[arg-type]


def test_a_range_as_text_means_the_same_numbers() -> None:
    for pair in ((-1.0, 1.0), (0.1, 1e10), (-1 / 3, 123456789.125)):
        low, high = map(float, str(InputRange(*pair)).split(","))
        assert (low, high) == pair
    assert InputRange(-0.0, 1.0).setting is None
