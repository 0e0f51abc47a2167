"""The MobileNet V1 graph, and the TF1 Hub module written from its variables.

The network is that of Howard et al., "MobileNets" (arXiv:1704.04861), table 1,
with the variable and endpoint names of TF-Slim's `mobilenet_v1.py`. What is
written here has the layout that `hub.Module.export` gives a module: two
metagraphs without a saver, signatures, an attachment that names the image
size, and a checkpoint. It is written deterministically: the same variables
give the same bytes in every process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import WeightsError
from mnv1cli.records import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Variables = Mapping[str, NDArray[np.generic]]

# Raise this with every change of what is written: caches of built modules key on it.
REVISION = 1

SCOPE = "MobilenetV1"
HEAD = f"{SCOPE}/Logits/Conv2d_1c_1x1"

# (stride, output channels) of the thirteen separable convolutions after the
# first one, which has stride 2 and 32 channels.
_SEPARABLE = (
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), (1, 512),
    (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024),
)  # fmt: skip
_FIRST_CHANNELS = 32
_MIN_CHANNELS = 8
_DEFAULT_SIZE = 128
_BATCH_NORM_EPSILON = 0.001
_BATCH_NORM_DECAY = 0.9997
_DROPOUT_RATE = 0.001

# The format v3 of tfhub_module.pb, and the place and key of the attachment:
# what the hub library writes and looks for.
_HUB_FORMAT = b"\x08\x03"
ATTACHMENTS = "hub_module_attachments"
IMAGE_INFO = "image_module_info"

# The GraphDef version that the graph claims. Fixed, so that the bytes do not
# follow the TensorFlow that wrote them; that of TF 2.15, which knows every op
# used here.
_PRODUCER = 1645


@dataclass(frozen=True, slots=True)
class _Layer:
    """One convolution with its batch norm and ReLU6: an endpoint of the network."""

    name: str
    stride: int
    channels: int
    depthwise: bool

    @property
    def kernel(self) -> str:
        return "depthwise_weights" if self.depthwise else "weights"

    def kernel_shape(self, channels_in: int) -> tuple[int, int, int, int]:
        if self.depthwise:
            return (3, 3, channels_in, 1)
        side = 3 if self.name == "Conv2d_0" else 1
        return (side, side, channels_in, self.channels)


def _layers(depth_multiplier: float) -> list[_Layer]:
    def scaled(channels: int) -> int:
        return max(int(channels * depth_multiplier), _MIN_CHANNELS)

    layers = [_Layer("Conv2d_0", 2, scaled(_FIRST_CHANNELS), depthwise=False)]
    for i, (stride, channels) in enumerate(_SEPARABLE, start=1):
        previous = layers[-1].channels
        layers.append(_Layer(f"Conv2d_{i}_depthwise", stride, previous, depthwise=True))
        layers.append(_Layer(f"Conv2d_{i}_pointwise", 1, scaled(channels), depthwise=False))
    return layers


def variable_shapes(
    depth_multiplier: float = 1.0, classes: int | None = 1001
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every variable; `classes=None` leaves the classification head out."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for layer in _layers(depth_multiplier):
        scope = f"{SCOPE}/{layer.name}"
        shapes[f"{scope}/{layer.kernel}"] = layer.kernel_shape(channels)
        channels = layer.channels
        for statistic in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{scope}/BatchNorm/{statistic}"] = (channels,)
    if classes is not None:
        shapes[f"{HEAD}/weights"] = (1, 1, channels, classes)
        shapes[f"{HEAD}/biases"] = (classes,)
    return shapes


def read_weights(path: Path) -> dict[str, Any]:
    """The variables in an `.npz` file under their TF-Slim names.

    Raises:
        WeightsError: not an `.npz` file of arrays.
    """
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is not an .npz file of weights: {error}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The network's variables in a checkpoint, or in the only one below a folder.

    `path` may be the checkpoint's prefix or any of its files. What is not the
    network's is left out: the optimizer's slots, averages, the global step.

    Raises:
        WeightsError: there is no checkpoint, or it cannot be read.
    """
    import tensorflow as tf

    prefix = _checkpoint_prefix(path)
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = [name for name in reader.get_variable_to_shape_map() if _is_own(name)]
        return {name: reader.get_tensor(name) for name in names}
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"the checkpoint {prefix} cannot be read: {reason}") from error


def _checkpoint_prefix(path: Path) -> str:
    if not path.is_dir():
        return re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", str(path))
    found = sorted(path.rglob("*.index"))
    if len(found) != 1:
        raise WeightsError(f"{path} holds {len(found)} checkpoints, not one")
    return str(found[0].with_suffix(""))


def _is_own(name: str) -> bool:
    """Whether a variable is one of the network's own, of any depth and number of classes."""
    return name in _NAMES


def without_head(variables: Variables) -> dict[str, Any]:
    """The variables of the feature vector alone."""
    return {name: value for name, value in variables.items() if not name.startswith(HEAD)}


def variant_of(
    variables: Variables, depth_multiplier: float | None = None, image_size: int | None = None
) -> Variant:
    """The variant that variables belong to: the depth told by the width of the first layer.

    The image size is in no variable; it is 128 unless it is given.

    Raises:
        WeightsError: the first layer is missing.
    """
    if depth_multiplier is None:
        first = variables.get(f"{SCOPE}/Conv2d_0/weights")
        if first is None or first.ndim != 4:
            raise WeightsError(
                f"variable {SCOPE}/Conv2d_0/weights is missing",
                "are these the weights of a MobileNet V1 under their TF-Slim names?",
            )
        depth_multiplier = first.shape[3] / _FIRST_CHANNELS
    return Variant(depth_multiplier, image_size or _DEFAULT_SIZE)


_NAMES = frozenset(variable_shapes())


def write_module(directory: Path, variables: Variables, variant: Variant) -> None:
    """Write a TF1 Hub module with `variables` (TF-Slim names) into an empty `directory`.

    Variables are cast to float32. With the head `MobilenetV1/Logits/...` among
    them the module classifies, with as many classes as its biases; without, it
    gives feature vectors alone. Names that MobileNet V1 does not have (the
    optimizer's, say) are left out.

    Raises:
        WeightsError: a variable is missing or of another shape.
        OSError: the module cannot be written.
    """
    import numpy as np
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    classes = _classes(variables)
    shapes = variable_shapes(variant.depth_multiplier, classes)
    _check(variables, shapes)
    saved_model = saved_model_pb2.SavedModel()
    for training in (False, True):
        meta_graph = saved_model.meta_graphs.add()
        meta_graph.CopyFrom(_meta_graph(variant, classes, training))
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
    (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString(deterministic=True))
    (directory / "tfhub_module.pb").write_bytes(_HUB_FORMAT)


def _classes(variables: Variables) -> int | None:
    biases = variables.get(f"{HEAD}/biases")
    return None if biases is None else int(biases.shape[0])


def _check(variables: Variables, shapes: dict[str, tuple[int, ...]]) -> None:
    missing = [name for name in shapes if name not in variables]
    if missing:
        raise WeightsError(
            f"{len(missing)} of {len(shapes)} variables are missing, the first is {missing[0]}",
            "are these the weights of a MobileNet V1 under their TF-Slim names?",
        )
    for name, shape in shapes.items():
        if variables[name].shape != shape:
            raise WeightsError(
                f"variable {name} has the shape {variables[name].shape}, not {shape}",
                "check the depth multiplier",
            )


def _meta_graph(variant: Variant, classes: int | None, training: bool) -> Any:
    """The MetaGraphDef of one mode, signatures and attachment included."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        # The names that the signatures of the hub's own modules lead to.
        size = variant.image_size
        images = tf.compat.v1.placeholder(tf.float32, [None, size, size, 3], name="Placeholder")
        outputs = _network(images, variant.depth_multiplier, classes, training)
        tf.compat.v1.add_to_collection(ATTACHMENTS, _attachment(size))
        meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph, strip_default_attrs=True)
    for name, fetches in _signatures(outputs).items():
        meta_graph.signature_def[name].CopyFrom(_signature_def(images, fetches))
    if training:
        meta_graph.meta_info_def.tags.append("train")
    _make_reproducible(meta_graph)
    return meta_graph


def _network(images: Any, depth_multiplier: float, classes: int | None, training: bool) -> Any:
    """Every output by its endpoint's name, `features` and `logits` among them."""
    import tensorflow as tf

    v1 = tf.compat.v1
    net = tf.subtract(tf.multiply(images, 2.0, name="mul"), 1.0, name="sub")
    outputs = {}
    with v1.variable_scope(SCOPE, use_resource=True):
        for layer in _layers(depth_multiplier):
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
            scores = tf.nn.conv2d(pooled, weights, 1, "SAME", name="Conv2D")
            scores = tf.nn.bias_add(scores, biases, name="BiasAdd")
        logits = tf.squeeze(scores, [1, 2], name="SpatialSqueeze")
    outputs["logits"] = outputs["Logits"] = logits
    outputs["Predictions"] = tf.nn.softmax(logits, name=f"{SCOPE}/Predictions/Softmax")
    return outputs


def _convolve(net: Any, layer: _Layer, training: bool) -> Any:
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.variable_scope(layer.name):
        kernel = v1.get_variable(layer.kernel, layer.kernel_shape(net.shape[-1]))
        if layer.depthwise:
            strides = [1, layer.stride, layer.stride, 1]
            net = tf.nn.depthwise_conv2d(net, kernel, strides, "SAME", name="depthwise")
        else:
            net = tf.nn.conv2d(net, kernel, layer.stride, "SAME", name="Conv2D")
        net = _batch_norm(net, training)
        return tf.nn.relu6(net, name="Relu6")


def _batch_norm(net: Any, training: bool) -> Any:
    """Batch norm over the channels; in training it also adds the `update_ops`."""
    import tensorflow as tf

    v1 = tf.compat.v1
    channels = net.shape[-1:]
    zeros, ones = v1.zeros_initializer(), v1.ones_initializer()
    with v1.variable_scope("BatchNorm"):
        gamma = v1.get_variable("gamma", channels, initializer=ones)
        beta = v1.get_variable("beta", channels, initializer=zeros)
        # Each replica of a distributed training keeps its own; read, they are averaged.
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
                    update = average.assign_sub((average - value) * (1.0 - _BATCH_NORM_DECAY))
                v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update.op)
    return net


def _signatures(outputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Signature name to its outputs: `default`, and on the named ones every endpoint."""
    features, logits = outputs.pop("features"), outputs.pop("logits", None)
    head = {f"{SCOPE}/{n}": outputs.pop(n) for n in ("Logits", "Predictions") if n in outputs}
    hidden = {f"{SCOPE}/{name}": tensor for name, tensor in outputs.items()}
    signatures = {"image_feature_vector": {"default": features, **hidden}}
    if logits is None:
        return {"default": {"default": features}, **signatures}
    signatures["image_classification"] = {"default": logits, **hidden, **head}
    return {"default": {"default": logits}, **signatures}


def _signature_def(images: Any, outputs: dict[str, Any]) -> Any:
    from tensorflow.core.protobuf import meta_graph_pb2

    def info(tensor: Any) -> Any:
        shape, dtype = tensor.shape.as_proto(), tensor.dtype.as_datatype_enum
        return meta_graph_pb2.TensorInfo(name=tensor.name, dtype=dtype, tensor_shape=shape)

    return meta_graph_pb2.SignatureDef(
        inputs={"images": info(images)},
        outputs={name: info(tensor) for name, tensor in outputs.items()},
    )


def _make_reproducible(meta_graph: Any) -> None:
    """Clear what tells the TensorFlow that wrote the graph and says nothing about it."""
    for field in ("tensorflow_version", "tensorflow_git_version", "stripped_op_list"):
        meta_graph.meta_info_def.ClearField(field)
    meta_graph.graph_def.versions.Clear()
    meta_graph.graph_def.versions.producer = _PRODUCER
    for node in meta_graph.graph_def.node:
        # Younger than the rest: TensorFlow before 2.15 would refuse the graph for it.
        node.attr.pop("debug_name", None)


def _attachment(size: int) -> bytes:
    """The hub's `AttachedMessage` that holds an `ImageModuleInfo`, in wire format."""
    message = _attached_message()
    message.key = IMAGE_INFO
    message.value.default_image_size.height = size
    message.value.default_image_size.width = size
    wire: bytes = message.SerializeToString(deterministic=True)
    return wire


def attached_image_size(attachment: bytes) -> tuple[int, int] | None:
    """Height and width in an attachment, if it is an `ImageModuleInfo` that names both."""
    from google.protobuf.message import DecodeError

    message = _attached_message()
    try:
        message.ParseFromString(attachment)
    except DecodeError:
        return None
    size = message.value.default_image_size
    if message.key != IMAGE_INFO or not (size.height and size.width):
        return None
    return size.height, size.width


def _attached_message() -> Any:
    """An empty `AttachedMessage`: fields and numbers as in the hub library's protocol.

        AttachedMessage  {string key = 1; ImageModuleInfo value = 2;}
        ImageModuleInfo  {ImageSize default_image_size = 1;}
        ImageSize        {int32 height = 1; int32 width = 2;}

    In the hub's own definition `value` is bytes that hold the message, which is
    the same on the wire.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    text, whole, inner = 9, 5, 11  # FieldDescriptorProto.Type: string, int32, message
    fields = {
        "AttachedMessage": [("key", text, ""), ("value", inner, "ImageModuleInfo")],
        "ImageModuleInfo": [("default_image_size", inner, "ImageSize")],
        "ImageSize": [("height", whole, ""), ("width", whole, "")],
    }
    file = descriptor_pb2.FileDescriptorProto(name="mnv1/hub.proto", package="mnv1")
    file.syntax = "proto3"
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for number, (member, kind, type_name) in enumerate(members, start=1):
            message.field.add(
                name=member,
                number=number,
                label=1,
                type=kind,
                type_name=f".mnv1.{type_name}" if type_name else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("mnv1.AttachedMessage")
    return message_factory.GetMessageClass(found)()
