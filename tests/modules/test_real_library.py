"""Our modules in the hands of the real `tensorflow_hub` library, and the cache of both."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.modules.files import LABELS_ASSET
from mnv1cli.modules.weights import read_checkpoint
from tests.conftest import ROOT
from tests.support import hub as hubs
from tests.support import hub_library
from tests.support.digits import find_bundled_weights, write_digits
from tests.support.shell import EXAMPLES, rows, run

if TYPE_CHECKING:
    from collections.abc import Iterator

if importlib.util.find_spec("tensorflow_hub") is None:
    pytest.skip("tensorflow_hub is not installed", allow_module_level=True)

TOLERANCE = 1e-4
PHOTOS = 10
# The sides of the images of each module.
MODULES = {"bundled": 128, "built": 160, "tuned": 128, "full": 128}
KERAS = ("bundled", "tuned")
# The paths of two handles on the server: what the library asks for first, and what we do.
THEIRS, OURS = "/library/first/1", "/program/first/1"
COMPRESSED = "?tf-hub-format=compressed"


@dataclass(frozen=True)
class Library:
    """What the library made of the modules, and what the server was asked for."""

    places: dict[str, Path]
    photos: list[Path]
    facts: dict[str, Any]
    arrays: dict[str, Any]
    url: str
    resolved: dict[str, str]
    asked: dict[str, list[str]]
    rows: dict[str, str]


@pytest.fixture(scope="module")
def photo_files() -> list[Path]:
    """Real photos: the shared ones, else those of the examples."""
    shared = Path(os.environ.get("MNV1_SHARED", ROOT.parent / "shared"))
    files = sorted(shared.glob("**/photos/*.JPEG"))[:PHOTOS] or sorted(EXAMPLES.glob("*.jpg"))
    assert files
    return files


@pytest.fixture(scope="module")
def places(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A module of each kind that we write, and a built one as an archive."""
    folder = tmp_path_factory.mktemp("modules")
    places = {"bundled": bundled, **{name: folder / name for name in MODULES if name != "bundled"}}
    weights = find_bundled_weights()
    build = ("module", "build", "--weights", weights, "--image-size", MODULES["built"], "-o")
    run(*build, folder / "built.tar.gz", "--tar")
    shutil.unpack_archive(folder / "built.tar.gz", places["built"], filter="data")
    digits = write_digits(folder / "digits", 2, 12)
    tune = ("finetune", digits, "--module", "bundled", "-o")
    run(*tune, places["tuned"])
    run(*tune, places["full"], "--full", "--epochs", 1, "--batch-size", 8)
    return {**places, "archive": folder / "built.tar.gz"}


@pytest.fixture(scope="module")
def library(
    places: dict[str, Path], photo_files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    """Ask the library once for everything: it takes seconds to start."""
    folder = tmp_path_factory.mktemp("library")
    body = places["archive"].read_bytes()
    with pytest.MonkeyPatch.context() as patch, hubs.serve() as server:
        patch.setenv("TFHUB_CACHE_DIR", str(folder / "cache"))
        patch.delenv("MNV1_CACHE_DIR")
        patch.setenv("MNV1_OFFLINE", "0")
        patch.setenv("no_proxy", "127.0.0.1")
        # Nobody may be asked but the server itself.
        for scheme in ("http", "https"):
            patch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        server.answers = {f"{path}{COMPRESSED}": hubs.sends(body) for path in (THEIRS, OURS)}
        asked, written = {}, {}
        written[OURS] = classify(photo_files[:1], server.url + OURS)
        asked["we, first"] = take(server.asked)
        facts, arrays = ask_library(
            folder, photo_files, [server.url + OURS, server.url + THEIRS], places
        )
        asked["library"] = take(server.asked)
        written[THEIRS] = classify(photo_files[:1], server.url + THEIRS)
        asked["we, then"] = take(server.asked)
        yield Library(
            places, photo_files, facts["loaded"], arrays, server.url, facts["resolved"], asked,
            written,
        )  # fmt: skip


def take(asked: list[str]) -> list[str]:
    """Return the requests so far, and forget them."""
    taken = list(asked)
    asked.clear()
    return taken


def classify(photos: list[Path], module: str) -> str:
    return run("classify", *photos, "--module", module, "-f", "csv").stdout


def ask_library(
    folder: Path, photos: list[Path], handles: list[str], places: dict[str, Path]
) -> tuple[Any, dict[str, Any]]:
    """Run the library in a process of its own; return its facts, and its outputs by name."""
    from mnv1cli.types import PixelSpec
    from tests.support.pixels import load_pixels

    pixels = {size: folder / f"{size}.npy" for size in set(MODULES.values())}
    for size, file in pixels.items():
        np.save(file, [load_pixels(photo.read_bytes(), PixelSpec(size)) for photo in photos])
    load = {name: (str(places[name]), str(pixels[size])) for name, size in MODULES.items()}
    outputs, task_file, result_file = (folder / n for n in ("out.npz", "task.json", "result.json"))
    task = {"outputs": str(outputs), "resolve": handles, "load": load, "keras": KERAS}
    task_file.write_text(json.dumps(task))
    script = [sys.executable, hub_library.__file__, str(task_file), str(result_file)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(outputs) as arrays:
        return json.loads(result_file.read_text()), dict(arrays)


def test_the_library_resolves_an_archive_that_we_packed(library: Library) -> None:
    directory = Path(library.resolved[library.url + THEIRS])
    names = {path.relative_to(directory).as_posix() for path in directory.rglob("*")}
    built = library.places["built"]
    assert names == {path.relative_to(built).as_posix() for path in built.rglob("*")}
    assert (directory / "saved_model.pb").read_bytes() == (built / "saved_model.pb").read_bytes()


def test_what_we_fetched_the_library_does_not_fetch_again(library: Library) -> None:
    assert library.asked["we, first"] == [f"{OURS}{COMPRESSED}"]
    assert library.asked["library"] == [f"{THEIRS}{COMPRESSED}"]


def test_what_the_library_fetched_we_do_not_fetch_again(library: Library) -> None:
    assert library.asked["we, then"] == []
    assert library.rows[THEIRS] == library.rows[OURS]
    assert len(rows(library.rows[THEIRS])) == 5


def compute(library: Library, name: str, command: str, engine: str, tmp_path: Path) -> Any:
    file = tmp_path / "values.npy"
    module = ("--module", library.places[name], "--engine", engine)
    run(command, *library.photos, *module, "-o", file)
    return np.load(file)


@pytest.mark.parametrize("name", MODULES)
def test_the_library_computes_our_logits(library: Library, name: str, tmp_path: Path) -> None:
    theirs = library.arrays[f"{name}/logits"]
    # Every compiled model is compared with the reference engine when it is made.
    ours = compute(library, name, "logits", "litert" if name == "bundled" else "tf", tmp_path)
    # Those of the bundled weights are up to 40, where float32 has steps of 4e-6.
    tolerance = TOLERANCE * max(1.0, np.ptp(theirs) / 10)
    assert np.abs(ours - theirs).max() < tolerance
    assert np.ptp(theirs) > 1


@pytest.mark.parametrize(("command", "output"), [("logits", "logits"), ("embed", "features")])
def test_the_reference_engine_is_as_near_as_float32(
    library: Library, command: str, output: str, tmp_path: Path
) -> None:
    ours = compute(library, "bundled", command, "tf", tmp_path)
    assert np.abs(ours - library.arrays[f"bundled/{output}"]).max() < TOLERANCE


@pytest.mark.parametrize("name", KERAS)
def test_a_keras_layer_gives_the_logits(library: Library, name: str) -> None:
    logits = library.arrays[f"{name}/logits"]
    np.testing.assert_allclose(library.arrays[f"{name}/keras"], logits, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_the_graph_for_training_has_its_losses(library: Library, name: str) -> None:
    facts = library.facts[name]
    assert (len(facts["losses"]), facts["updates"]) == (15, 54)
    variables = read_checkpoint(library.places[name] / "variables")
    names = [loss.removesuffix("kernel/Regularizer/l2_regularizer:0") for loss in facts["losses"]]
    decay = [4e-5 * (variables[f"{n}weights"].astype(np.float64) ** 2).sum() / 2 for n in names]
    np.testing.assert_allclose(library.arrays[f"{name}/losses"], decay, rtol=1e-4)


@pytest.mark.parametrize("name", MODULES)
def test_the_library_sees_the_class_names(library: Library, name: str) -> None:
    place, facts = library.places[name], library.facts[name]
    own = [str(place / LABELS_ASSET)] if name in ("tuned", "full") else []
    assert facts["assets"] == facts["training_assets"] == own
    for file in own:
        labels = [row["label"] for row in rows(Path(file).read_bytes())]
        assert labels == ["digit 0", "digit 1"]


def test_class_names_survive_an_export_by_tensorflow(library: Library, tmp_path: Path) -> None:
    import tensorflow as tf

    # The files of the module are gone when the export is used.
    module = shutil.copytree(library.places["tuned"], tmp_path / "module")
    loaded = tf.saved_model.load(str(module), tags=[])
    signature = loaded.signatures["image_classification"]
    loaded.logits = tf.function(lambda images: {"logits": signature(images)["default"]})
    spec = tf.TensorSpec([None, 128, 128, 3], tf.float32)
    serving = loaded.logits.get_concrete_function(spec)
    tf.saved_model.save(loaded, str(tmp_path / "again"), signatures=serving)
    shutil.rmtree(module)
    words = ("--module", tmp_path / "again", "--engine", "tf", "-f", "csv")
    lines = run("classify", library.photos[0], *words).stdout
    assert {row["label"] for row in rows(lines)} == {"digit 0", "digit 1"}
