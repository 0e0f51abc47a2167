"""Files and folders that are taken for modules are named, with what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
import warnings
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.modules import files, inspection, locate
from tests.support import hub as hubs
from tests.support.hub import HANDLE_PATH, SLOT, Hub
from tests.support.laid import FILES, lay
from tests.support.shell import mnv1
from tests.support.tars import module_members, tar_bytes

if TYPE_CHECKING:
    from pathlib import Path

EXPORT = "keras.models.load_model(FILE).export(FOLDER)"


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each form, as its own library writes it where it is installed."""
    folder = tmp_path_factory.mktemp("forms")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own
        write_of_keras(folder)
    write_of_tf1(folder)
    write_of_others(folder)
    return folder


def write_of_keras(folder: Path) -> None:
    """Write a model of Keras in each of its forms."""
    import keras
    import tensorflow as tf

    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)]
    )
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    model.export(str(folder / "exported"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "exported"))
    (folder / "model.tflite").write_bytes(converter.convert())
    with zipfile.ZipFile(folder / "model.keras") as archive:
        archive.extractall(folder / "unpacked")


def write_of_tf1(folder: Path) -> None:
    """Write a frozen graph, and a checkpoint."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        images = v1.placeholder(tf.float32, [None, 32, 32, 3], name="images")
        tf.nn.relu(images, name="out")
        (folder / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
        variable = v1.get_variable("v", [3])
        saver = v1.train.Saver()
        with v1.Session() as session:
            session.run(variable.initializer)
            saver.save(session, str(folder / "trained" / "model.ckpt"), global_step=5)


def write_of_others(folder: Path) -> None:
    """Write files of other libraries."""
    np.savez(folder / "weights.npz", a=np.ones(3))
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(4)
    (folder / "model.safetensors").write_bytes(content)
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"x")
        archive.writestr("model/version", "3")
    (folder / "legacy.pth").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    (folder / "m.tar.xz").write_bytes(tar_bytes(*module_members(), mode="w:xz"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model.keras", f"is a Keras model (.keras), not a module; export the model: {EXPORT}"),
        ("model.h5", f"is an HDF5 file (.h5), as Keras writes it, not a module; export the model: "
                     f"{EXPORT}"),
        ("model.weights.h5", "is an HDF5 file (.h5), as Keras writes it, not a module"),
        ("model.tflite", "is a model for LiteRT (.tflite), not a module; name the SavedModel"),
        ("frozen.pb", "is a frozen graph (.pb), not a module; name the SavedModel"),
        ("exported/saved_model.pb", "is the graph of a SavedModel, not a module; name its folder"),
        ("trained/checkpoint", "is a file of a checkpoint, not a module; build a module from it: "
                               "mnv1 module build --checkpoint"),
        ("trained/model.ckpt-5.index", "is a file of a checkpoint"),
        ("trained/model.ckpt-5.meta", "is a file of a checkpoint"),
        ("trained/model.ckpt-5.data-00000-of-00001", "is a file of a checkpoint"),
        ("weights.npz", "is a file of weights (.npz), not a module; build a module from it: "
                        "mnv1 module build --weights"),
        ("model.safetensors", "is a file of weights (.safetensors)"),
        ("model.pt", "is a PyTorch file (.pt)"),
        ("legacy.pth", "is a PyTorch file (.pt)"),
        ("m.tar.xz", "is an archive packed with xz, not a module; unpack it"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("renamed", [False, True])
def test_file_is_named_by_its_content(
    forms: Path, tmp_path: Path, own_cache: Path, name: str, says: str, renamed: bool
) -> None:
    path = forms / name
    # What a file is called does not matter, but for the parts of a checkpoint.
    if renamed and "trained" not in name:
        path = tmp_path / "module.tar.gz"
        shutil.copy(forms / name, path)
    result = mnv1("module", "show", "--module", path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mnv1: error: {path} {says}")
    assert result.stderr.count("\n") == 1
    assert not own_cache.exists()


@pytest.mark.parametrize("producer", [{}, {"producer_name": "pytorch"}])
def test_onnx_is_named(tmp_path: Path, producer: dict[str, str]) -> None:
    onnx = pytest.importorskip("onnx")
    shape = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [shape], [result])
    onnx.save(onnx.helper.make_model(graph, **producer), str(tmp_path / "m.onnx"))
    stderr = mnv1("module", "show", "--module", tmp_path / "m.onnx").stderr
    assert "m.onnx is an ONNX model (.onnx), not a module; name the SavedModel" in stderr


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("unpacked", "it is an unpacked Keras model"),
        ("trained", "it has checkpoint, a file of a checkpoint: build a module from it"),
        ("", "name {}/exported, which has one"),
    ],
)
def test_folder_without_a_graph_is_told_what_to_do(forms: Path, name: str, advice: str) -> None:
    stderr = mnv1("module", "show", "--module", forms / name).stderr
    assert stderr.startswith(
        f"mnv1: error: {forms / name} is not a module: saved_model.pb is missing; "
        f"{advice.format(forms)}"
    )
    assert stderr.count("\n") == 1


def test_folder_with_nothing_of_a_module_is_one_line(tmp_path: Path) -> None:
    lay(tmp_path / "m", {"notes.txt": b"x", "photo.jpg": b"\xff\xd8"})
    assert mnv1("module", "show", "--module", tmp_path / "m").stderr == (
        f"mnv1: error: {tmp_path / 'm'} is not a module: saved_model.pb is missing\n"
    )


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000), gzip.compress(b"x", mtime=0)])
def test_any_other_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.tar.gz"
    path.write_bytes(content)
    stderr = mnv1("module", "show", "--module", path).stderr
    assert f"{path} is not an intact .tar.gz archive: " in stderr


# --- archives -----------------------------------------------------------------------


def pack(kind: str, module: Path) -> bytes:
    """Pack a module as a ZIP or as a plain tar, in a folder."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in files.list_files(module):
                archive.write(module / name, f"m/{name}")
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(module, arcname="m")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_zip_and_tar_are_taken(bundled: Path, own_cache: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"module.{kind}"
    path.write_bytes(pack(kind, bundled))
    module = inspection.open_module(str(path))
    assert module.fingerprint == files.compute_fingerprint(bundled)
    assert locate.locate(str(path)).path == module.path
    stdout = mnv1("module", "verify", module.path).stdout
    assert "all files are unchanged" in stdout


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.usefixtures("online")
def test_zip_and_tar_of_a_server_are_taken(
    hub: Hub, bundled: Path, own_cache: Path, kind: str
) -> None:
    hub.answers[HANDLE_PATH] = hubs.sends(pack(kind, bundled), Content_Type="application/x")
    assert locate.locate("hub").path == own_cache / SLOT
    assert files.compute_fingerprint(own_cache / SLOT) == files.compute_fingerprint(bundled)


@pytest.mark.usefixtures("online")
def test_other_form_of_a_server_is_named(hub: Hub, own_cache: Path, forms: Path) -> None:
    hub.answers["/m/1"] = hubs.sends((forms / "model.keras").read_bytes())
    stderr = mnv1("module", "fetch", f"{hub.url}/m/1").stderr
    assert "what it sent is a Keras model (.keras), not a module; export the model" in stderr
    hub.answers["/m/2"] = hubs.sends((forms / "model.tflite").read_bytes())
    stderr = mnv1("module", "fetch", f"{hub.url}/m/2").stderr
    assert "it sent no archive but unknown type" in stderr


# --- variables in several files ----------------------------------------------------------


def test_module_may_have_its_variables_in_several_files(tmp_path: Path) -> None:
    import tensorflow as tf

    model = tf.Module()
    model.kernel = tf.Variable(np.ones((3, 5), np.float32), name="kernel")
    call = tf.function(
        lambda images: tf.reduce_mean(images, [1, 2]) @ model.kernel,
        input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32, name="images")],
    )
    module = tmp_path / "module"
    tf.saved_model.save(model, str(module), signatures=call.get_concrete_function())
    split_variables(module / "variables")
    assert not (module / "variables" / "variables.data-00000-of-00001").exists()
    assert files.find_missing_file(module) is None
    facts = json.loads(mnv1("module", "show", "--json", "--module", module).stdout)
    assert facts["classes"] == 5
    (module / "variables" / "variables.data-00001-of-00002").unlink()
    stderr = mnv1("module", "show", "--module", module).stderr
    assert "variables/variables.data-00001-of-00002 is missing" in stderr


def split_variables(folder: Path) -> None:
    """Split a checkpoint in two, as several machines write it."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder / "variables"))
    names = sorted(reader.get_variable_to_shape_map())
    parts = []
    for i, part in enumerate((names[:1], names[1:])):
        prefix = str(folder / f"part{i}")
        tensors = [tf.constant(reader.get_tensor(name)) for name in part]
        tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=part, shape_and_slices=[""] * len(part), tensors=tensors
        )
        parts.append(prefix)
    for file in folder.glob("variables.*"):
        file.unlink()
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=str(folder / "variables")
    )


def test_first_of_several_files_that_is_missing_is_named(tmp_path: Path) -> None:
    shards = {f"variables/variables.data-0000{i}-of-00003": b"x" for i in (0, 2)}
    laid = {name: data for name, data in FILES.items() if "data" not in name}
    lay(tmp_path, {**laid, **shards})
    assert files.find_missing_file(tmp_path) == "variables/variables.data-00001-of-00003"
    # Those of an older checkpoint do not matter.
    lay(tmp_path, FILES)
    assert files.find_missing_file(tmp_path) is None
