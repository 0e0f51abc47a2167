"""What a module can do: its signatures, endpoints, image size, classes.

Both formats look the same from here on: a TF2 SavedModel has one of the hub's
signatures. Running a module is the next floor's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli import attachment, catalog, modulefiles, savedmodel, sources, weights
from mnv1cli.errors import ModuleError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mnv1cli.records import FetchOptions
    from mnv1cli.sources import Located

TF1, TF2 = "TF1 Hub module", "TF2 SavedModel"

LOGITS_SIGNATURE = "image_classification"
FEATURES_SIGNATURE = "image_feature_vector"
_INPUT, _OUTPUT = "images", "default"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of a signature; -1 in `shape` is a dimension of any length."""

    tensor: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of one signature by their keys."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a module: from which signature, and the tensors to feed and fetch."""

    name: str
    images: TensorSpec
    result: TensorSpec


@dataclass(frozen=True, slots=True)
class HubModule:
    """What a module says of itself.

    `image_size` is the height and width of its images in pixels, None where
    neither the module nor its handle tells.
    """

    handle: str
    path: Path
    fingerprint: str
    format: str
    tags: tuple[tuple[str, ...], ...]
    signatures: Mapping[str, Signature]
    image_size: int | None

    def logits(self) -> Output:
        """The logits, [batch, classes]."""
        return self._output(LOGITS_SIGNATURE, _OUTPUT, "logits")

    def features(self) -> Output:
        """The feature vector, [batch, features]."""
        return self._output(FEATURES_SIGNATURE, _OUTPUT, "features")

    def endpoint(self, name: str) -> Output:
        """A hidden layer by its output key, with or without the scope before it.

        Raises:
            SignatureError: no signature has it; names those that are there.
        """
        endpoints = self.endpoints()
        for key in (name, f"{weights.SCOPE}/{name}"):
            if key in endpoints:
                return self._output(endpoints[key], key, key)
        raise SignatureError(
            f"module {self.handle} has no endpoint {name!r}",
            f"it has {', '.join(endpoints) or 'none'}",
        )

    def endpoints(self) -> dict[str, str]:
        """Every output but `default`, in the order of their layers, to a signature with it."""
        found = {}
        for name in (LOGITS_SIGNATURE, FEATURES_SIGNATURE):
            if name in self.signatures:
                found.update(dict.fromkeys(self.signatures[name].outputs, name))
        found.pop(_OUTPUT, None)
        return {key: found[key] for key in sorted(found, key=_layer_order)}

    def classes(self) -> int | None:
        """The number of classes, None for a module without logits."""
        if LOGITS_SIGNATURE not in self.signatures:
            return None
        return self.logits().result.shape[-1]

    def feature_length(self) -> int | None:
        """The length of the feature vector, None for a module without."""
        if FEATURES_SIGNATURE not in self.signatures:
            return None
        return self.features().result.shape[-1]

    def _output(self, signature: str, key: str, name: str) -> Output:
        found = self.signatures.get(signature)
        if found is None:
            has = ", ".join(sorted(self.signatures)) or "none"
            raise SignatureError(
                f"module {self.handle} has no signature {signature!r}",
                f"it has {has}",
            )
        if _INPUT not in found.inputs or key not in found.outputs:
            raise SignatureError(
                f"signature {signature!r} of module {self.handle} does not lead from "
                f"{_INPUT!r} to {key!r}",
                f"it leads from {', '.join(found.inputs)} to {', '.join(found.outputs)}",
            )
        return Output(name, found.inputs[_INPUT], found.outputs[key])


def _layer_order(key: str) -> tuple[int, int, str]:
    """Sorts Conv2d_2_* before Conv2d_10_*, and what is no convolution last."""
    number = key.partition("Conv2d_")[2].partition("_")[0]
    return (0, int(number), key) if number.isdigit() else (1, 0, key)


def open_module(
    name: str | None = None, options: FetchOptions | None = None, image_size: int | None = None
) -> HubModule:
    """The module that `name` means, ready to be run; None is the default.

    `name` is what `sources.locate` takes; `image_size` is for modules that do
    not tell their own.

    Raises:
        ModuleError: there is no such module, or it cannot be read.
    """
    return read(sources.locate(name, options), image_size)


def read(located: Located, image_size: int | None = None) -> HubModule:
    """Read what a module says of itself.

    Raises:
        ModuleError: `saved_model.pb` is damaged or holds no graph to run.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    file = located.path / "saved_model.pb"
    try:
        saved_model.ParseFromString(file.read_bytes())
    except (DecodeError, OSError) as error:
        raise ModuleError(f"cannot read {file}: {error}", "get the module anew") from error
    graphs = saved_model.meta_graphs
    by_tags = {tuple(graph.meta_info_def.tags): graph for graph in graphs}
    if () in by_tags:
        kind = TF1
        signatures = {
            name: Signature(_specs(found.inputs), _specs(found.outputs))
            for name, found in sorted(by_tags[()].signature_def.items())
        }
        told = _image_size(by_tags[()], signatures, located.handle)
    elif ("serve",) in by_tags:
        kind = TF2
        serving = by_tags[("serve",)].signature_def[savedmodel.SERVING]
        told = _tf2_image_size(serving, located.handle)
        signatures = _tf2_signatures(located, serving, told or image_size)
    else:
        raise ModuleError(f"{located.path} has neither a graph without tags nor one to serve")
    return HubModule(
        handle=located.handle,
        path=located.path,
        fingerprint=modulefiles.fingerprint(located.path),
        format=kind,
        tags=tuple(by_tags),
        signatures=signatures,
        image_size=told,
    )


def _tf2_image_size(serving: Any, handle: str) -> int | None:
    """The size in the shape of the signature's input, else that in the handle's name."""
    shapes = [spec.shape for spec in _specs(serving.inputs).values()]
    return _square(shapes, handle)


def _tf2_signatures(located: Located, serving: Any, image_size: int | None) -> dict[str, Signature]:
    """A TF2 SavedModel's one function under the name of the hub's signature for what it gives."""
    if image_size is None:
        raise ModuleError(
            f"module {located.handle} does not tell its image size", "say it with --image-size N"
        )
    function = savedmodel.load_function(located.path, image_size)
    shape = tuple(-1 if n is None else n for n in function.structured_outputs.shape)
    images = TensorSpec("", "float32", (-1, image_size, image_size, 3))
    result = TensorSpec("", "float32", shape)
    signature = Signature({_INPUT: images}, {_OUTPUT: result})
    words = f"{located.handle} {' '.join(serving.outputs)}".replace("-", "_")
    if "feature_vector" in words:
        return {FEATURES_SIGNATURE: signature}
    if "classification" in words or "logits" in words:
        return {LOGITS_SIGNATURE: signature}
    # Nothing tells which it is: it is what it is used for.
    return {LOGITS_SIGNATURE: signature, FEATURES_SIGNATURE: signature}


def _specs(tensors: Any) -> dict[str, TensorSpec]:
    from tensorflow import dtypes

    return {
        key: TensorSpec(
            info.name,
            dtypes.as_dtype(info.dtype).name,
            tuple(dimension.size for dimension in info.tensor_shape.dim),
        )
        for key, info in sorted(tensors.items())
    }


def _image_size(meta_graph: Any, signatures: Mapping[str, Signature], handle: str) -> int | None:
    """What `hub.get_expected_image_size` would say, else what the handle's name says."""
    attachments = meta_graph.collection_def[attachment.COLLECTION].bytes_list.value
    attached = [attachment.image_size(wire) for wire in attachments]
    shapes = [
        signature.inputs[_INPUT].shape
        for signature in signatures.values()
        if _INPUT in signature.inputs
    ]
    return _square([(-1, *size, 3) for size in attached if size] + shapes, handle)


def _square(shapes: Sequence[tuple[int, ...]], handle: str) -> int | None:
    """The side of the first shape [batch, h, w, c] that is known, else that in the name."""
    known = ((s[1], s[2]) for s in shapes if len(s) == 4 and s[1] > 0 and s[2] > 0)
    found = next(known, None)
    if found is None:
        variant = catalog.family_name(handle)
        return variant.image_size if variant else None
    if found[0] != found[1]:
        raise ModuleError(f"module {handle} takes images of {found[0]}x{found[1]}, not square ones")
    return found[0]
