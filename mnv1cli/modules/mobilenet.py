"""The MobileNet V1 graph, and the TF1 Hub module written from its variables.

The network is that of Howard et al., "MobileNets" (arXiv:1704.04861), table 1,
with the variable and endpoint names of TF-Slim's `mobilenet_v1.py`. A module has
the layout that `hub.Module.export` writes: two metagraphs without a saver,
signatures, an attachment with the image size, and a checkpoint. Like the modules
that were exported from TF-Slim, both have its weight decay as regularisation losses.
It is written deterministically: the same variables give the same bytes in every
process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli.modules.attachments import ATTACHMENTS, encode_image_size, register_labels
from mnv1cli.modules.files import HUB_MARK, LABELS_ASSET
from mnv1cli.modules.weights import (
    SCOPE,
    Layer,
    check_shapes,
    count_classes,
    list_layers,
    list_shapes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.modules.weights import Variables
    from mnv1cli.types import Variant

# Raise this with every change of the written module: it is a part of the cache's key.
REVISION = 2

_BATCH_NORM_EPSILON = 0.001
# The part of a moving average that remains in each training step.
BATCH_NORM_DECAY = 0.9997
_DROPOUT_RATE = 0.001
# TF-Slim's `mobilenet_v1_arg_scope`: every kernel is regularised but the depthwise ones.
_WEIGHT_DECAY = 0.00004

# The format v3 of tfhub_module.pb.
_HUB_FORMAT = b"\x08\x03"

# The GraphDef version that the graph claims: that of TF 2.15, which knows every op
# used here. It is fixed, so that the bytes do not depend on the TensorFlow that
# wrote them.
_PRODUCER = 1645


def write_module(
    directory: Path, variables: Variables, variant: Variant, labels: bytes | None = None
) -> None:
    """Write a TF1 Hub module with `variables` (TF-Slim names) into an empty `directory`.

    Variables are cast to float32. With the head `MobilenetV1/Logits/...` among
    them the module classifies, with as many classes as the head has biases;
    without it, the module only has feature vectors. Variables that MobileNet V1
    does not have, such as an optimizer's, are left out. `labels` is a table of the
    class names as CSV; the module has it as an asset.

    Raises:
        WeightsError: a variable is missing or of another shape.
        OSError: the module cannot be written.
    """
    import numpy as np
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    classes = count_classes(variables)
    shapes = list_shapes(variant.depth_multiplier, classes)
    check_shapes(variables, shapes)
    saved_model = saved_model_pb2.SavedModel()
    for training in (False, True):
        meta_graph = saved_model.meta_graphs.add()
        meta_graph.CopyFrom(_make_meta_graph(variant, classes, training))
        if labels is not None:
            register_labels(meta_graph)
    (directory / "variables").mkdir()
    names = sorted(shapes)
    try:
        tf.raw_ops.SaveV2(
            prefix=str(directory / "variables" / "variables"),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(np.asarray(variables[name], np.float32)) for name in names],
        )
    except tf.errors.OpError as error:
        raise OSError(f"cannot write the variables to {directory}: {error.message}") from error
    (directory / "assets").mkdir()
    if labels is not None:
        (directory / LABELS_ASSET).write_bytes(labels)
    (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString(deterministic=True))
    (directory / HUB_MARK).write_bytes(_HUB_FORMAT)


def _make_meta_graph(variant: Variant, classes: int | None, training: bool) -> Any:
    """Make the MetaGraphDef of a mode, with signatures and attachment."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        # Required in a process that enables deterministic operations; it is not written.
        tf.compat.v1.set_random_seed(0)
        # The name that the signatures of the hub's own modules have.
        size = variant.image_size
        images = tf.compat.v1.placeholder(tf.float32, [None, size, size, 3], name="Placeholder")
        outputs = _build_network(images, variant.depth_multiplier, classes, training)
        tf.compat.v1.add_to_collection(ATTACHMENTS, encode_image_size(size))
        meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph, strip_default_attrs=True)
    for name, fetches in _make_signatures(outputs).items():
        meta_graph.signature_def[name].CopyFrom(_make_signature_def(images, fetches))
    if training:
        meta_graph.meta_info_def.tags.append("train")
    _make_reproducible(meta_graph)
    return meta_graph


def _build_network(
    images: Any, depth_multiplier: float, classes: int | None, training: bool
) -> Any:
    """Build the network; return its outputs by endpoint name, `features` and `logits` included."""
    import tensorflow as tf

    v1 = tf.compat.v1
    net = tf.subtract(tf.multiply(images, 2.0, name="mul"), 1.0, name="sub")
    outputs = {}
    with v1.variable_scope(SCOPE, use_resource=True):
        for layer in list_layers(depth_multiplier):
            net = _convolve(net, layer, training)
            outputs[layer.name] = net
        side = net.shape[1]
        pooled = tf.nn.avg_pool2d(net, side, 1, "VALID", name="Logits/AvgPool_1a")
        outputs["global_pool"] = pooled
    outputs["features"] = tf.squeeze(pooled, [1, 2], name="Squeeze")
    if classes is None:
        return outputs
    with v1.variable_scope(f"{SCOPE}/Logits", use_resource=True):
        if training:
            pooled = tf.nn.dropout(pooled, rate=_DROPOUT_RATE, name="Dropout_1b")
        with v1.variable_scope("Conv2d_1c_1x1"):
            shape = [1, 1, pooled.shape[-1], classes]
            weights = v1.get_variable("weights", shape)
            biases = v1.get_variable("biases", [classes], initializer=v1.zeros_initializer())
            _add_weight_decay(weights)
            scores = tf.nn.conv2d(pooled, weights, 1, "SAME", name="Conv2D")
            scores = tf.nn.bias_add(scores, biases, name="BiasAdd")
        logits = tf.squeeze(scores, [1, 2], name="SpatialSqueeze")
    outputs["logits"] = outputs["Logits"] = logits
    outputs["Predictions"] = tf.nn.softmax(logits, name=f"{SCOPE}/Predictions/Softmax")
    return outputs


def _convolve(net: Any, layer: Layer, training: bool) -> Any:
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.variable_scope(layer.name):
        kernel = v1.get_variable(layer.kernel, layer.kernel_shape(net.shape[-1]))
        if layer.depthwise:
            strides = [1, layer.stride, layer.stride, 1]
            net = tf.nn.depthwise_conv2d(net, kernel, strides, "SAME", name="depthwise")
        else:
            _add_weight_decay(kernel)
            net = tf.nn.conv2d(net, kernel, layer.stride, "SAME", name="Conv2D")
        net = _add_batch_norm(net, training)
        return tf.nn.relu6(net, name="Relu6")


def _add_weight_decay(kernel: Any) -> None:
    """Add the loss 0.00004 * sum(kernel^2) / 2, as TF-Slim's `l2_regularizer` does, scalar."""
    import tensorflow as tf

    v1 = tf.compat.v1
    # The names that TF-Slim gives them.
    with v1.name_scope("kernel/Regularizer/l2_regularizer") as name:
        scale = tf.constant(_WEIGHT_DECAY, name="scale")
        loss = tf.multiply(scale, tf.nn.l2_loss(kernel), name=name)
    v1.add_to_collection(v1.GraphKeys.REGULARIZATION_LOSSES, loss)


def _add_batch_norm(net: Any, training: bool) -> Any:
    """Add batch norm over the channels, and for training its `update_ops`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    channels = net.shape[-1:]
    zeros, ones = v1.zeros_initializer(), v1.ones_initializer()
    with v1.variable_scope("BatchNorm"):
        gamma = v1.get_variable("gamma", channels, initializer=ones)
        beta = v1.get_variable("beta", channels, initializer=zeros)
        # Each replica of a distributed training has its own; reading averages them.
        moving = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
            "aggregation": tf.VariableAggregation.MEAN,
        }
        mean = v1.get_variable("moving_mean", channels, initializer=zeros, **moving)
        variance = v1.get_variable("moving_variance", channels, initializer=ones, **moving)
        statistics = {} if training else {"mean": mean, "variance": variance}
        net, batch_mean, batch_variance = v1.nn.fused_batch_norm(
            net, gamma, beta, epsilon=_BATCH_NORM_EPSILON, is_training=training, **statistics
        )
        if training:
            for average, value in ((mean, batch_mean), (variance, batch_variance)):
                with v1.name_scope("AssignMovingAvg"):
                    update = average.assign_sub((average - value) * (1.0 - BATCH_NORM_DECAY))
                v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update.op)
    return net


def _make_signatures(outputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Map signature names to outputs: `default`, and in the named signatures every endpoint."""
    features, logits = outputs.pop("features"), outputs.pop("logits", None)
    hidden = {f"{SCOPE}/{name}": tensor for name, tensor in outputs.items()}
    signatures = {"image_feature_vector": {"default": features, **hidden}}
    if logits is None:
        return {"default": {"default": features}, **signatures}
    signatures["image_classification"] = {"default": logits, **hidden}
    return {"default": {"default": logits}, **signatures}


def _make_signature_def(images: Any, outputs: dict[str, Any]) -> Any:
    from tensorflow.core.protobuf import meta_graph_pb2

    def info(tensor: Any) -> Any:
        shape, dtype = tensor.shape.as_proto(), tensor.dtype.as_datatype_enum
        return meta_graph_pb2.TensorInfo(name=tensor.name, dtype=dtype, tensor_shape=shape)

    return meta_graph_pb2.SignatureDef(
        inputs={"images": info(images)},
        outputs={name: info(tensor) for name, tensor in outputs.items()},
    )


def _make_reproducible(meta_graph: Any) -> None:
    """Clear fields that depend on the TensorFlow that wrote the graph, and not on the graph."""
    for field in ("tensorflow_version", "tensorflow_git_version", "stripped_op_list"):
        meta_graph.meta_info_def.ClearField(field)
    meta_graph.graph_def.versions.Clear()
    meta_graph.graph_def.versions.producer = _PRODUCER
    for node in meta_graph.graph_def.node:
        # Newer than the rest: TensorFlow before 2.15 would refuse the graph because of it.
        node.attr.pop("debug_name", None)
        for seed in ("seed", "seed2"):
            node.attr.pop(seed, None)
