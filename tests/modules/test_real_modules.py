"""Modules that the real `tensorflow_hub` library exported, through every command."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mnv1cli.analysis import benchmark, near_duplicates
from mnv1cli.errors import ModuleError, SignatureError
from mnv1cli.inference import convert, models
from mnv1cli.inference.image_input import settle_image_size
from mnv1cli.modules import artifacts, inspection
from mnv1cli.modules.attachments import ATTACHMENTS
from mnv1cli.modules.formats import unpack
from mnv1cli.modules.hub_module import TF1, HubModule
from mnv1cli.modules.signatures import Signature, TensorSpec
from mnv1cli.training import examples
from tests.support import zoo
from tests.support.shell import mnv1, run

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def small_modules(shared: Path) -> Path:
    """The modules by the real library."""
    directory = shared / "hub" / "small"
    if not (directory / "v3_variable.tar.gz").is_file():
        pytest.skip(f"no modules of the real library in {directory}")
    return directory


@pytest.fixture(scope="module")
def version_3(small_modules: Path) -> Path:
    """A module like version 3 of the family: images of any size, 128 as an attachment."""
    return small_modules / "v3_variable.tar.gz"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders of patterns; they need no shared photos."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:96, :120]
    for i in range(12):
        for name in ("plain", "noisy"):
            (folder / name).mkdir(exist_ok=True)
            across, down, phase = generator.uniform(0.02, 2.0, 3)
            pattern = (np.sin(x * across + phase) * np.sin(y * down) > 0)[..., None]
            pixels = np.where(pattern, generator.random(3), generator.random(3))
            if name == "noisy":
                pixels = pixels * generator.random((96, 120, 1))
            Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / name / f"{i:02}.png")
    return folder


def compute_with_both(command: str, module: Path, pictures: Path, tmp_path: Path) -> float:
    """Return the largest difference of a command's values between the two engines."""
    words = command.split()
    values = []
    for engine in ("litert", "tf"):
        file = tmp_path / f"{engine}.npy"
        run(*words, pictures, "--module", module, "--engine", engine, "-o", file)
        values.append(np.load(file))
    assert len(values[0]) == 24
    return float(np.abs(values[0] - values[1]).max())


@pytest.mark.parametrize("name", ["v3_variable", "attached_size", "reg_train"])
@pytest.mark.parametrize("command", ["logits", "embed"])
def test_both_engines_give_the_same_values(
    name: str, command: str, small_modules: Path, pictures: Path, tmp_path: Path
) -> None:
    module = small_modules / f"{name}.tar.gz"
    assert compute_with_both(command, module, pictures, tmp_path) < TOLERANCE


@pytest.mark.parametrize("pool", ["--pool", "--no-pool"])
def test_a_layer_of_version_3(version_3: Path, pool: str, pictures: Path, tmp_path: Path) -> None:
    command = f"embed --endpoint Conv2d_2_pointwise {pool}"
    assert compute_with_both(command, version_3, pictures, tmp_path) < TOLERANCE
    shape = np.load(tmp_path / "litert.npy").shape
    assert shape == ((24, 32) if pool == "--pool" else (24, 32, 32, 32))


@pytest.mark.parametrize("name", ["v3_variable", "attached_size"])
def test_classify(name: str, small_modules: Path, pictures: Path) -> None:
    module = small_modules / f"{name}.tar.gz"
    words = ("classify", pictures, "--module", module, "--top", 1001, "-f", "jsonl")
    probabilities = []
    for engine in ("litert", "tf"):
        lines = run(*words, "--engine", engine).stdout.splitlines()
        predictions = json.loads(lines[0])["predictions"]
        probabilities.append({p["class_id"]: p["probability"] for p in predictions})
    first, second = probabilities
    assert len(first) == 1001
    assert max(abs(first[index] - second[index]) for index in second) < TOLERANCE


def test_evaluate_version_3(version_3: Path, pictures: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    paths = sorted(pictures.glob("*/*.png"))
    truth.write_text("path,label\n" + "".join(f"{path},n01440764\n" for path in paths))
    words = ("evaluate", pictures, "--truth", truth, "--module", version_3, "--json")
    litert, tf = (json.loads(run(*words, "--engine", engine).stdout) for engine in ("litert", "tf"))
    assert litert["n"] == tf["n"] == 24
    assert litert["top1"] == tf["top1"]


@pytest.mark.parametrize("full", [(), ("--full", "--epochs", 1)])
def test_finetune_version_3(
    version_3: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: tuple[object, ...],
) -> None:
    # Its random weights see hardly any difference between images.
    alike = functools.partial(near_duplicates.group_copies, similarity=1.0)
    monkeypatch.setattr(examples, "group_copies", alike)
    output = tmp_path / "tuned"
    run("finetune", pictures, "-o", output, "--module", version_3, *full)
    assert compute_with_both("logits", output, pictures, tmp_path) < TOLERANCE
    assert np.load(tmp_path / "tf.npy").shape == (24, 2)


def test_quantize_version_3(
    version_3: Path, pictures: Path, tmp_path: Path, own_cache: Path
) -> None:
    run("module", "quantize", pictures, "--module", version_3)
    for command in ("logits", "embed"):
        file = tmp_path / f"{command}.npy"
        run(command, pictures, "--module", version_3, "--precision", "int8", "-o", file)
        assert np.isfinite(np.load(file)).all()


def test_bench_version_3(version_3: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_ROUNDS", 1)
    words = ("bench", pictures, "--images", 4, "--batch-size", 4, "--threads", 1)
    summary = json.loads(run(*words, "--module", version_3, "--json").stdout)
    assert {"litert", "tf"} <= set(json.dumps(summary).replace('"', " ").split())


def test_unknown_sides_and_scalars_are_shown(version_3: Path) -> None:
    shown = run("module", "show", version_3).stdout
    assert "images float32 [batch, ?, ?, 3] -> default float32 [batch, 1001]" in shown
    assert "batch_norm_momentum float32 scalar, images float32 [batch, ?, ?, 3]" in shown
    assert "float32 [batch, ?, ?, 8]" in shown
    facts = json.loads(run("module", "show", version_3, "--json").stdout)
    inputs = facts["signatures"]["image_classification_with_bn_hparams"]["inputs"]
    assert inputs["batch_norm_momentum"]["shape"] == []
    assert inputs["images"]["shape"] == [None, None, None, 3]


def test_a_compiled_model_is_kept_for_each_image_size(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module that states no size has that of the option.
    place = zoo.write_tf2(tmp_path / "m", lambda _, x: {"logits": x}, shape=(None, None, None, 3))
    for size in (96, 160):
        module, _ = settle_image_size(inspection.open_module(str(place), image_size=size), size)
        model = models.open_model(module, [module.logits()], 1, "litert")
        pixels = np.random.default_rng(0).random((2, size, size, 3), np.float32)
        reference = models.open_model(module, [module.logits()], 1, "tf")
        assert np.allclose(model(pixels)["logits"], reference(pixels)["logits"], atol=TOLERANCE)
    assert len(artifacts.list_models(module.fingerprint)) == 2
    # The second time nothing is compiled.
    monkeypatch.setattr(convert, "compile_module", None)
    for size in (96, 160):
        module, _ = settle_image_size(inspection.open_module(str(place), image_size=size), size)
        models.open_model(module, [module.logits()], 1, "litert")


UNSUPPORTED = {
    "uint8": "takes images as uint8, which is not supported",
    "gray": "takes images of 1 channel, which is not supported",
    "default_only": "has neither a signature 'image_classification' nor 'image_feature_vector'",
}
COMMANDS = (
    "classify", "classify --engine tf", "logits", "logits --engine tf", "embed",
    "embed --engine tf", "evaluate --truth folders", "evaluate --engine tf --truth folders",
    "finetune -o tuned", "finetune --full -o tuned", "module quantize", "bench --images 4",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_module_is_refused_in_one_line(
    name: str, command: str, small_modules: Path, pictures: Path, tmp_path: Path
) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("path,label\n")
    places = {"folders": truth, "tuned": tmp_path / "tuned"}
    words = [places.get(word, word) for word in command.split()]
    result = mnv1(*words, pictures, "--module", small_modules / f"{name}.tar.gz")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if not line.endswith("(once)")]
    assert len(errors) == 1
    assert errors[0].startswith("mnv1: error: module ")
    assert UNSUPPORTED[name] in errors[0]
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_module_is_shown(name: str, small_modules: Path) -> None:
    assert "fingerprint" in run("module", "show", small_modules / f"{name}.tar.gz").stdout


def make_described_module(
    tmp_path: Path, shape: tuple[int, ...], image_size: int | None
) -> HubModule:
    """Return the description of a module with such images; it has no files."""
    images = TensorSpec("images:0", "float32", shape)
    result = TensorSpec("logits:0", "float32", (-1, 10))
    signatures = {"image_classification": Signature({"images": images}, {"default": result})}
    return HubModule("m", tmp_path, "0" * 64, TF1, ((),), signatures, image_size)


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        ((-1, 96, 128, 3), "takes images of 96x128, not 96x96"),
        ((-1, -1, 128, 3), "takes images of [?]x128, not 96x96"),
        ((-1, 96, 96, 4), "takes images of 4 channels, which is not supported"),
        ((-1, 27648), "takes no batches of images"),
    ],
)
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...], fault: str) -> None:
    with pytest.raises(ModuleError, match=fault):
        settle_image_size(make_described_module(tmp_path, shape, 96), None)


def test_the_size_is_settled_by_the_module_or_the_option(tmp_path: Path) -> None:
    opened = make_described_module(tmp_path, (-1, -1, -1, -1), None)
    module, size = settle_image_size(opened, 160)
    assert (size, module.image_size) == (160, None)
    assert module.logits().images.shape == (-1, 160, 160, 3)
    with pytest.raises(ModuleError, match="does not state its image size"):
        settle_image_size(opened, None)


def test_a_missing_signature_is_told_before_a_missing_size(tmp_path: Path) -> None:
    images = TensorSpec("images:0", "float32", (-1, -1, -1, 3))
    signatures = {"default": Signature({"images": images}, {"default": images})}
    module = HubModule("m", tmp_path, "0" * 64, TF1, ((),), signatures, None)
    with pytest.raises(SignatureError, match="has neither a signature") as info:
        settle_image_size(module, None)
    assert info.value.remedy == "it has default"


@pytest.mark.parametrize("command", ["classify", "logits", "embed", "module show"])
def test_sides_that_differ_are_refused_in_one_line(
    command: str, small_modules: Path, pictures: Path, tmp_path: Path
) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    directory = tmp_path / "wide"
    directory.mkdir()
    unpack.unpack_archive(small_modules / "reg_train.tar.gz", directory)
    file = directory / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved_model.meta_graphs:
        graph.collection_def.pop(ATTACHMENTS, None)
        for signature in graph.signature_def.values():
            signature.inputs["images"].tensor_shape.dim[2].size = 128
    file.write_bytes(saved_model.SerializeToString())
    words = ["module", "show", directory]
    if command != "module show":
        words = [command, pictures, "--module", directory]
    result = mnv1(*words)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "takes images of 96x128, not square ones" in line
