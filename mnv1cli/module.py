"""A hub module: where it comes from, and what it can do.

`locate` turns what the user named into a directory, `read` reads the
signatures of what lies there. Running it is the next floor's work.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli import archive, catalog, network, store
from mnv1cli.errors import ModuleError, SignatureError
from mnv1cli.records import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

LOGITS_SIGNATURE = "image_classification"
FEATURES_SIGNATURE = "image_feature_vector"
_INPUT, _OUTPUT = "images", "default"

BUNDLED = "bundled"
_BUNDLED_VARIANT = Variant(depth_multiplier=1.0, image_size=128)
_WEIGHTS = "weights/mobilenet_v1_1.0_224.fp16.npz"


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
        for key in (name, f"{network.SCOPE}/{name}"):
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


def open_module(name: str | None = None) -> HubModule:
    """The module that `name` means, ready to be run; None is the default.

    `name` is a directory, a `.tar.gz` file, a handle, a family name, `hub` or
    `bundled`.

    Raises:
        ModuleError: there is no such module at hand, or it cannot be read.
    """
    handle, path = locate(name)
    return read(handle, path)


def locate(name: str | None = None) -> tuple[str, Path]:
    """Handle and directory of the module that `name` means."""
    if name is None:
        return _default()
    if name == BUNDLED:
        return BUNDLED, _bundled()
    handle = catalog.DEFAULT_HANDLE if name == "hub" else catalog.handle_of(name) or name
    if handle.startswith(("http://", "https://")):
        return handle, _cached(handle)
    path = Path(name)
    if name and path.is_dir():
        return name, _checked(path)
    if path.is_file():
        return name, _unpacked(path)
    raise ModuleError(
        f"no module {name!r}",
        "name a directory, a .tar.gz file, a handle, a family name such as "
        "mobilenet_v1_050_160, 'hub' or 'bundled'",
    )


def _default() -> tuple[str, Path]:
    """The hub's module if it is cached, else the bundled one, with a warning."""
    if found := store.find(catalog.DEFAULT_HANDLE):
        return catalog.DEFAULT_HANDLE, found
    log.warning(
        "%s is not in the cache (%s); using the bundled weights, which were trained at "
        "224x224 and are less accurate at 128x128. --module bundled says that this is wanted",
        catalog.DEFAULT_HANDLE,
        store.slot(catalog.DEFAULT_HANDLE),
    )
    return BUNDLED, _bundled()


def _cached(handle: str) -> Path:
    if found := store.find(handle):
        return found
    place = store.slot(handle)
    state = f"lacks {store.missing_file(place)}" if place.is_dir() else "is not there"
    raise ModuleError(
        f"module {handle} is not in the cache: {place} {state}",
        "lay it there, name its directory or its .tar.gz, or use --module bundled",
    )


def _checked(directory: Path) -> Path:
    if lacking := store.missing_file(directory):
        raise ModuleError(f"{directory} is not a module: {lacking} is missing")
    return directory


def _unpacked(file: Path) -> Path:
    handle = f"archive:{store.file_digest(file)[:32]}"

    def fill(directory: Path) -> None:
        log.info("preparing the module (once)")
        archive.unpack(file, directory)
        _checked_archive(file, directory)

    return store.install(handle, fill)


def _checked_archive(file: Path, directory: Path) -> None:
    if lacking := store.missing_file(directory):
        raise ModuleError(f"{file} does not hold a module: {lacking} is missing")


def _bundled() -> Path:
    """The module built from the package's own weights, on first use."""
    weights = resources.files("mnv1cli") / "data" / _WEIGHTS
    with resources.as_file(weights) as path:
        handle = f"bundled:{network.REVISION}:{store.file_digest(path)[:32]}"

        def fill(directory: Path) -> None:
            import numpy as np

            log.info("preparing the module (once)")
            with np.load(path) as variables:
                network.write_module(directory, dict(variables), _BUNDLED_VARIANT)

        return store.install(handle, fill)


def read(handle: str, path: Path) -> HubModule:
    """Read what the module in `path` says of itself.

    Raises:
        ModuleError: `saved_model.pb` is damaged or has no inference graph.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    file = path / "saved_model.pb"
    try:
        saved_model.ParseFromString(file.read_bytes())
    except (DecodeError, OSError) as error:
        raise ModuleError(f"cannot read {file}: {error}", "get the module anew") from error
    graphs = saved_model.meta_graphs
    inference = next((graph for graph in graphs if not graph.meta_info_def.tags), None)
    if inference is None:
        raise ModuleError(f"{path} is not a TF1 Hub module: it has no graph without tags")
    signatures = {
        name: _signature(inference.signature_def[name]) for name in inference.signature_def
    }
    return HubModule(
        handle=handle,
        path=path,
        fingerprint=store.fingerprint(path),
        tags=tuple(tuple(graph.meta_info_def.tags) for graph in graphs),
        signatures=signatures,
        image_size=_image_size(inference, signatures, handle),
    )


def _signature(definition: Any) -> Signature:
    return Signature(_specs(definition.inputs), _specs(definition.outputs))


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
    attachments = meta_graph.collection_def[network.ATTACHMENTS].bytes_list.value
    sizes = [network.attached_image_size(attachment) for attachment in attachments]
    shapes = [
        signature.inputs[_INPUT].shape
        for signature in signatures.values()
        if _INPUT in signature.inputs
    ]
    sizes += [
        (shape[1], shape[2])
        for shape in shapes
        if len(shape) == 4 and shape[1] > 0 and shape[2] > 0
    ]
    found = next((size for size in sizes if size), None)
    if found is None:
        variant = catalog.family_name(handle)
        return variant.image_size if variant else None
    if found[0] != found[1]:
        raise ModuleError(f"module {handle} takes images of {found[0]}x{found[1]}, not square ones")
    return found[0]
