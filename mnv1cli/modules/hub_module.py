"""A module's description: its signatures, endpoints, image size and classes.

Both formats are described in the same way: a TF2 SavedModel gets one of the
hub's signatures. Modules are run by `inference/`.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError, OptionError, SignatureError
from mnv1cli.modules import catalog, weights
from mnv1cli.modules.audit_ops import ForeignOperation
from mnv1cli.modules.signatures import (
    FEATURES_SIGNATURE,
    FLOATS,
    INPUT,
    LOGITS_SIGNATURE,
    OUTPUT,
    Output,
    Signature,
    TensorSpec,
    choose_features,
    choose_scores,
)
from mnv1cli.types import UNIT_RANGE, InputRange

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TF1, TF2 = "TF1 Hub module", "TF2 SavedModel"

# TF-Slim names the average over height and width by the way in which it was built.
_POOLS = ("global_pool", "AvgPool_1a")

# Raise this with every change of the record of a module.
RECORD_VERSION = 4
# What another copy of a module, or another run, may have otherwise.
_UNRECORDED = frozenset({"handle", "path", "fingerprint", "input_range"})


@dataclass(frozen=True, slots=True)
class HubModule:
    """A module and its description.

    `image_size` is the height and width of its images in pixels, None if
    neither the module nor its handle has it. `labels` is the relative name of the
    file with its own class names, None if it has none. `foreign` are the operations
    that a classifier has no use for, `foreign_training` those of the graph for
    training, which matter only if that graph is used.

    `input_range` is what the images are mapped to from [0, 1]. It is no fact of the module but
    a setting of those who use it, and is not recorded.
    """

    handle: str
    path: Path
    fingerprint: str
    format: str
    tags: tuple[tuple[str, ...], ...]
    signatures: Mapping[str, Signature]
    image_size: int | None
    labels: str | None = None
    foreign: tuple[ForeignOperation, ...] = ()
    foreign_training: tuple[ForeignOperation, ...] = ()
    input_range: InputRange = UNIT_RANGE

    @property
    def labels_path(self) -> Path | None:
        """The file with the module's own class names, None without one."""
        return self.path / self.labels if self.labels else None

    def logits(self) -> Output:
        """Return the output with the scores of classes, [batch, classes].

        They are logits, or in some modules probabilities.

        Raises:
            SignatureError: the module has no scores.
        """
        return self._find_main_output(LOGITS_SIGNATURE, "logits")

    def features(self) -> Output:
        """Return the output with the feature vectors, [batch, features].

        Raises:
            SignatureError: the module has no feature vectors.
        """
        return self._find_main_output(FEATURES_SIGNATURE, "features")

    def main_outputs(self) -> list[Output]:
        """Return logits and features, as far as the module has them."""
        outputs = []
        for find in (self.logits, self.features):
            with contextlib.suppress(SignatureError):
                outputs.append(find())
        return outputs

    def endpoint(self, name: str) -> Output:
        """Return a hidden layer by its output key, with or without the scope before it.

        `global_pool` and `AvgPool_1a` are the same layer, of which a module has one.

        Raises:
            SignatureError: no signature has it; the remedy names those that exist.
        """
        endpoints = self.endpoints()
        for key in _list_spellings(name):
            if key in endpoints:
                return self._find_output(endpoints[key], key, key)
        raise SignatureError(
            f"module {self.handle} has no endpoint {name!r}",
            f"it has {', '.join(endpoints) or 'none'}",
        )

    def endpoints(self) -> dict[str, str]:
        """Map every output but `default`, in the order of layers, to a signature that has it."""
        signatures = {
            key: name
            for name in (LOGITS_SIGNATURE, FEATURES_SIGNATURE)
            if name in self.signatures
            for key, spec in self.signatures[name].outputs.items()
            if key != OUTPUT and spec.dtype in FLOATS
        }
        return {key: signatures[key] for key in sorted(signatures, key=_make_layer_key)}

    def classes(self) -> int | None:
        """Return the number of classes, None where the module has no scores or none is stated."""
        return self._read_length("logits")

    def feature_length(self) -> int | None:
        """Return the length of the feature vector, None where it is not stated."""
        return self._read_length("features")

    def choose_image_size(self, wanted: int | None) -> int:
        """Return the height and width of images in pixels: the module's own, else those `wanted`.

        Raises:
            ModuleError: neither is known.
            OptionError: they differ.
        """
        size = self.image_size or wanted
        if size is None:
            raise ModuleError(
                f"module {self.handle} does not state its image size", "give it with --image-size N"
            )
        if wanted is not None and wanted != size:
            raise OptionError(
                f"module {self.handle} states that its images are {size}x{size}, not "
                f"{wanted}x{wanted}",
                catalog.advise_size(self.handle, wanted),
            )
        return size

    def _read_length(self, name: str) -> int | None:
        for output in self.main_outputs():
            shape = output.result.shape
            if output.name == name and len(shape) > 1 and shape[-1] > 0:
                return shape[-1]
        return None

    def _find_main_output(self, signature: str, name: str) -> Output:
        choose = choose_scores if signature == LOGITS_SIGNATURE else choose_features
        outputs = self.signatures[signature].outputs if signature in self.signatures else {}
        return self._find_output(signature, choose(outputs) or OUTPUT, name)

    def _find_output(self, signature: str, key: str, name: str) -> Output:
        chosen = self.signatures.get(signature)
        if chosen is None:
            names = ", ".join(sorted(self.signatures)) or "none"
            raise SignatureError(
                f"module {self.handle} has no signature {signature!r}",
                f"it has {names}",
            )
        if INPUT not in chosen.inputs or key not in chosen.outputs:
            raise SignatureError(
                f"signature {signature!r} of module {self.handle} does not lead from "
                f"{INPUT!r} to {key!r}",
                f"it leads from {', '.join(chosen.inputs)} to {', '.join(chosen.outputs)}",
            )
        result = chosen.outputs[key]
        if result.dtype not in FLOATS:
            raise SignatureError(
                f"signature {signature!r} of module {self.handle} gives {key!r} as "
                f"{result.dtype}, which are no {name}",
                f"the outputs are {', '.join(chosen.outputs)}",
            )
        return Output(name, chosen.inputs[INPUT], result)


def _list_spellings(name: str) -> list[str]:
    """List the keys that an endpoint may have in a module, the one given first."""
    scope = f"{weights.SCOPE}/"
    plain = name.removeprefix(scope)
    names = [plain, *_POOLS] if plain in _POOLS else [plain]
    return [name, *(spelling for plain in names for spelling in (plain, f"{scope}{plain}"))]


def _make_layer_key(key: str) -> tuple[int, int, str]:
    """Make a key that sorts Conv2d_2_* before Conv2d_10_*, and other layers last."""
    number = key.partition("Conv2d_")[2].partition("_")[0]
    return (0, int(number), key) if number.isdigit() else (1, 0, key)


def to_record(module: HubModule) -> dict[str, Any]:
    """Convert a module's description to a record for JSON."""
    record = asdict(module)
    return {key: record[key] for key in record if key not in _UNRECORDED}


def from_record(
    record: Mapping[str, Any], handle: str, path: Path, fingerprint: str
) -> HubModule | None:
    """Make a module from its record; return None if the record is empty or of another layout."""
    try:
        signatures = {
            name: Signature(_read_specs(specs["inputs"]), _read_specs(specs["outputs"]))
            for name, specs in record["signatures"].items()
        }
        tags = tuple(tuple(names) for names in record["tags"])
        kind, size, labels = record["format"], record["image_size"], record["labels"]
        foreign, training = (
            tuple(ForeignOperation(*fields) for fields in record[key])
            for key in ("foreign", "foreign_training")
        )
    except (KeyError, TypeError, AttributeError):
        return None
    description = (kind, tags, signatures, size, labels, foreign, training)
    return HubModule(handle, path, fingerprint, *description)


def _read_specs(specs: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {
        key: TensorSpec(spec["tensor"], spec["dtype"], tuple(spec["shape"]))
        for key, spec in specs.items()
    }
