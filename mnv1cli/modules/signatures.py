"""Signatures of modules: their tensors, and which outputs are scores or features.

Modules name their outputs in many ways. A name that says what an output is counts first, then
a shape that leaves no choice; what is not clear is never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOGITS_SIGNATURE = "image_classification"
FEATURES_SIGNATURE = "image_feature_vector"
INPUT, OUTPUT = "images", "default"

# What can be done about a module that takes something else.
IMAGES_REMEDY = "name a module for images as float32 [batch, size, size, 3], such as 'bundled'"

# Scores of classes and features are of these types; integers are class ids, whatever their name.
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_LOGITS, _PROBABILITIES = "logits", "probabilities"
_FEATURES = ("feature_vector", "features", "embedding", "embeddings")
# Words in a handle or in the name of the only output that say what the output is.
_CLASSIFIES = ("classification", _LOGITS)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of a signature; -1 in `shape` is a dimension of any length.

    `tensor` is its name in the graph, or for a TF2 SavedModel the key of an output.
    """

    tensor: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a signature by their keys."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a module: its name, and the tensors to feed and to fetch."""

    name: str
    images: TensorSpec
    result: TensorSpec


def choose_scores(outputs: Mapping[str, TensorSpec]) -> str | None:
    """Choose the output of a signature with the scores of classes, None where none is clear.

    It is `default`, else `logits`, else `probabilities`, else the only one of shape [n, classes].
    """
    floats = _select_floats(outputs)
    named = _find_name(floats, (OUTPUT, _LOGITS, _PROBABILITIES))
    return named or _find_only_vector(floats)


def choose_features(outputs: Mapping[str, TensorSpec]) -> str | None:
    """Choose the output of a signature with the feature vector, None where none is clear.

    It is `default`, else one named as features, else the only one of shape [n, features].
    """
    floats = _select_floats(outputs)
    named = _find_name(floats, (OUTPUT, *_FEATURES))
    return named or _find_only_vector(floats)


def make_tf2_signatures(
    images: TensorSpec, outputs: Mapping[str, TensorSpec], handle: str, name: str
) -> dict[str, Signature]:
    """Describe a function's outputs as the hub's signatures, or under its own `name`.

    Outputs that are neither scores nor features are endpoints.
    """
    floats = _select_floats(outputs)
    if len(floats) == 1:
        scores, features = _assign_only_output(next(iter(floats)), handle)
    else:
        scores, features = _assign_outputs(floats, handle)
    chosen = {LOGITS_SIGNATURE: scores, FEATURES_SIGNATURE: features}
    more = {key: floats[key] for key in floats if key not in (scores, features, OUTPUT)}
    signatures = {
        signature: Signature({INPUT: images}, {OUTPUT: floats[key], **more})
        for signature, key in chosen.items()
        if key is not None
    }
    return signatures or {name: Signature({INPUT: images}, outputs)}


def require_image_shape(spec: TensorSpec, handle: str) -> None:
    """Refuse an input that is no batch of images.

    Raises:
        ModuleError: it does not have the shape [batch, height, width, channels].
    """
    if len(spec.shape) != 4:
        raise ModuleError(
            f"module {handle} takes no batches of images: its input has the shape "
            f"{list(spec.shape)}",
            IMAGES_REMEDY,
        )
    if spec.shape[1] == 3 and spec.shape[-1] > 4:
        raise ModuleError(
            f"module {handle} takes images with their channels first, which is not supported",
            IMAGES_REMEDY,
        )


def _assign_only_output(key: str, handle: str) -> tuple[str | None, str | None]:
    """Return the keys of scores and features: the only output is one of them, or may be either."""
    words, plain = f"{handle} {key}".replace("-", "_"), key.lower()
    if "feature_vector" in words or plain in _FEATURES:
        return None, key
    if plain == _PROBABILITIES or any(word in words for word in _CLASSIFIES):
        return key, None
    # Nothing says which of the two it is, so it may be used as either.
    return key, key


def _assign_outputs(floats: Mapping[str, TensorSpec], handle: str) -> tuple[str | None, str | None]:
    """Return the keys of scores and features among several outputs."""
    logits = _find_name(floats, (_LOGITS,))
    features = _find_name(floats, _FEATURES)
    if "feature_vector" in handle.replace("-", "_"):
        return logits, choose_features(floats)
    others = {key: spec for key, spec in floats.items() if key != features}
    scores = logits or choose_scores(others)
    # What is beside logits under the name `default` is the same, or the features before them.
    default = floats.get(OUTPUT)
    if logits and not features and default and default.shape != floats[logits].shape:
        features = OUTPUT
    return scores, features


def _select_floats(outputs: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
    return {key: spec for key, spec in outputs.items() if spec.dtype in FLOATS}


def _find_name(outputs: Iterable[str], names: Iterable[str]) -> str | None:
    """Return the first output with one of `names`, in upper or lower case."""
    keys = {key.lower(): key for key in outputs}
    return next((keys[name] for name in names if name in keys), None)


def _find_only_vector(floats: Mapping[str, TensorSpec]) -> str | None:
    vectors = [key for key, spec in floats.items() if len(spec.shape) == 2]
    return vectors[0] if len(vectors) == 1 else None
