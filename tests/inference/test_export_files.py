"""Where an exported model goes: its names, what is replaced, and that nothing is left half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import Mnv1Error, OptionError, OutputError
from mnv1cli.inference.export.export import export_module
from mnv1cli.inference.export.files import ExportFiles, ExportFormat, choose_format
from mnv1cli.inference.predictor import Predictor
from mnv1cli.modules import mobilenet
from mnv1cli.modules.files import LABELS_ASSET, compute_fingerprint
from mnv1cli.types import Variant
from tests.modules.test_mobilenet import make_random_variables
from tests.support.shell import command, mnv1, program, run

if TYPE_CHECKING:
    from pathlib import Path

SERVED = b"\x22\x05serve"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small") / "module"
    directory.mkdir()
    mobilenet.write_module(directory, make_random_variables(0.25, 3), Variant(0.25, 32))
    (directory / LABELS_ASSET).write_text("a\nb\nc\n")
    return directory


@pytest.fixture(scope="module")
def predictor(small: Path) -> Predictor:
    return Predictor(small)


def publish_half(files: ExportFiles) -> None:
    """Publish a description whose model is missing."""
    with files.open_work() as work:
        (work / "text").write_text("{}")
        files.publish(work / "missing", work / "text", work)


def write_savedmodel(folder: Path) -> Path:
    """Write what looks like the folder of a SavedModel."""
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(SERVED)
    for name in ("variables.index", "variables.data-00000-of-00001"):
        (folder / "variables" / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "wanted", "chosen"),
    [
        ("m.tflite", None, "tflite"),
        ("M.TFLITE", None, "tflite"),
        ("a.b/m.onnx", None, "onnx"),
        (".onnx", None, "onnx"),
        ("m", None, "savedmodel"),
        ("m/", None, "savedmodel"),
        ("m.onnx/", None, "savedmodel"),
        ("mobilenet_v1_1.0_224", None, "savedmodel"),
        ("a.onnx/1", None, "savedmodel"),
        ("m", "onnx", "onnx"),
        ("m.bin", "tflite", "tflite"),
        ("m.onnx", "onnx", "onnx"),
    ],
)
def test_name_chooses_the_format(name: str, wanted: ExportFormat | None, chosen: str) -> None:
    assert choose_format(name, wanted) == chosen


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "m.pb"), ".tflite, .onnx, or a name without a suffix"),
        (("-o", "m.keras"), ".tflite, .onnx, or a name without a suffix"),
        (("-o", "m.onnx", "-f", "tflite"), "a name for onnx, not tflite"),
        (("-o", "m/", "-f", "tflite"), "a name for savedmodel, not tflite"),
        (("-o", "-"), "stdout"),
        (("-o", "s3://bucket/m.onnx"), "not a local file"),
        ((), "Missing option '-o'"),
    ],
)
def test_wrong_name_is_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    result = mnv1("module", "export", "bundled", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("name", ["missing/m.tflite", "file/m", "", ".", "x" * 253 + ".onnx"])
def test_unwritable_place_is_refused_before_the_module_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    result = mnv1("module", "export", "no-such-module", "-o", name)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "no-such-module" not in result.stderr


def test_existing_model_needs_force(predictor: Predictor, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    description = tmp_path / "m.tflite.json"
    export_module(predictor, model)
    before = model.read_bytes()
    with pytest.raises(OutputError, match=r"m\.tflite exists; add --force"):
        export_module(predictor, model, endpoint="features")
    model.unlink()
    with pytest.raises(OutputError, match=r"m\.tflite\.json exists; add --force"):
        export_module(predictor, model, endpoint="features")
    export_module(predictor, model, endpoint="Conv2d_0", force=True)
    assert model.read_bytes() != before
    assert json.loads(description.read_text())["outputs"][0]["name"] == "Conv2d_0"
    assert sorted(os.listdir(tmp_path)) == ["m.tflite", "m.tflite.json"]


def test_savedmodel_is_replaced_whole(predictor: Predictor, tmp_path: Path) -> None:
    model = write_savedmodel(tmp_path / "m")
    (model / "variables" / "old").touch()
    result = run("module", "export", predictor.module.path, "-o", f"{model}/", "--force")
    assert "described in" in result.stdout
    assert not (model / "variables" / "old").exists()
    assert (model / LABELS_ASSET).is_file()
    assert sorted(os.listdir(tmp_path)) == ["m", "m.json"]


def test_empty_folder_is_filled_with_force(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(OutputError, match="m exists; add --force"):
        ExportFiles(tmp_path / "m", "savedmodel")
    files = ExportFiles(tmp_path / "m", "savedmodel", force=True)
    with files.open_work() as work:
        write_savedmodel(work / "model")
        (work / "text").write_text("{}")
        files.publish(work / "model", work / "text", work)
    assert (tmp_path / "m" / "saved_model.pb").read_bytes() == SERVED
    assert sorted(os.listdir(tmp_path)) == ["m", "m.json"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.tflite", b"notes of mine", "is not a .tflite file"),
        ("m.tflite", None, "is not a .tflite file"),
        ("m.onnx", b"notes of mine", "is not a .onnx file"),
        ("m", b"notes of mine", "is not the folder of a SavedModel"),
        ("m", None, "is not the folder of a SavedModel"),
    ],
)
def test_what_is_no_model_is_never_replaced(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    place = tmp_path / name
    if content is None:
        place.mkdir()
        (place / "notes").touch()
    else:
        place.write_bytes(content)
    for force in (False, True):
        with pytest.raises(OutputError, match=said):
            ExportFiles(place, choose_format(name), force)
    assert place.exists()


@pytest.mark.parametrize("entry", ["notes.txt", "tfhub_module.pb"])
def test_savedmodel_with_other_files_is_never_replaced(tmp_path: Path, entry: str) -> None:
    (write_savedmodel(tmp_path / "m") / entry).touch()
    with pytest.raises(OutputError, match="is not the folder of a SavedModel"):
        ExportFiles(tmp_path / "m", "savedmodel", force=True)


@pytest.mark.parametrize("content", ['{"name": "a package"}', "[]", "no JSON", None])
def test_json_that_describes_no_model_is_never_replaced(
    tmp_path: Path, content: str | None
) -> None:
    package = tmp_path / "package.json"
    if content is None:
        package.mkdir()
    else:
        package.write_text(content)
    with pytest.raises(OutputError, match="does not describe a model"):
        ExportFiles(tmp_path / "package", "savedmodel", force=True)


@pytest.mark.parametrize("name", ["", "assets/m.tflite", "variables/m"])
def test_module_itself_is_not_changed(small: Path, predictor: Predictor, name: str) -> None:
    before = compute_fingerprint(small)
    with pytest.raises(Mnv1Error):
        export_module(predictor, small / name, force=True)
    assert compute_fingerprint(small) == before
    with pytest.raises(OptionError, match="would change the module"):
        export_module(predictor, small / "m.tflite")


def test_link_is_followed_with_force(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "m.tflite"
    link.symlink_to("there/m.tflite")
    with pytest.raises(OutputError, match="exists"):
        export_module(predictor, link)
    export_module(predictor, link, force=True)
    assert link.is_symlink()
    assert (tmp_path / "there" / "m.tflite").read_bytes()[4:8] == b"TFL3"
    assert (tmp_path / "there" / "m.tflite.json").is_file()


@pytest.mark.parametrize("name", ["a b\n'é*[x]?.tflite", "a b\n'é*[x]?"])
def test_any_name_will_do(predictor: Predictor, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "odd [*] \\ fol\nder"
    folder.mkdir()
    exported = export_module(predictor, folder / name)
    assert exported.path.exists()
    assert sorted(os.listdir(folder)) == sorted([name, f"{name}.json"])


def test_failure_leaves_nothing(predictor: Predictor, tmp_path: Path) -> None:
    for endpoint in ("Conv2d_99", "nothing"):
        with pytest.raises(Mnv1Error, match="has no endpoint"):
            export_module(predictor, tmp_path / "m.onnx", endpoint=endpoint)
    assert os.listdir(tmp_path) == []


def test_publishing_is_undone_where_it_fails(tmp_path: Path) -> None:
    files = ExportFiles(tmp_path / "m.tflite", "tflite")
    with pytest.raises(OutputError, match="cannot write"):
        publish_half(files)
    assert os.listdir(tmp_path) == []


def test_publishing_keeps_what_it_would_replace_where_it_fails(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"\0\0\0\0TFL3")
    (tmp_path / "m.tflite.json").write_text('{"mnv1_export": 1}')
    files = ExportFiles(tmp_path / "m.tflite", "tflite", force=True)
    with pytest.raises(OutputError, match="cannot write"):
        publish_half(files)
    assert (tmp_path / "m.tflite").read_bytes() == b"\0\0\0\0TFL3"
    assert (tmp_path / "m.tflite.json").read_text() == '{"mnv1_export": 1}'


def test_interrupt_leaves_nothing(small: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("module", "export", small, "-o", tmp_path / "m.onnx"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 300
    while not os.listdir(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [name for name in os.listdir(tmp_path) if name.startswith(".mnv1-")]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert stderr == b"mnv1: stopped by a signal\n"
    assert os.listdir(tmp_path) == []


def test_nothing_but_own_lines_on_stderr(small: Path, tmp_path: Path) -> None:
    result = program("module", "export", small, "-o", tmp_path / "m.onnx")
    assert (result.returncode, result.stderr) == (0, b"")


def test_missing_package_names_the_extra(small: Path, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "tf2onnx.py").write_text("raise ModuleNotFoundError(name='tf2onnx')")
    paths = os.pathsep.join([str(tmp_path / "without"), os.getcwd()])
    result = program("module", "export", small, "-o", tmp_path / "m.onnx", PYTHONPATH=paths)
    assert result.returncode == 2
    assert result.stderr.decode() == (
        "mnv1: error: .onnx needs tf2onnx; pip install 'mnv1cli[onnx]'\n"
    )
