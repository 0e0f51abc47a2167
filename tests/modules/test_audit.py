"""The operations of a module are known, and refused, before any of them runs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.errors import ModuleError
from mnv1cli.modules import audit, files, inspection, savedmodel
from tests.conftest import ROOT
from tests.support.hostile import (
    CLASSES,
    HOSTILE,
    SIZE,
    SLEEPERS,
    WRITERS,
    add_unused_function,
    read_file,
    tf1,
    tf2,
    wait_for,
    write_file,
)
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

PHOTO = ROOT / "examples" / "photos" / "coffee.jpg"


@pytest.mark.parametrize("name", HOSTILE)
def test_what_does_more_than_compute_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    operation, make = HOSTILE[name]
    mark = tmp_path / "mark"
    directory = make(tmp_path / "m", str(mark))
    result = mnv1("classify", PHOTO, "--module", directory)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert f"module {directory} runs operations" in line
    assert f"{operation} (node '" in line
    assert "--trust-module" in line
    assert not mark.exists()


@pytest.mark.parametrize("name", WRITERS)
def test_a_module_that_is_trusted_runs_and_only_then(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    directory = WRITERS[name](tmp_path / "m", str(mark))
    run = ("logits", PHOTO, "--module", directory, "--engine", "tf", "-f", "csv")
    trusted = mnv1(*run, "--trust-module")
    assert trusted.exit_code == 0, trusted.stderr
    assert mark.read_text() == "written"
    mark.unlink()
    # What was found out is noted, and trust is not.
    savedmodel.load_function.cache_clear()
    assert mnv1(*run).exit_code == 1
    assert not mark.exists()


def test_reading_the_graph_alone_would_read_a_file_for_a_shape(tmp_path: Path) -> None:
    """Show why unreachable nodes are judged too: TensorFlow would have run them."""
    import tensorflow as tf

    (tmp_path / "shape").write_bytes(b"\x03\x04")
    with tf.Graph().as_default() as graph:
        content = tf.io.decode_raw(tf.io.read_file(str(tmp_path / "shape")), tf.uint8)
        shaped = tf.reshape(tf.zeros([12]), tf.ensure_shape(tf.cast(content, tf.int32), [2]))
    with tf.Graph().as_default():
        (found,) = tf.import_graph_def(graph.as_graph_def(), return_elements=[shaped.name])
    assert found.shape == (3, 4)


def test_tracing_a_function_runs_nothing_of_it(tmp_path: Path) -> None:
    """Show why a function can be traced first, and then be judged as it will be run."""
    mark = tmp_path / "mark"
    directory = WRITERS["call"](tmp_path / "m", str(mark))
    function = savedmodel.load_function(directory, SIZE)
    found = audit.audit_function(function.graph.as_graph_def())
    assert [each.operation for each in found] == ["WriteFile"]
    assert not mark.exists()


def test_loading_would_call_a_function_that_nothing_calls(tmp_path: Path) -> None:
    """Show why every function is judged that a TF2 object names: this attribute is a method."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    mark = tmp_path / "mark"
    directory = tf2(tmp_path / "m", add=add_unused_function(str(mark)))
    file = directory / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for each in saved_model.meta_graphs[0].object_graph_def.nodes:
        for child in each.children:
            if child.local_name == "harmless":
                child.local_name = "_gather_saveables_for_checkpoint"
    file.write_bytes(saved_model.SerializeToString())
    with pytest.raises(ModuleError, match="WriteFile"):
        inspection.open_module(str(directory))
    assert not mark.exists()
    tf.saved_model.load(str(directory))
    assert mark.exists()


def test_a_graph_for_training_is_judged_and_keeps_none_from_classifying(tmp_path: Path) -> None:
    """Only a use of that graph has to refuse it; assignments and random numbers belong there."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    def train(scores: Any) -> Any:
        return wait_for(write_file("nowhere"), tf.nn.dropout(scores, 0.5))

    inference, training = tf1(tmp_path / "m"), tf1(tmp_path / "t", train, tags=("train",))
    parts = [
        saved_model_pb2.SavedModel.FromString((each / "saved_model.pb").read_bytes())
        for each in (inference, training)
    ]
    parts[0].meta_graphs.extend(parts[1].meta_graphs)
    (inference / "saved_model.pb").write_bytes(parts[0].SerializeToString())
    found = inspection.open_module(str(inference))
    assert found.foreign == ()
    assert [each.operation for each in found.foreign_training] == ["WriteFile"]
    assert "foreign in training" in mnv1("module", "show", inference).stdout


def test_graph_to_serve_that_is_loaded_as_tf1_is_judged_as_that(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    directory = tf1(tmp_path / "m", main_op=lambda: write_file(str(mark)), tags=("serve",))
    assert "WriteFile" in mnv1("classify", PHOTO, "--module", directory).stderr
    assert not mark.exists()
    mnv1("classify", PHOTO, "--module", directory, "--trust-module", "--image-size", SIZE)
    assert mark.exists()


def test_of_two_graphs_with_the_same_tags_the_one_that_is_loaded_is_judged(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    evil, good = tf1(tmp_path / "e", read_file), tf1(tmp_path / "g")
    parts = [
        saved_model_pb2.SavedModel.FromString((each / "saved_model.pb").read_bytes())
        for each in (evil, good)
    ]
    parts[0].meta_graphs.extend(parts[1].meta_graphs)
    (evil / "saved_model.pb").write_bytes(parts[0].SerializeToString())
    with pytest.raises(ModuleError, match="ReadFile"):
        inspection.open_module(str(evil))


def test_show_names_what_is_foreign_and_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    directory = WRITERS["initialiser"](tmp_path / "m", str(mark))
    shown = mnv1("module", "show", directory)
    assert shown.exit_code == 0
    assert "WriteFile (node 'evil/write')" in shown.stdout
    facts = json.loads(mnv1("module", "show", directory, "--json").stdout)
    assert facts["foreign_operations"] == [{"operation": "WriteFile", "node": "evil/write"}]
    assert facts["foreign_operations_in_training"] == []
    assert not mark.exists()


def test_show_refuses_what_it_would_have_to_load(tmp_path: Path) -> None:
    directory = SLEEPERS["TF2 unused"][1](tmp_path / "m", str(tmp_path / "mark"))
    assert "WriteFile" in mnv1("module", "show", directory).stderr
    facts = json.loads(mnv1("module", "show", directory, "--json", "--trust-module").stdout)
    assert [each["operation"] for each in facts["foreign_operations"]] == ["WriteFile"]


@pytest.mark.parametrize("command", ["logits", "embed", "bench"])
def test_every_command_that_runs_a_module_refuses(tmp_path: Path, command: str) -> None:
    directory = tf1(tmp_path / "m", read_file)
    result = mnv1(command, PHOTO, "--module", directory)
    assert (result.exit_code, "ReadFile" in result.stderr) == (1, True)
    quantize = mnv1("module", "quantize", PHOTO, "--module", directory)
    assert (quantize.exit_code, "ReadFile" in quantize.stderr) == (1, True)


def test_verdict_is_noted_and_costs_no_tensorflow_the_next_time(tmp_path: Path) -> None:
    directory = tf1(tmp_path / "m", read_file)
    assert mnv1("logits", PHOTO, "--module", directory).exit_code == 1
    code = (
        "import sys\nfrom mnv1cli.modules.inspection import open_module\n"
        f"try: open_module({str(directory)!r})\n"
        "except Exception as error: print(error)\n"
        "print('tensorflow' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ReadFile" in run.stdout
    assert run.stdout.endswith("False\n")


def test_names_in_the_message_are_one_line_and_obeyed_by_no_terminal(tmp_path: Path) -> None:
    def change(meta_graph: Any) -> None:
        for each in meta_graph.graph_def.node:
            if each.op == "ReadFile":
                each.op = "Evil\n\x1b[2J"

    result = mnv1("classify", PHOTO, "--module", tf1(tmp_path / "m", read_file, change))
    assert r"Evil\n\x1b[2J" in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_built_here_passes_with_its_graph_for_training() -> None:
    found = inspection.open_module("bundled")
    assert found.foreign == found.foreign_training == ()
    assert ("train",) in found.tags


def test_a_module_of_the_hubs_own_kind_passes_with_its_graph_for_training(shared: Path) -> None:
    found = inspection.open_module(str(shared / "hub" / "feature_vector.tar.gz"))
    assert found.foreign == found.foreign_training == ()
    assert ("train",) in found.tags


def test_plain_modules_pass(tmp_path: Path) -> None:
    for directory in (tf1(tmp_path / "1"), tf2(tmp_path / "2")):
        result = mnv1("logits", PHOTO, "--module", directory, "--engine", "tf")
        assert result.exit_code == 0, result.stderr


def test_keras_models_pass(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    images = keras.Input([SIZE, SIZE, 3])
    net = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(images))
    net = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(net))
    model = keras.Model(images, keras.layers.Dense(CLASSES, "softmax")(net))
    model.export(str(tmp_path / "m"), verbose=False)
    found = inspection.open_module(str(tmp_path / "m"))
    assert (found.foreign, found.classes()) == ((), CLASSES)
    assert files.compute_fingerprint(tmp_path / "m") == found.fingerprint


# Single operations.
