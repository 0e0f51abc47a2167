"""`mnv1 finetune`: from folders of classes to a module that every command takes."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli import Classifier
from mnv1cli.errors import OptionError, OutputError, ResumeError
from mnv1cli.modules import mobilenet, weights
from mnv1cli.modules.files import compute_fingerprint
from mnv1cli.modules.formats import unpack
from mnv1cli.modules.inspection import open_module
from mnv1cli.training.base import read_base
from mnv1cli.training.files import FinetuneFiles
from mnv1cli.training.finetune import FinetuneResult
from mnv1cli.training.options import FinetuneOptions
from mnv1cli.types import PixelSpec, Variant
from tests.modules.test_mobilenet import make_random_variables
from tests.support.digits import compute_logits, write_digits, write_small_module
from tests.support.pixels import load_pixels
from tests.support.shell import mnv1, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Kinds of things by the WordNet ids that the names of photos begin with.
ANIMALS = {"animal": ("n01", "n02"), "thing": ("n03", "n04")}
KINDS = {
    "dog": ("n0208", "n0209", "n0210", "n0211"),
    "other mammal": ("n0212", "n0213", "n023", "n024", "n0187"),
    "reptile, bird or fish": ("n014", "n015", "n016", "n017", "n018", "n020", "n025"),
    "food": ("n07",),
    "thing": ("n03", "n04"),
}


def run(*arguments: object) -> dict[str, Any]:
    result = mnv1("finetune", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_module(tmp_path_factory.mktemp("small") / "base")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "ten", 10, 20)


@pytest.fixture(scope="module")
def tuned(small: Path, digits: Path) -> tuple[Path, dict[str, Any]]:
    """A module for the ten digits, and the summary of its training."""
    out = digits.parent / "tuned"
    return out, run(digits, "-o", out, "--module", small)


def test_digits_are_told_apart(tuned: tuple[Path, dict[str, Any]], digits: Path) -> None:
    out, summary = tuned
    held_out = summary["held_out"]
    assert (summary["classes"], summary["images"], summary["failed"]) == (10, 200, 0)
    assert 35 <= held_out["n"] <= 45
    assert held_out["interval"][0] > held_out["majority"] + 0.3
    assert summary["fingerprint"] == compute_fingerprint(out)
    assert summary["epochs"] is None
    split = rows((digits.parent / "tuned.split.csv").read_bytes())
    assert len(split) == 200
    chosen = [row for row in split if row["part"] == "held-out"]
    assert len(chosen) == held_out["n"]
    best = rows(mnv1("classify", *(row["path"] for row in chosen), "--module", out,
                     "--top", 1, "-f", "csv").stdout)  # fmt: skip
    right = [a["label"] == b["label"] for a, b in zip(best, chosen, strict=True)]
    assert np.mean(right) == pytest.approx(held_out["accuracy"], abs=0.02)


def test_tensorflow_itself_gives_the_same_logits(
    tuned: tuple[Path, dict[str, Any]], digits: Path
) -> None:
    out, _ = tuned
    names = sorted(digits.rglob("*.png"))[::23]
    table = rows(mnv1("logits", *names, "--module", out, "-f", "csv").stdout)
    wanted = np.array([[float(row[str(i)]) for i in range(10)] for row in table])
    images = np.stack([load_pixels(path.read_bytes(), PixelSpec(64)) for path in names])
    np.testing.assert_allclose(compute_logits(out, images), wanted, atol=1e-3)


def test_the_same_module_again(
    tuned: tuple[Path, dict[str, Any]], digits: Path, small: Path, tmp_path: Path
) -> None:
    again = run(digits, "-o", tmp_path / "again", "--module", small, "--threads", 1)
    assert again["fingerprint"] == tuned[1]["fingerprint"]


@pytest.mark.parametrize("kinds", [ANIMALS, KINDS], ids=["two", "five"])
def test_groups_of_photos(photos: Path, tmp_path: Path, kinds: dict[str, tuple[str, ...]]) -> None:
    top = tmp_path / "photos"
    for path in sorted(photos.iterdir()):
        for kind, beginnings in kinds.items():
            if path.name.startswith(beginnings):
                (top / kind).mkdir(parents=True, exist_ok=True)
                (top / kind / path.name).symlink_to(path)
    assert len(list(top.iterdir())) == len(kinds)
    out = tmp_path / "tuned"
    summary = run(top, "-o", out, "--module", "bundled")
    held_out = summary["held_out"]
    assert held_out["accuracy"] > held_out["majority"]
    if len(kinds) > 2:
        return
    assert held_out["interval"][0] > held_out["majority"]
    shown = json.loads(mnv1("module", "show", out, "--json").stdout)
    assert shown["classes"] == len(kinds)
    assert shown["fingerprint"] == summary["fingerprint"]
    names = sorted(photos.iterdir())[:3]
    predictions = rows(mnv1("classify", *names, "--module", out, "-f", "csv").stdout)
    assert {row["label"] for row in predictions} == set(kinds)
    scores = rows(mnv1("logits", *names, "--module", out, "-f", "csv").stdout)
    images = np.stack([load_pixels(path.read_bytes(), PixelSpec(128)) for path in names])
    wanted = np.array([[float(row[str(i)]) for i in range(len(kinds))] for row in scores])
    np.testing.assert_allclose(compute_logits(out, images), wanted, atol=1e-3)


def test_bad_images_copies_and_word_net_ids(digits: Path, small: Path, tmp_path: Path) -> None:
    top, out = tmp_path / "top", tmp_path / "tuned"
    for name, folder in (("n02123045", "digit 0"), ("other", "digit 1")):
        shutil.copytree(digits / folder, top / name)
    for path in list((top / "other").iterdir())[:10]:
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    (top / "other" / "bad.jpg").write_bytes(b"no picture")
    shutil.copy(next((digits / "digit 2").iterdir()), top / "loose.png")
    result = mnv1("finetune", top, "-o", out, "--module", small)
    assert result.exit_code == 3
    assert "bad.jpg: not an image" in result.stderr
    assert "loose.png is in no class folder and left out" in result.stderr
    assert "1 could not be read" in result.stdout
    table = rows((tmp_path / "tuned.split.csv").read_bytes())
    part = {row["path"]: row["part"] for row in table}
    assert len(part) == 50
    for name in part:
        assert part[name.replace("copy of ", "")] == part[name]
    labels = rows((out / "assets" / "labels.csv").read_bytes())
    assert [(row["class_id"], row["wnid"], row["label"]) for row in labels] == [
        ("0", "n02123045", "n02123045"),
        ("1", "", "other"),
    ]
    again = mnv1("finetune", top, "-o", out, "--module", small)
    assert again.exit_code == 1
    assert "exists; add --force to replace it" in again.stderr
    assert mnv1("finetune", top, "-o", out, "--module", small, "--force", "-q").exit_code == 3
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["top", "tuned", "tuned.split.csv"]


def test_from_python(digits: Path, small: Path, tmp_path: Path) -> None:
    result = Classifier(str(small)).finetune(digits, tmp_path / "x", held_out=0.4, seed=5)
    assert isinstance(result, FinetuneResult)
    assert 75 <= result.held_out.n <= 85
    best = Classifier(str(tmp_path / "x"), engine="tf").classify(digits / "digit 3", top=1)
    assert {image[0].label for image in best} <= {f"digit {i}" for i in range(10)}
    wrong: list[dict[str, Any]] = [
        {"held_out": 1.5}, {"held_out": 0}, {"held_out": "a"}, {"epochs": 0}, {"epochs": "x"},
        {"learning_rate": float("nan")}, {"learning_rate": 0}, {"learning_rate": math.inf},
        {"seed": -1}, {"seed": 1.5}, {"batch_size": 1}, {"batch_size": None}, {"full": 1},
        {"force": "no"}, {"resume": None},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(OptionError, match=f"^{next(iter(options))}="):
            Classifier(str(small)).finetune(digits, tmp_path / "y", **{"full": True, **options})


def copy_two_classes(tmp_path: Path, digits: Path) -> Path:
    """Copy two classes of three images."""
    for name in ("digit 0", "digit 1"):
        (tmp_path / "two" / name).mkdir(parents=True)
        for path in sorted((digits / name).iterdir())[:3]:
            shutil.copy(path, tmp_path / "two" / name)
    return tmp_path / "two"


def keep_few(top: Path, keep: int) -> None:
    for path in sorted((top / "digit 1").iterdir())[keep:]:
        path.unlink()


def replace_by_file(top: Path) -> None:
    shutil.rmtree(top)
    top.touch()


def empty(top: Path) -> None:
    for folder in top.iterdir():
        shutil.rmtree(folder)


def copy_image(top: Path) -> None:
    keep_few(top, 1)
    first = next((top / "digit 1").iterdir())
    shutil.copy(first, first.with_name("copy.png"))


def spoil_images(top: Path) -> None:
    for path in sorted((top / "digit 1").iterdir())[1:]:
        path.write_bytes(b"no picture")


STRANGERS = ("inception", "headonly", "tf2")
MISUSE: list[tuple[Callable[[Path], object] | None, list[str], int, str]] = [
    (shutil.rmtree, [], 2, "no such folder"),
    (replace_by_file, [], 2, "is a file; finetune takes a folder"),
    (empty, [], 2, "no class folders with images"),
    (lambda top: shutil.rmtree(top / "digit 1"), [], 2, "has only one class folder, digit 0"),
    (lambda top: keep_few(top, 1), [], 1, "class digit 1 has a single image that can be read"),
    (copy_image, [], 1, "the 2 images of class digit 1 are copies of one photo"),
    (spoil_images, [], 1, "class digit 1 has a single image that can be read"),
    (None, ["-o", "two/new"], 2, "is in two, the folder of images"),
    (None, ["-o", "."], 2, "the folder of images, is in "),
    (None, ["-o", "none/new"], 1, "there is no folder none"),
    (None, ["-o", "two.txt"], 1, "two.txt exists; add --force to replace it"),
    (None, ["-o", "two.txt", "--force"], 1, "two.txt exists and is not a module"),
    (None, ["--resume"], 2, "--resume can only be used with --full"),
    (None, ["--epochs", "3"], 2, "--epochs can only be used with --full"),
    (None, ["--full", "--resume", "--force"], 2, "give one of them"),
    (None, ["--held-out", "nan"], 2, "--held-out nan is not a finite number"),
    (None, ["--held-out", "1"], 2, "--held-out"),
    (None, ["--full", "--learning-rate", "inf"], 2, "--learning-rate inf is not a finite number"),
    (None, ["--seed", "-1"], 2, "--seed"),
    (None, ["--module", "inception"], 1, "it has the variables InceptionV1/Conv"),
    (None, ["--module", "headonly"], 1, "has no signature 'image_feature_vector'"),
    (None, ["--module", "tf2"], 1, "is a TF2 SavedModel, not a TF1 Hub module"),
]


@pytest.mark.parametrize(("spoil", "options", "code", "message"), MISUSE)
def test_misuse_is_one_line(
    spoil: Callable[[Path], object] | None,
    options: list[str],
    code: int,
    message: str,
    digits: Path,
    small: Path,
    strangers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    top = copy_two_classes(tmp_path, digits)
    if spoil is not None:
        spoil(top)
    (tmp_path / "two.txt").touch()
    monkeypatch.chdir(tmp_path)
    options = [str(strangers / o) if o in STRANGERS else o for o in options]
    before = sorted(tmp_path.rglob("*"))
    output = [] if "-o" in options else ["-o", "new"]
    module = [] if "--module" in options else ["--module", str(small)]
    result = mnv1("finetune", "two", *output, *module, *options)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    errors = [line for line in result.stderr.splitlines() if "rror: " in line]
    assert len(errors) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules that cannot be trained: of another network, without features, of another format."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    top = tmp_path_factory.mktemp("strangers")
    for name in ("inception", "headonly"):
        (top / name).mkdir()
        mobilenet.write_module(top / name, make_random_variables(0.25, 3), Variant(0.25, 32))
    graph = top / "headonly" / "saved_model.pb"
    message = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    for meta_graph in message.meta_graphs:
        del meta_graph.signature_def["image_feature_vector"]
    graph.write_bytes(message.SerializeToString())
    shutil.rmtree(top / "inception" / "variables")
    (top / "inception" / "variables").mkdir()
    tf.raw_ops.SaveV2(
        prefix=str(top / "inception" / "variables" / "variables"),
        tensor_names=["InceptionV1/Conv2d_1a_7x7/weights"],
        shape_and_slices=[""],
        tensors=[tf.zeros([7, 7, 3, 64])],
    )
    whole = tf.Module()
    whole.__call__ = tf.function(
        lambda images: tf.reduce_mean(images, axis=[1, 2]),
        input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32)],
    )
    tf.saved_model.save(whole, str(top / "tf2"), signatures=whole.__call__)
    return top


def test_the_genuine_feature_module_is_a_base(shared: Path, tmp_path: Path) -> None:
    unpack.unpack_archive(shared / "hub" / "feature_vector.tar.gz", tmp_path)
    variables, variant = read_base(open_module(str(tmp_path)), 128)
    assert variant == Variant(1.0, 128)
    assert variables.keys() == weights.list_shapes(1.0, None).keys()


def options(**settings: Any) -> FinetuneOptions:
    return dataclasses.replace(FinetuneOptions(full=True), **settings)


def test_force_begins_anew_and_keeps_files_that_are_not_of_mnv1(tmp_path: Path) -> None:
    out, images = tmp_path / "new", tmp_path / "images"
    files = FinetuneFiles(out, images, options())
    files.begin({"--seed": 1})
    with pytest.raises(ResumeError, match="add --resume to go on with it, or --force to"):
        FinetuneFiles(out, images, options())
    with pytest.raises(ResumeError, match="begun with --seed 1, not 2"):
        FinetuneFiles(out, images, options(resume=True)).begin({"--seed": 2})
    FinetuneFiles(out, images, options(resume=True)).begin({"--seed": 1})
    FinetuneFiles(out, images, options(force=True))
    assert not files.part.exists()
    files.part.mkdir()
    for settings in ({}, {"force": True}):
        with pytest.raises(OutputError, match=r"new\.part exists and is not of mnv1"):
            FinetuneFiles(out, images, options(**settings))
    out.mkdir()
    with pytest.raises(OutputError, match="new exists and is not a module"):
        FinetuneFiles(out, images, options(force=True))


def test_unfinished_files_are_removed_when_the_run_stops(tmp_path: Path) -> None:
    for full in (False, True):
        files = FinetuneFiles(tmp_path / "new", tmp_path / "images", options(full=full))
        if full:
            files.begin({})
        with pytest.raises(KeyboardInterrupt):
            _stop_in(files)
    assert [path.name for path in tmp_path.rglob("*")] == ["new.part", "settings.json"]


def _stop_in(files: FinetuneFiles) -> None:
    with files.work() as work:
        (work / "module").mkdir()
        raise KeyboardInterrupt
