"""Modules that do more than compute, and small ones that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE, CLASSES = 8, 4


def tf1(
    directory: Path,
    spoil: Callable[[Any], Any] | None = None,
    change: Callable[[Any], None] | None = None,
    main_op: Callable[[], Any] | None = None,
    tags: tuple[str, ...] = (),
) -> Path:
    """A TF1 Hub module of one layer; `spoil` makes other scores of the scores.

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


def after(operation: Any, scores: Any) -> Any:
    """The scores, once the operation is done."""
    import tensorflow as tf

    with tf.control_dependencies([operation]):
        return tf.identity(scores)


def tf2(
    directory: Path,
    spoil: Callable[[Any], Any] | None = None,
    add: Callable[[Any], None] | None = None,
) -> Path:
    """A TF2 SavedModel of one layer; `add` adds to the object that is saved."""
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


def node(meta_graph: Any, name: str) -> Any:
    return next(each for each in meta_graph.graph_def.node if each.name == name)
