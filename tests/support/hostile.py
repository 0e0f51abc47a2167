"""Modules that do more than compute, and small ones that do not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker = Callable[[Path, str], Path]

SIZE, CLASSES = 8, 4


def tf1(
    directory: Path,
    spoil: Callable[[Any], Any] | None = None,
    change: Callable[[Any], None] | None = None,
    main_op: Callable[[], Any] | None = None,
    tags: tuple[str, ...] = (),
) -> Path:
    """Write a TF1 Hub module of one layer; `spoil` makes other scores of the scores.

    `change` is made to the MetaGraphDef, `main_op` is what is run on loading.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        images = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], name="images")
        with v1.variable_scope("layer", use_resource=True):
            kernel = v1.get_variable("kernel", [3, CLASSES])
        scores = tf.nn.relu(tf.reduce_mean(images, [1, 2]) @ kernel, name="Relu")
        scores = spoil(scores) if spoil else scores
        saver, made = v1.train.Saver(), main_op() if main_op else None
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"images": images}, {"default": scores})
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session, tags, {"image_classification": signature}, main_op=made, saver=saver
        )
        builder.save()
    (directory / "tfhub_module.pb").write_bytes(b"\x08\x03")
    if change:
        file = directory / "saved_model.pb"
        saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        change(saved_model.meta_graphs[0])
        file.write_bytes(saved_model.SerializeToString())
    return directory


def wait_for(operation: Any, scores: Any) -> Any:
    """Return the scores, which wait for the operation."""
    import tensorflow as tf

    with tf.control_dependencies([operation]):
        return tf.identity(scores)


def tf2(
    directory: Path,
    spoil: Callable[[Any], Any] | None = None,
    add: Callable[[Any], None] | None = None,
) -> Path:
    """Write a TF2 SavedModel of one layer; `add` adds to the object that is saved."""
    import tensorflow as tf

    network = tf.Module()
    network.kernel = tf.Variable(np.ones((3, CLASSES), np.float32))

    def score(images: Any) -> Any:
        scores = tf.reduce_mean(images, [1, 2]) @ network.kernel
        return spoil(scores) if spoil else scores

    spec = tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)
    network.__call__ = tf.function(score, input_signature=[spec])
    if add:
        add(network)
    serving = tf.function(lambda inputs: {"logits": score(inputs)}, input_signature=[spec])
    network.serving = serving
    tf.saved_model.save(network, str(directory), signatures=serving)
    return directory


def find_node(meta_graph: Any, name: str) -> Any:
    return next(each for each in meta_graph.graph_def.node if each.name == name)


def write_file(mark: str) -> Any:
    import tensorflow as tf

    return tf.io.write_file(mark, "written", name="evil/write")


def call_body(body: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make the body a function of its own, which the graph calls."""
    import tensorflow as tf

    function: Callable[[Any], Any] = tf.function(body, autograph=False)
    return function


def write_in_loop(mark: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    def loop(scores: Any) -> Any:
        (result,) = tf.while_loop(
            lambda x: tf.reduce_sum(x) < -1e9, lambda x: (wait_for(write_file(mark), x),), (scores,)
        )
        return result

    return call_body(loop)


def write_in_branch(mark: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    def branch(scores: Any) -> Any:
        wanted = tf.reduce_sum(scores) < -1e9
        return tf.cond(wanted, lambda: wait_for(write_file(mark), scores), lambda: scores)

    return call_body(branch)


def read_file(scores: Any) -> Any:
    import tensorflow as tf

    return scores + tf.cast(tf.strings.length(tf.io.read_file(__file__)), tf.float32)


def shape_by_file(directory: Path, mark: str) -> Path:
    """Write a module in which no output depends on the file: its content is a shape."""
    import tensorflow as tf

    def spoil(scores: Any) -> Any:
        content = tf.io.decode_raw(tf.io.read_file(__file__), tf.uint8)
        tf.zeros(tf.cast(content[:2], tf.int32))
        return scores

    return tf1(directory, spoil)


def write_on_restore(mark: str) -> dict[str, Any]:
    def change(meta_graph: Any) -> None:
        find_node(meta_graph, meta_graph.saver_def.restore_op_name).input.append("^evil/write")

    return {"spoil": lambda scores: (scores, write_file(mark))[0], "change": change}


def restore_other_checkpoint(meta_graph: Any) -> None:
    elsewhere = meta_graph.graph_def.node.add()
    elsewhere.CopyFrom(find_node(meta_graph, "save/RestoreV2/tensor_names"))
    elsewhere.name = "elsewhere"
    find_node(meta_graph, "save/RestoreV2").input[0] = "elsewhere"


def add_unknown_operation(meta_graph: Any) -> None:
    find_node(meta_graph, "Relu").op = "NoSuchOperation"


def write_on_table_init(mark: str) -> dict[str, Any]:
    def change(meta_graph: Any) -> None:
        tables = meta_graph.collection_def["table_initializer"]
        tables.node_list.value.append("evil/write")

    return {"spoil": lambda scores: (scores, write_file(mark))[0], "change": change}


def map_file(scores: Any) -> Any:
    import tensorflow as tf

    return scores + tf.raw_ops.ImmutableConst(
        dtype=tf.float32, shape=[CLASSES], memory_region_name=__file__
    )


def debug(mark: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    return lambda scores: tf.raw_ops.DebugIdentity(
        input=scores, tensor_name="scores:0", debug_urls=[f"file://{mark}"]
    )


def call_python(name: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    return lambda scores: getattr(tf, name)(lambda x: x, [scores], tf.float32)


def print_scores(scores: Any) -> Any:
    import tensorflow as tf

    return wait_for(tf.print("scores"), scores)


def add_unused_function(mark: str) -> Callable[[Any], None]:
    """Add a function that nothing calls, by a name that the loader calls."""
    import tensorflow as tf

    def add(network: Any) -> None:
        network.harmless = tf.function(
            lambda: wait_for(write_file(mark), tf.constant(1.0)), input_signature=[]
        )

    return add


def add_table(mark: str) -> Callable[[Any], None]:
    """Add a table that is filled from a file when the model is loaded."""
    import tensorflow as tf

    lines = Path(f"{mark}.txt")
    lines.write_text("cat\ndog\n")
    columns = (tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER)
    file = tf.lookup.TextFileInitializer(str(lines), tf.string, columns[0], tf.int64, columns[1])
    found = tf.lookup.StaticHashTable(file, -1)
    return lambda network: setattr(network, "table", found)


def spoil_with(make: Callable[..., Path], spoil: Callable[[str], Any]) -> Maker:
    return lambda directory, mark: make(directory, spoil(mark))


WRITERS: dict[str, Maker] = {
    "before the scores": spoil_with(tf1, lambda mark: lambda x: wait_for(write_file(mark), x)),
    "initialiser": lambda d, mark: tf1(d, main_op=lambda: write_file(mark)),
    "initialiser of tables": lambda d, mark: tf1(d, **write_on_table_init(mark)),
    "restore": lambda d, mark: tf1(d, **write_on_restore(mark)),
    "function": spoil_with(tf1, lambda mark: call_body(lambda x: wait_for(write_file(mark), x))),
    "call": spoil_with(tf2, lambda mark: lambda x: wait_for(write_file(mark), x)),
    "nested call": spoil_with(tf2, lambda mark: call_body(lambda x: wait_for(write_file(mark), x))),
}
SLEEPERS: dict[str, tuple[str, Maker]] = {
    "loop": ("WriteFile", spoil_with(tf1, write_in_loop)),
    "branch": ("WriteFile", spoil_with(tf1, write_in_branch)),
    "read": ("ReadFile", lambda d, mark: tf1(d, read_file)),
    "shape": ("ReadFile", shape_by_file),
    "other checkpoint": ("RestoreV2", lambda d, mark: tf1(d, change=restore_other_checkpoint)),
    "unknown": ("NoSuchOperation", lambda d, mark: tf1(d, change=add_unknown_operation)),
    "mapped file": ("ImmutableConst", lambda d, mark: tf1(d, map_file)),
    "debugger": ("DebugIdentity", spoil_with(tf1, debug)),
    "numpy": ("PyFunc", lambda d, mark: tf1(d, call_python("numpy_function"))),
    "print": ("PrintV2", lambda d, mark: tf1(d, print_scores)),
    "TF2 read": ("ReadFile", lambda d, mark: tf2(d, read_file)),
    "TF2 print": ("PrintV2", lambda d, mark: tf2(d, print_scores)),
    "TF2 Python": ("EagerPyFunc", lambda d, mark: tf2(d, call_python("py_function"))),
    "TF2 unused": ("WriteFile", lambda d, mark: tf2(d, add=add_unused_function(mark))),
    "TF2 table": ("HashTableV2", lambda d, mark: tf2(d, add=add_table(mark))),
}
HOSTILE = {**{name: ("WriteFile", make) for name, make in WRITERS.items()}, **SLEEPERS}
