"""Modules opened and inspected: signatures, image size and operations are read from the graph.

Reading the graph needs TensorFlow, so the result is recorded in the cache.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from mnv1cli.errors import ModuleError
from mnv1cli.modules import artifacts, audit, catalog, files, locate, savedmodel
from mnv1cli.modules.attachments import ATTACHMENTS, decode_image_size, find_labels
from mnv1cli.modules.hub_module import (
    RECORD_VERSION,
    TF1,
    TF2,
    HubModule,
    from_record,
    to_record,
)
from mnv1cli.modules.signatures import (
    IMAGES_REMEDY,
    INPUT,
    Signature,
    TensorSpec,
    make_tf2_signatures,
    require_image_shape,
)
from mnv1cli.types import FetchOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mnv1cli.modules.audit_ops import ForeignOperation
    from mnv1cli.modules.locate import LocatedModule


# The channels of a model that takes any number of them.
_CHANNELS = 3


class _Described(NamedTuple):
    """The description of a TF2 SavedModel: signatures, stated image size, and operations."""

    signatures: dict[str, Signature]
    image_size: int | None
    operations: Iterable[ForeignOperation]


def open_module(
    name: str | None = None, options: FetchOptions | None = None, image_size: int | None = None
) -> HubModule:
    """Open the module that `name` means, as in `locate.locate`, so that it may be run.

    `image_size`, in pixels, is for the bundled module and those that do not state their own.

    Raises:
        ModuleError: there is no such module, it cannot be read, or it does more
            than compute and is not trusted.
        OptionError: the bundled module cannot be built for this size.
    """
    options = options or FetchOptions()
    module = inspect_module(name, options, image_size)
    if not options.trust:
        audit.refuse_foreign(module.handle, module.path, module.foreign)
    return module


def inspect_module(
    name: str | None = None, options: FetchOptions | None = None, image_size: int | None = None
) -> HubModule:
    """Inspect the module that `name` means, without refusing its `foreign` operations.

    Those that loading would run are refused if the module has to be loaded.

    Raises:
        ModuleError: there is no such module, or it cannot be read or loaded.
        OptionError: the bundled module cannot be built for this size.
    """
    options = options or FetchOptions()
    located = locate.locate(name, options, image_size=image_size)
    if recorded := _recall(located, image_size):
        return recorded
    # New, or changed since it was installed.
    intact = locate.ensure_intact(located, name, options, image_size)
    if intact is not located and (recorded := _recall(intact, image_size)):
        return recorded
    module = read_module(intact, image_size, options.trust)
    artifacts.write_record(module.fingerprint, _make_key(intact, image_size), to_record(module))
    return module


def _recall(located: LocatedModule, image_size: int | None) -> HubModule | None:
    """Return the recorded description of a module with exactly these files, None without one."""
    fingerprint = files.compute_fingerprint(located.path)
    record = artifacts.read_record(fingerprint, _make_key(located, image_size))
    return from_record(record, located.handle, located.path, fingerprint)


def _make_key(located: LocatedModule, image_size: int | None) -> str:
    # The handle may contain the image size, or the kind of a TF2 SavedModel.
    return json.dumps([RECORD_VERSION, located.handle, image_size])


def read_module(
    located: LocatedModule, image_size: int | None = None, trust: bool = False
) -> HubModule:
    """Read a module's description from its graph, and audit the operations that it would run.

    Raises:
        ModuleError: `saved_model.pb` is damaged or has no graph to run; or the
            module has to be loaded, and must not be without `trust`.
    """
    from google.protobuf.message import DecodeError

    try:
        return _read(located, image_size, trust)
    except (DecodeError, OSError) as error:
        file = located.path / "saved_model.pb"
        raise ModuleError(f"cannot read {file}: {error}", "fetch the module again") from error


def _read(located: LocatedModule, image_size: int | None, trust: bool) -> HubModule:
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString((located.path / "saved_model.pb").read_bytes())
    graphs: dict[tuple[str, ...], Any] = {}
    for graph in saved_model.meta_graphs:
        # Of several with the same tags TensorFlow loads the first.
        graphs.setdefault(tuple(graph.meta_info_def.tags), graph)
    tags = next((tags for tags in ((), ("serve",)) if tags in graphs), None)
    if tags is None or (tags == () and audit.loads_objects(saved_model, graphs[tags])):
        raise ModuleError(f"{located.path} has neither a graph without tags nor one for serving")
    graph = graphs[tags]
    foreign = audit.audit_module(saved_model, graph)
    if tags == ():
        signatures = _read_tf1_signatures(graph)
        size = read_image_size(graph, signatures, located.handle)
    else:
        if not trust:
            audit.refuse_foreign(located.handle, located.path, foreign)
        signatures, size, traced = _read_tf2(located, graph, image_size)
        foreign = audit.keep_first_nodes([*foreign, *traced])
    training = [graph for tags, graph in graphs.items() if "train" in tags]
    return HubModule(
        handle=located.handle,
        path=located.path,
        fingerprint=files.compute_fingerprint(located.path),
        format=TF2 if tags else TF1,
        tags=tuple(graphs),
        signatures=signatures,
        image_size=size,
        foreign=foreign,
        foreign_training=audit.keep_first_nodes(
            operation for graph in training for operation in audit.audit_training(graph)
        ),
        labels=find_labels(located.path, graph),
    )


def _read_tf1_signatures(graph: Any) -> dict[str, Signature]:
    return {
        name: Signature(_read_specs(signature.inputs), _read_specs(signature.outputs))
        for name, signature in sorted(graph.signature_def.items())
    }


def _read_tf2(located: LocatedModule, graph: Any, image_size: int | None) -> _Described:
    """Describe a TF2 SavedModel by the function that serves, whose graph is traced.

    Raises:
        ModuleError: it serves nothing, or something else than images.
    """
    names = savedmodel.list_signatures(graph.signature_def)
    name = savedmodel.choose_signature(names) or savedmodel.SERVING
    inputs = _read_specs(graph.signature_def[name].inputs)
    named = _read_specs(graph.signature_def[name].outputs)
    callable_ = savedmodel.is_callable(graph)
    images = [spec for spec in inputs.values() if spec.shape]
    # What is called may take scalars beside the images, such as a flag for training.
    if len(inputs) > 1 and not (callable_ and len(images) == 1):
        raise ModuleError(
            f"module {located.handle} takes {', '.join(inputs)}, and not only images",
            IMAGES_REMEDY,
        )
    if not inputs and not callable_:
        raise ModuleError(
            f"module {located.handle} has neither a call nor a signature that serves",
            f"it has {', '.join(names)}, and none is {savedmodel.SERVING!r}"
            if names
            else IMAGES_REMEDY,
        )
    # A model that can be called, but has no signature, does not say what it takes.
    taken = next(iter(images or inputs.values()), TensorSpec("", "float32", (-1, -1, -1, 3)))
    require_image_shape(taken, located.handle)
    stated = _choose_side([taken.shape], located.handle)
    size = stated or image_size
    if size is None:
        raise ModuleError(
            f"module {located.handle} does not state its image size", "give it with --image-size N"
        )
    channels = taken.shape[-1] if taken.shape[-1] > 0 else _CHANNELS
    function = savedmodel.load_function(located.path, size, taken.dtype, channels)
    traced = TensorSpec("", taken.dtype, (-1, size, size, channels))
    outputs = {
        key: TensorSpec(key, tensor.dtype.name, _read_shape(tensor.shape))
        for key, tensor in sorted(function.structured_outputs.items())
    }
    if len(outputs) == len(named) == 1:
        # What is called returns a tensor; the signature has its name.
        outputs = dict(zip(named, outputs.values(), strict=True))
    signatures = make_tf2_signatures(traced, outputs, located.handle, name)
    return _Described(signatures, stated, audit.audit_function(function.graph.as_graph_def()))


def _read_shape(shape: Any) -> tuple[int, ...]:
    """Return the shape of a tensor; of one that may have any, only the batch is known."""
    if shape.rank is None:
        return (-1,)
    return tuple(-1 if side is None else side for side in shape)


def _read_specs(tensors: Any) -> dict[str, TensorSpec]:
    from tensorflow import dtypes

    return {
        key: TensorSpec(
            info.name,
            # Tensors of several parts, such as ragged ones, have none.
            dtypes.as_dtype(info.dtype).name if info.dtype else "composite",
            (-1,)
            if info.tensor_shape.unknown_rank
            else tuple(dimension.size for dimension in info.tensor_shape.dim),
        )
        for key, info in sorted(tensors.items())
    }


def read_image_size(
    meta_graph: Any, signatures: Mapping[str, Signature], handle: str
) -> int | None:
    """Read the size that `hub.get_expected_image_size` would return, else the one in the handle."""
    attachments = meta_graph.collection_def[ATTACHMENTS].bytes_list.value
    attached = [decode_image_size(wire) for wire in attachments]
    shapes = [
        signature.inputs[INPUT].shape
        for signature in signatures.values()
        if INPUT in signature.inputs
    ]
    return _choose_side([(-1, *size, 3) for size in attached if size] + shapes, handle)


def _choose_side(shapes: Sequence[tuple[int, ...]], handle: str) -> int | None:
    """Choose the side of the first known shape [batch, h, w, c], else the one in the handle.

    Raises:
        ModuleError: the images are not square.
    """
    sizes = ((s[1], s[2]) for s in shapes if len(s) == 4 and s[1] > 0 and s[2] > 0)
    size = next(sizes, None)
    if size is None:
        variant = catalog.parse_family_name(handle)
        return variant.image_size if variant else None
    if size[0] != size[1]:
        raise ModuleError(f"module {handle} takes images of {size[0]}x{size[1]}, not square ones")
    return size[0]
