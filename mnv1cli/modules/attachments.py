"""The attachments of a module: the size of its images, and the names of its classes.

The size is in a collection of the graph, where the hub's library looks for it.

A module that was trained for other classes than ImageNet's has their names as an asset:
a constant in the graph stands for the path of the file. TensorFlow's loader reads the
list `asset_file_def`. `hub.Module.export` reads the collections only, and writes the
file anew, under another name if another asset has the same.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mnv1cli.modules.files import LABELS_ASSET

if TYPE_CHECKING:
    from pathlib import Path

# The collection of a graph with its attachments, and the key of the one with the image size.
ATTACHMENTS = "hub_module_attachments"
_ATTACHMENT_KEY = "image_module_info"

# The file of class names, and the constant that stands for it.
_NAME = PurePosixPath(LABELS_ASSET)
_NODE = "labels"
# In another module, the node is below a scope of the hub library's.
_TENSOR = re.compile(rf"(.*/)?{_NODE}(_\d+)?:0")
# What the hub's library writes: the path is another wherever a module is opened.
_VALUE = "SAVEDMODEL-ASSET"
_ASSETS, _PATHS = "saved_model_assets", "asset_filepaths"


def register_labels(meta_graph: Any) -> None:
    """Register the file of class names in a graph as TensorFlow and the hub's library do."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    with tf.Graph().as_default() as graph:
        tensor = tf.constant(_VALUE, name=_NODE)
        meta_graph.graph_def.node.extend(graph.as_graph_def().node)
    asset = meta_graph_pb2.AssetFileDef(filename=_NAME.name)
    asset.tensor_info.name = tensor.name
    meta_graph.asset_file_def.append(asset)
    meta_graph.collection_def[_ASSETS].any_list.value.add().Pack(asset)
    meta_graph.collection_def[_PATHS].node_list.value.append(tensor.name)


def find_labels(directory: Path, meta_graph: Any) -> str | None:
    """Return the relative name of the file of class names in a module, None without one.

    A file of the usual name that is not registered is taken too.

    Raises:
        DecodeError: the list of assets is damaged.
    """
    registered = [
        asset.filename
        for asset in _read_assets(meta_graph)
        if _TENSOR.fullmatch(asset.tensor_info.name) and asset.filename.startswith(_NAME.name)
    ]
    # The name comes from the module, and must not lead elsewhere.
    plain = [str(_NAME.with_name(file)) for file in registered if "/" not in file]
    candidates = [*plain, LABELS_ASSET]
    return next((file for file in candidates if (directory / file).is_file()), None)


def _read_assets(meta_graph: Any) -> list[Any]:
    from tensorflow.core.protobuf import meta_graph_pb2

    registered = []
    if _ASSETS in meta_graph.collection_def:
        # First, because an export by the hub's library leaves the other list as it was.
        wires = meta_graph.collection_def[_ASSETS].any_list.value
        registered = [meta_graph_pb2.AssetFileDef.FromString(wire.value) for wire in wires]
    return [*registered, *meta_graph.asset_file_def]


def encode_image_size(size: int) -> bytes:
    """Encode a size in pixels as the hub's `AttachedMessage` with an `ImageModuleInfo`."""
    message = _make_message()
    message.key = _ATTACHMENT_KEY
    message.value.default_image_size.height = size
    message.value.default_image_size.width = size
    wire: bytes = message.SerializeToString(deterministic=True)
    return wire


def decode_image_size(attachment: bytes) -> tuple[int, int] | None:
    """Decode height and width from an attachment, None if it is none or lacks one of them."""
    from google.protobuf.message import DecodeError

    message = _make_message()
    try:
        message.ParseFromString(attachment)
    except DecodeError:
        return None
    size = message.value.default_image_size
    if message.key != _ATTACHMENT_KEY or not (size.height and size.width):
        return None
    return size.height, size.width


def _make_message() -> Any:
    """Make an empty `AttachedMessage`: fields and numbers as in the hub library's protocol.

        AttachedMessage  {string key = 1; ImageModuleInfo value = 2;}
        ImageModuleInfo  {ImageSize default_image_size = 1;}
        ImageSize        {int32 height = 1; int32 width = 2;}

    In the hub's own definition `value` is bytes that contain the message, which
    is the same on the wire.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    text, integer, inner = 9, 5, 11  # FieldDescriptorProto.Type: string, int32, message
    fields = {
        "AttachedMessage": [("key", text, ""), ("value", inner, "ImageModuleInfo")],
        "ImageModuleInfo": [("default_image_size", inner, "ImageSize")],
        "ImageSize": [("height", integer, ""), ("width", integer, "")],
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
    descriptor = pool.FindMessageTypeByName("mnv1.AttachedMessage")
    return message_factory.GetMessageClass(descriptor)()
