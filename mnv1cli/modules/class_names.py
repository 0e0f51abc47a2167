"""The file of class names in a module, registered so that other programs take it along.

A module that was trained for other classes than ImageNet's has their names as an
asset: a constant in the graph stands for the path of the file. TensorFlow's loader
reads the list `asset_file_def`. `hub.Module.export` reads the collections alone, and
writes the file anew, under another name if another asset has the same.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mnv1cli.modules.files import LABELS_ASSET

if TYPE_CHECKING:
    from pathlib import Path

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
