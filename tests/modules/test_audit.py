"""What a module from outside would run is known before any of it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.errors import ModuleError
from mnv1cli.modules import audit, audit_ops, files, inspection, savedmodel
from tests.conftest import ROOT
from tests.support.hostile import CLASSES, SIZE, after, node, tf1, tf2
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker = Callable[[Path, str], Path]

PHOTO = ROOT / "examples" / "photos" / "coffee.jpg"


def write(mark: str) -> Any:
    import tensorflow as tf

    return tf.io.write_file(mark, "written", name="evil/write")


def called(body: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The body as a function of its own, which the graph calls."""
    import tensorflow as tf

    function: Callable[[Any], Any] = tf.function(body, autograph=False)
    return function


def in_loop(mark: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    def loop(scores: Any) -> Any:
        (result,) = tf.while_loop(
            lambda x: tf.reduce_sum(x) < -1e9, lambda x: (after(write(mark), x),), (scores,)
        )
        return result

    return called(loop)


def in_branch(mark: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    def branch(scores: Any) -> Any:
        wanted = tf.reduce_sum(scores) < -1e9
        return tf.cond(wanted, lambda: after(write(mark), scores), lambda: scores)

    return called(branch)


def read(scores: Any) -> Any:
    import tensorflow as tf

    return scores + tf.cast(tf.strings.length(tf.io.read_file(__file__)), tf.float32)


def shaped_by_a_file(directory: Path, mark: str) -> Path:
    """Nothing that is asked for leads to the file: its content is a shape's."""
    import tensorflow as tf

    def spoil(scores: Any) -> Any:
        content = tf.io.decode_raw(tf.io.read_file(__file__), tf.uint8)
        tf.zeros(tf.cast(content[:2], tf.int32))
        return scores

    return tf1(directory, spoil)


def on_restore(mark: str) -> dict[str, Any]:
    def change(meta_graph: Any) -> None:
        node(meta_graph, meta_graph.saver_def.restore_op_name).input.append("^evil/write")

    return {"spoil": lambda scores: (scores, write(mark))[0], "change": change}


def other_checkpoint(meta_graph: Any) -> None:
    elsewhere = meta_graph.graph_def.node.add()
    elsewhere.CopyFrom(node(meta_graph, "save/RestoreV2/tensor_names"))
    elsewhere.name = "elsewhere"
    node(meta_graph, "save/RestoreV2").input[0] = "elsewhere"


def unknown_operation(meta_graph: Any) -> None:
    node(meta_graph, "Relu").op = "NoSuchOperation"


def initialiser_of_tables(mark: str) -> dict[str, Any]:
    def change(meta_graph: Any) -> None:
        tables = meta_graph.collection_def["table_initializer"]
        tables.node_list.value.append("evil/write")

    return {"spoil": lambda scores: (scores, write(mark))[0], "change": change}


def mapped(scores: Any) -> Any:
    import tensorflow as tf

    return scores + tf.raw_ops.ImmutableConst(
        dtype=tf.float32, shape=[CLASSES], memory_region_name=__file__
    )


def debugged(mark: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    return lambda scores: tf.raw_ops.DebugIdentity(
        input=scores, tensor_name="scores:0", debug_urls=[f"file://{mark}"]
    )


def python(name: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    return lambda scores: getattr(tf, name)(lambda x: x, [scores], tf.float32)


def printing(scores: Any) -> Any:
    import tensorflow as tf

    return after(tf.print("scores"), scores)


def unused_function(mark: str) -> Callable[[Any], None]:
    """A function that nothing calls, by a name that the loader calls."""
    import tensorflow as tf

    def add(network: Any) -> None:
        network.harmless = tf.function(
            lambda: after(write(mark), tf.constant(1.0)), input_signature=[]
        )

    return add


def table(mark: str) -> Callable[[Any], None]:
    """A table that is filled from a file when the model is loaded."""
    import tensorflow as tf

    lines = Path(f"{mark}.txt")
    lines.write_text("cat\ndog\n")
    columns = (tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER)
    file = tf.lookup.TextFileInitializer(str(lines), tf.string, columns[0], tf.int64, columns[1])
    found = tf.lookup.StaticHashTable(file, -1)
    return lambda network: setattr(network, "table", found)


def spoilt(make: Callable[..., Path], spoil: Callable[[str], Any]) -> Maker:
    return lambda directory, mark: make(directory, spoil(mark))


WRITERS: dict[str, Maker] = {
    "before the scores": spoilt(tf1, lambda mark: lambda x: after(write(mark), x)),
    "initialiser": lambda d, mark: tf1(d, main_op=lambda: write(mark)),
    "initialiser of tables": lambda d, mark: tf1(d, **initialiser_of_tables(mark)),
    "restore": lambda d, mark: tf1(d, **on_restore(mark)),
    "function": spoilt(tf1, lambda mark: called(lambda x: after(write(mark), x))),
    "call": spoilt(tf2, lambda mark: lambda x: after(write(mark), x)),
    "nested call": spoilt(tf2, lambda mark: called(lambda x: after(write(mark), x))),
}
SLEEPERS: dict[str, tuple[str, Maker]] = {
    "loop": ("WriteFile", spoilt(tf1, in_loop)),
    "branch": ("WriteFile", spoilt(tf1, in_branch)),
    "read": ("ReadFile", lambda d, mark: tf1(d, read)),
    "shape": ("ReadFile", shaped_by_a_file),
    "other checkpoint": ("RestoreV2", lambda d, mark: tf1(d, change=other_checkpoint)),
    "unknown": ("NoSuchOperation", lambda d, mark: tf1(d, change=unknown_operation)),
    "mapped file": ("ImmutableConst", lambda d, mark: tf1(d, mapped)),
    "debugger": ("DebugIdentity", spoilt(tf1, debugged)),
    "numpy": ("PyFunc", lambda d, mark: tf1(d, python("numpy_function"))),
    "print": ("PrintV2", lambda d, mark: tf1(d, printing)),
    "TF2 read": ("ReadFile", lambda d, mark: tf2(d, read)),
    "TF2 print": ("PrintV2", lambda d, mark: tf2(d, printing)),
    "TF2 Python": ("EagerPyFunc", lambda d, mark: tf2(d, python("py_function"))),
    "TF2 unused": ("WriteFile", lambda d, mark: tf2(d, add=unused_function(mark))),
    "TF2 table": ("HashTableV2", lambda d, mark: tf2(d, add=table(mark))),
}
HOSTILE = {**{name: ("WriteFile", make) for name, make in WRITERS.items()}, **SLEEPERS}


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
    """Why what nothing leads to is judged as well: TensorFlow would have run it."""
    import tensorflow as tf

    (tmp_path / "shape").write_bytes(b"\x03\x04")
    with tf.Graph().as_default() as graph:
        content = tf.io.decode_raw(tf.io.read_file(str(tmp_path / "shape")), tf.uint8)
        shaped = tf.reshape(tf.zeros([12]), tf.ensure_shape(tf.cast(content, tf.int32), [2]))
    with tf.Graph().as_default():
        (found,) = tf.import_graph_def(graph.as_graph_def(), return_elements=[shaped.name])
    assert found.shape == (3, 4)


def test_tracing_a_function_runs_nothing_of_it(tmp_path: Path) -> None:
    """Why it can be traced first, and then be judged as it will be run."""
    mark = tmp_path / "mark"
    directory = WRITERS["call"](tmp_path / "m", str(mark))
    function = savedmodel.load_function(directory, SIZE)
    found = audit.audit_function(function.graph.as_graph_def())
    assert [each.operation for each in found] == ["WriteFile"]
    assert not mark.exists()


def test_loading_would_call_a_function_that_nothing_calls(tmp_path: Path) -> None:
    """Why every function is judged that a TF2 object names: this attribute is a method."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    mark = tmp_path / "mark"
    directory = tf2(tmp_path / "m", add=unused_function(str(mark)))
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
    """Only what uses that graph has to refuse it; assignments and chance belong there."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    def train(scores: Any) -> Any:
        return after(write("nowhere"), tf.nn.dropout(scores, 0.5))

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
    directory = tf1(tmp_path / "m", main_op=lambda: write(str(mark)), tags=("serve",))
    assert "WriteFile" in mnv1("classify", PHOTO, "--module", directory).stderr
    assert not mark.exists()
    mnv1("classify", PHOTO, "--module", directory, "--trust-module", "--image-size", SIZE)
    assert mark.exists()


def test_of_two_graphs_with_the_same_tags_the_one_that_is_loaded_is_judged(tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    evil, good = tf1(tmp_path / "e", read), tf1(tmp_path / "g")
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
    directory = tf1(tmp_path / "m", read)
    result = mnv1(command, PHOTO, "--module", directory)
    assert (result.exit_code, "ReadFile" in result.stderr) == (1, True)
    quantize = mnv1("module", "quantize", PHOTO, "--module", directory)
    assert (quantize.exit_code, "ReadFile" in quantize.stderr) == (1, True)


def test_verdict_is_noted_and_costs_no_tensorflow_the_next_time(tmp_path: Path) -> None:
    directory = tf1(tmp_path / "m", read)
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

    result = mnv1("classify", PHOTO, "--module", tf1(tmp_path / "m", read, change))
    assert r"Evil\n\x1b[2J" in result.stderr
    assert result.stderr.count("\n") == 1


def function(name: str, *operations: str, **attributes: str) -> Any:
    """A function with these operations, each of them a node of that name in lower case."""
    from tensorflow.core.framework import function_pb2

    made = function_pb2.FunctionDef()
    made.signature.name = name
    for operation in operations:
        made.node_def.add(name=operation.lower(), op=operation)
    for key, value in attributes.items():
        made.attr[key].s = value.encode()
    return made


def meta_graph(*functions: Any, **nodes: str) -> Any:
    """A graph of nodes by name and operation, the last of which is an output of a signature."""
    from tensorflow.core.protobuf import meta_graph_pb2

    made = meta_graph_pb2.MetaGraphDef()
    made.graph_def.library.function.extend(functions)
    for name, operation in nodes.items():
        made.graph_def.node.add(name=name, op=operation)
        made.signature_def["default"].outputs["default"].name = f"{name}:0"
    return made


def judged(found: Any) -> list[audit_ops.ForeignOperation]:
    from tensorflow.core.protobuf import saved_model_pb2

    return list(audit.audit_module(saved_model_pb2.SavedModel(), found))


def test_functions_that_call_each_other_are_followed_once() -> None:
    first, second = function("first", "second"), function("second", "first", "WriteFile")
    assert judged(meta_graph(first, second, x="first")) == [("WriteFile", "second/writefile")]


def test_all_functions_of_one_name_are_judged() -> None:
    for same in (
        [function("f", "WriteFile"), function("f")],
        [function("f"), function("f", "Print")],
    ):
        assert len(judged(meta_graph(*same, x="f"))) == 1


def test_function_hides_an_operation_of_its_name_as_it_does_for_tensorflow() -> None:
    assert judged(meta_graph(function("Relu", "WriteFile"), x="Relu")) == [
        ("WriteFile", "Relu/writefile")
    ]


def test_function_that_stands_in_for_another_is_judged_uncalled() -> None:
    evil = function("evil", "WriteFile", api_implements="something")
    assert judged(meta_graph(evil, x="NoOp")) == [("WriteFile", "evil/writefile")]
    assert judged(meta_graph(function("unused", "WriteFile"), x="NoOp")) == []


def test_function_bound_to_an_attribute_of_a_function_is_judged() -> None:
    """A body may call what its caller passes by name."""
    made = meta_graph(function("outer", "NoOp"), function("evil", "WriteFile"), x="PartitionedCall")
    passed = made.graph_def.node[0].attr["f"].func
    passed.name = "outer"
    passed.attr["inner"].func.name = "evil"
    assert judged(made) == [("WriteFile", "evil/writefile")]
    passed.attr["inner"].func.name = "missing"
    assert judged(made) == [("PartitionedCall", "x")]


@pytest.mark.parametrize("key", ["saved_model_main_op", "legacy_init_op", "table_initializer"])
def test_initialisers_may_assign_and_do_nothing_else(key: str) -> None:
    for operation, found in (("Assign", []), ("WriteFile", [("WriteFile", "init")])):
        listed, signed = (meta_graph(init=operation, x="NoOp") for _ in range(2))
        listed.collection_def[key].node_list.value.append("init")
        signature = signed.signature_def["__saved_model_init_op"]
        signature.outputs["__saved_model_init_op"].name = "init"
        assert judged(listed) == judged(signed) == found
    assert judged(meta_graph(x="Assign")) == [("Assign", "x")]


def test_what_fills_local_variables_is_run_on_loading_and_that_of_others_is_not() -> None:
    from tensorflow.core.framework import variable_pb2

    wire = variable_pb2.VariableDef(variable_name="v:0", initializer_name="evil")
    for collection, found in (("variables", []), ("local_variables", [("WriteFile", "evil")])):
        made = meta_graph(evil="WriteFile", v="VarHandleOp")
        made.collection_def[collection].bytes_list.value.append(wire.SerializeToString())
        assert judged(made) == found


def test_every_way_to_name_a_tensor_in_a_signature_is_followed() -> None:
    sparse, composite = (meta_graph(evil="WriteFile", x="NoOp") for _ in range(2))
    sparse.signature_def["s"].inputs["i"].coo_sparse.values_tensor_name = "evil:0"
    composite.signature_def["s"].outputs["o"].composite_tensor.components.add(name="evil:0")
    for made in (sparse, composite):
        assert judged(made) == [("WriteFile", "evil")]


# What has to pass.


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

READING = "ReadFile MatchingFiles ImmutableConst DecodeProtoV2 EncodeProto GenerateVocabRemapping"
WRITING = "WriteFile SaveV2 Save MergeV2Checkpoints DebugIdentity DebugIdentityV2 DumpTensor"
WORLD = (
    "Print PrintV2 Abort PyFunc PyFuncStateless EagerPyFunc RemoteCall RpcCall Send Recv "
    "XlaCustomCallV2 XlaCallModule FileSystemSetConfiguration SymbolicGradient BatchFunction"
)
DATA = (
    "TextLineDataset TFRecordDataset SnapshotDataset SnapshotDatasetV2 CacheDataset ReaderRead "
    "MapDataset QueueDequeue IteratorGetNext LookupTableFindV2 LookupTableFind HashTableV2 "
    "InitializeTableFromTextFileV2 InitializeTableFromTextFile LoadAndRemapMatrix Restore"
)


@pytest.mark.parametrize("operation", f"{READING} {WRITING} {WORLD} {DATA}".split())
def test_operation_is_foreign_in_every_graph(operation: str) -> None:
    assert audit_ops.find_definition(operation) is not None
    assert not audit_ops.infers(operation)
    assert not audit_ops.trains(operation)


@pytest.mark.parametrize("operation", [*READING.split(), "DebugIdentity", "Abort"])
def test_operation_that_shapes_could_depend_on_is_foreign_wherever_it_is(operation: str) -> None:
    assert audit_ops.runs_on_import(operation)


def test_no_operation_that_computes_takes_what_could_be_a_name() -> None:
    """Whatever comes with another version of TensorFlow: only texts that are listed are taken."""
    for operation in every_operation():
        if audit_ops.computes(operation) and not audit_ops._ON_TEXTS.fullmatch(operation):
            definition = audit_ops.find_definition(operation)
            assert not definition.is_stateful
            kinds = {each.type for each in [*definition.input_arg, *definition.attr]}
            assert not kinds & {7, "func", "list(func)"}, operation


def every_operation() -> list[str]:
    import tensorflow.python.client.pywrap_tf_session as session
    from tensorflow.core.framework import op_def_pb2

    listed = op_def_pb2.OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    return [each.name for each in listed.op]
