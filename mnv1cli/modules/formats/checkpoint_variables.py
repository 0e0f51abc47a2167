"""Variables of MobileNet V1 in a checkpoint of TensorFlow, by their TF-Slim names.

A checkpoint of TF1 has the variables under their names, which may begin with the
scope of a program that uses the network, such as `module/`. One of TF2, as in a
TF2 SavedModel, has them under the path by which an object holds them, such as
`variables/0/.ATTRIBUTES/VARIABLE_VALUE`; a graph of the objects, in the checkpoint
too, has their names. Reading either runs nothing of the module.
"""

from __future__ import annotations

import hashlib
import math
import os
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import WeightsError
from mnv1cli.system import tempdirs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"
# The largest network of the family has 17 MB. More than this is damage, or meant to do harm.
_MAX_BYTES = 2 << 30
# TensorFlow's reader raises any of them for a damaged file.
_DAMAGE = (RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError)


def read_variables(prefix: Path, names: Collection[str]) -> dict[str, Any]:
    """Read the variables with these names, in any scope, from the checkpoint at `prefix`.

    A variable without a scope is preferred to others of its name. Names that are
    not in the checkpoint, or in several scopes, are left out.

    Raises:
        WeightsError: the checkpoint cannot be read, or claims too many bytes.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        reader = tf.train.load_checkpoint(_make_plain_prefix(prefix))
        keys = _match_names(_read_names(reader), frozenset(names))
        _check_size(reader, keys)
        return {name: reader.get_tensor(key) for name, key in keys.items()}
    except (tf.errors.OpError, DecodeError, *_DAMAGE) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"the checkpoint {prefix} cannot be read: {reason}") from error


def _make_plain_prefix(prefix: Path) -> str:
    """Return a prefix that TensorFlow reads literally, through links where it would not."""
    name = prefix.name
    pattern = name.replace("-?????-of-", "")
    if pattern.isascii() and not set(pattern) & set("*?[]\\"):
        return f"{tempdirs.make_plain_path(prefix.parent)}/{name}"
    digest = hashlib.sha256(os.fsencode(os.path.abspath(prefix))).hexdigest()
    folder = tempdirs.make_scratch_dir() / digest
    folder.mkdir(exist_ok=True)
    for file in prefix.parent.iterdir():
        if file.name == name or file.name.startswith(f"{name}."):
            link = folder / f"model{file.name.removeprefix(name)}"
            if not link.is_symlink():
                link.symlink_to(os.path.abspath(file))
    return f"{folder}/model"


def _read_names(reader: Any) -> dict[str, str]:
    """Read the names of all variables, by the keys under which the checkpoint has them."""
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    keys = reader.get_variable_to_shape_map()
    if _OBJECT_GRAPH not in keys:
        return {key: key for key in keys}
    graph = TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH))
    return {
        attribute.checkpoint_key: attribute.full_name.removesuffix(":0")
        for node in graph.nodes
        for attribute in node.attributes
        if attribute.name == _VALUE and attribute.checkpoint_key in keys
    }


def _match_names(keys: Mapping[str, str], wanted: frozenset[str]) -> dict[str, str]:
    """Return the keys of the wanted variables by name."""
    exact: dict[str, str] = {}
    scoped: dict[str, list[str]] = {}
    for key, full_name in sorted(keys.items()):
        if full_name in wanted:
            exact.setdefault(full_name, key)
        for name in _list_endings(full_name):
            if name in wanted:
                scoped.setdefault(name, []).append(key)
    unambiguous = {name: matches[0] for name, matches in scoped.items() if len(matches) == 1}
    return {**unambiguous, **exact}


def _list_endings(name: str) -> list[str]:
    """List what is left of a name without the first scope, the first two, and so on."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(1, len(parts))]


def _check_size(reader: Any, keys: Mapping[str, str]) -> None:
    """Refuse variables that would not fit into memory, before it is taken."""
    shapes = reader.get_variable_to_shape_map()
    types = reader.get_variable_to_dtype_map()
    total = sum(math.prod(shapes[key]) * types[key].size for key in keys.values())
    if total > _MAX_BYTES:
        raise ValueError(f"its variables claim {total >> 20:,} MB")
