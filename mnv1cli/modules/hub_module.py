"""What a module can do: its signatures, endpoints, image size, classes.

Both formats look the same from here on: a TF2 SavedModel has one of the hub's
signatures. Running a module is another floor's work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError, OptionError, SignatureError
from mnv1cli.modules import weights
from mnv1cli.modules.audit_ops import ForeignOperation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TF1, TF2 = "TF1 Hub module", "TF2 SavedModel"

LOGITS_SIGNATURE = "image_classification"
FEATURES_SIGNATURE = "image_feature_vector"
INPUT, OUTPUT = "images", "default"

# Raise this with every change of what is recorded of a module.
RECORD_VERSION = 2


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
    neither the module nor its handle tells. `foreign` has the operations that a
    classifier has no use for, `foreign_training` those of the graph for
    training, which matter where that is used.
    """

    handle: str
    path: Path
    fingerprint: str
    format: str
    tags: tuple[tuple[str, ...], ...]
    signatures: Mapping[str, Signature]
    image_size: int | None
    foreign: tuple[ForeignOperation, ...] = ()
    foreign_training: tuple[ForeignOperation, ...] = ()

    def logits(self) -> Output:
        """The logits, [batch, classes]."""
        return self._output(LOGITS_SIGNATURE, OUTPUT, "logits")

    def features(self) -> Output:
        """The feature vector, [batch, features]."""
        return self._output(FEATURES_SIGNATURE, OUTPUT, "features")

    def main_outputs(self) -> list[Output]:
        """Logits and features, as far as the module has them."""
        found = [self.logits()] if LOGITS_SIGNATURE in self.signatures else []
        return found + ([self.features()] if FEATURES_SIGNATURE in self.signatures else [])

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
        found.pop(OUTPUT, None)
        return {key: found[key] for key in sorted(found, key=_make_layer_key)}

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

    def choose_image_size(self, wanted: int | None) -> int:
        """The height and width of its images: what it says, else what is `wanted`.

        Raises:
            ModuleError: nobody says it.
            OptionError: it says something else than is wanted.
        """
        size = self.image_size or wanted
        if size is None:
            raise ModuleError(
                f"module {self.handle} does not tell its image size", "say it with --image-size N"
            )
        if wanted is not None and wanted != size:
            raise OptionError(f"module {self.handle} takes images of {size}, not {wanted}")
        return size

    def _output(self, signature: str, key: str, name: str) -> Output:
        found = self.signatures.get(signature)
        if found is None:
            has = ", ".join(sorted(self.signatures)) or "none"
            raise SignatureError(
                f"module {self.handle} has no signature {signature!r}",
                f"it has {has}",
            )
        if INPUT not in found.inputs or key not in found.outputs:
            raise SignatureError(
                f"signature {signature!r} of module {self.handle} does not lead from "
                f"{INPUT!r} to {key!r}",
                f"it leads from {', '.join(found.inputs)} to {', '.join(found.outputs)}",
            )
        return Output(name, found.inputs[INPUT], found.outputs[key])


def _make_layer_key(key: str) -> tuple[int, int, str]:
    """Sorts Conv2d_2_* before Conv2d_10_*, and what is no convolution last."""
    number = key.partition("Conv2d_")[2].partition("_")[0]
    return (0, int(number), key) if number.isdigit() else (1, 0, key)


def to_record(module: HubModule) -> dict[str, Any]:
    """What a module says of itself, for JSON."""
    facts = asdict(module)
    return {name: facts[name] for name in facts if name not in ("handle", "path", "fingerprint")}


def from_record(
    record: Mapping[str, Any], handle: str, path: Path, fingerprint: str
) -> HubModule | None:
    """The module of a record; None where the record is empty or not one of ours."""
    try:
        signatures = {
            name: Signature(_read_specs(found["inputs"]), _read_specs(found["outputs"]))
            for name, found in record["signatures"].items()
        }
        tags = tuple(tuple(each) for each in record["tags"])
        kind, size = record["format"], record["image_size"]
        foreign, training = (
            tuple(ForeignOperation(*each) for each in record[key])
            for key in ("foreign", "foreign_training")
        )
    except (KeyError, TypeError, AttributeError):
        return None
    return HubModule(handle, path, fingerprint, kind, tags, signatures, size, foreign, training)


def _read_specs(specs: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        key: TensorSpec(spec["tensor"], spec["dtype"], tuple(spec["shape"]))
        for key, spec in specs.items()
    }
