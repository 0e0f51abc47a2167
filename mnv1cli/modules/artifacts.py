"""Files made from modules and kept in the cache: compiled models, and records of inspections.

Those of a module are in `compiled/FINGERPRINT` of the cache: for each model
`NAME.tflite`, or `NAME.xml` and `NAME.bin` for OpenVINO, and, written last, `NAME.json` with its
sha256 and its origin; and records of the module's signatures, so that a run need not load
TensorFlow to read them. A damaged file counts as absent: all of them can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mnv1cli.modules import cache
from mnv1cli.types import UNIT_RANGE, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mnv1cli.types import InputRange

# Of calibrated int8 models there is one for each engine; that for LiteRT is `int8`.
ModelKind = Precision | Literal["int8-uncalibrated", "int8-openvino"]

# The recipe of int8 models whose record names none.
STATIC = "static"

_FOLDER = "compiled"
_MODEL, _RECORD = ".tflite", ".json"
# A model for OpenVINO and its weights.
_NETWORK, _WEIGHTS = ".xml", ".bin"
_UNFINISHED = "-tmp"


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model for LiteRT or OpenVINO, and its origin.

    `outputs` names its outputs in their order, `converter` the program that
    made it; `calibration` describes the images used for an int8 model.
    `image_size` is the side of its images in pixels where the module states none, and
    `input_range` what it maps them to from [0, 1]. `recipe` is how an int8 model was made, empty
    for float32; `weights` are those of a model for OpenVINO, which are apart from its network.
    """

    model: bytes = field(repr=False)
    outputs: tuple[str, ...]
    precision: Precision
    converter: str
    calibration: Mapping[str, Any] | None = None
    image_size: int | None = None
    input_range: InputRange = UNIT_RANGE
    recipe: str = ""
    weights: bytes = field(default=b"", repr=False)

    @property
    def sha256(self) -> str:
        """The digest of the model in hexadecimal."""
        return hashlib.sha256(self.model + self.weights).hexdigest()

    @property
    def kind(self) -> ModelKind:
        """The kind of the model: a module has one of each for the same outputs and images."""
        if self.weights:
            return "int8-openvino"
        return "int8-uncalibrated" if self.recipe and not self.calibration else self.precision


def artifact_directory(fingerprint: str) -> Path:
    """Return the directory of the files made from a module."""
    return cache.cache_root() / _FOLDER / fingerprint


def find_model(
    fingerprint: str,
    outputs: tuple[str, ...],
    kind: ModelKind,
    image_size: int | None = None,
    input_range: InputRange = UNIT_RANGE,
) -> CompiledModel | None:
    """Read a module's model with these outputs, None if it is absent or damaged."""
    stem = _make_stem(outputs, kind, image_size, input_range)
    folder = artifact_directory(fingerprint)
    record = _read(folder / (stem + _RECORD))
    is_network = kind == "int8-openvino"
    try:
        compiled = CompiledModel(
            (folder / (stem + (_NETWORK if is_network else _MODEL))).read_bytes(),
            tuple(record["outputs"]),
            record["precision"],
            str(record["converter"]),
            record["calibration"],
            image_size,
            input_range,
            str(record.get("recipe", "")),
            (folder / (stem + _WEIGHTS)).read_bytes() if is_network else b"",
        )
        sound = compiled.sha256 == record["sha256"] and compiled.outputs == outputs
    except (OSError, KeyError, TypeError):
        return None
    return compiled if sound else None


def save_model(fingerprint: str, compiled: CompiledModel) -> bool:
    """Save a model; return whether the cache could be written."""
    stem = _make_stem(compiled.outputs, compiled.kind, compiled.image_size, compiled.input_range)
    record = {
        "sha256": compiled.sha256,
        "outputs": compiled.outputs,
        "precision": compiled.precision,
        "converter": compiled.converter,
        "calibration": compiled.calibration,
    }
    if compiled.recipe:
        record["recipe"] = compiled.recipe
    folder = artifact_directory(fingerprint)
    files = {_MODEL: compiled.model}
    if compiled.weights:
        files = {_NETWORK: compiled.model, _WEIGHTS: compiled.weights}
    # The record last: without it, or beside another model, the model does not count.
    files[_RECORD] = json.dumps(record, indent=1).encode()
    return all(_write(folder / (stem + suffix), data) for suffix, data in files.items())


def remove_model(fingerprint: str, compiled: CompiledModel) -> None:
    """Remove a model, if the cache can be written."""
    stem = _make_stem(compiled.outputs, compiled.kind, compiled.image_size, compiled.input_range)
    # The record first: what is left of an interrupted removal is no model.
    for suffix in (_RECORD, _MODEL, _NETWORK, _WEIGHTS):
        with contextlib.suppress(OSError):
            (artifact_directory(fingerprint) / (stem + suffix)).unlink(missing_ok=True)


def remove_leftovers(fingerprint: str) -> None:
    """Remove what processes left that died while they were writing."""
    for leftover in artifact_directory(fingerprint).glob(f"*{_UNFINISHED}"):
        leftover.unlink(missing_ok=True)


def read_record(fingerprint: str, key: str) -> dict[str, Any]:
    """Read a module's record for `key`, empty if there is none."""
    return _read(artifact_directory(fingerprint) / (_hash_text(key) + _RECORD))


def write_record(fingerprint: str, key: str, record: Mapping[str, Any]) -> None:
    """Write a module's record for `key`, if the cache can be written."""
    _write(
        artifact_directory(fingerprint) / (_hash_text(key) + _RECORD), json.dumps(record).encode()
    )


def list_records(fingerprint: str) -> list[dict[str, Any]]:
    """List a module's records, whatever their keys are, without those of compiled models."""
    places = sorted(artifact_directory(fingerprint).glob("*" + _RECORD))
    return [_read(place) for place in places if not any(map(Path.exists, _list_files(place)))]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A compiled model in the cache; `size` in bytes, `recipe` empty for float32."""

    outputs: tuple[str, ...]
    precision: str
    size: int
    recipe: str = ""
    engine: str = "litert"


def list_models(fingerprint: str) -> list[StoredModel]:
    """List the compiled models of a module."""
    models = []
    for place in sorted(artifact_directory(fingerprint).glob("*" + _RECORD)):
        record, sizes = _read(place), []
        for file in _list_files(place):
            with contextlib.suppress(OSError):
                sizes.append(file.stat().st_size)
        with contextlib.suppress(KeyError, TypeError):
            outputs, precision = tuple(record["outputs"]), record["precision"]
            recipe = str(record.get("recipe") or (STATIC if precision == "int8" else ""))
            engine = "openvino" if place.with_suffix(_NETWORK).exists() else "litert"
            if sizes:
                models.append(StoredModel(outputs, precision, sum(sizes), recipe, engine))
    return models


def _list_files(record: Path) -> list[Path]:
    """List the files that a model with this record may have."""
    return [record.with_suffix(suffix) for suffix in (_MODEL, _NETWORK, _WEIGHTS)]


def list_fingerprints() -> list[str]:
    """List the fingerprints of the modules with files here, in order."""
    root = cache.cache_root() / _FOLDER
    return sorted(place.name for place in root.iterdir()) if root.is_dir() else []


def remove(fingerprint: str) -> None:
    """Remove all files made from a module."""
    shutil.rmtree(artifact_directory(fingerprint), ignore_errors=True)
    with contextlib.suppress(OSError):
        artifact_directory(fingerprint).parent.rmdir()


def remove_all() -> None:
    """Remove the files made from all modules."""
    shutil.rmtree(cache.cache_root() / _FOLDER, ignore_errors=True)


def _make_stem(
    outputs: tuple[str, ...], kind: ModelKind, image_size: int | None, input_range: InputRange
) -> str:
    # A digest, because the names of outputs come from the module and may be anything.
    stem = f"{kind}-{_hash_text(json.dumps(outputs))}"
    stem = f"{stem}-{image_size}" if image_size else stem
    return f"{stem}-{_hash_text(input_range.setting)}" if input_range.setting else stem


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(file: Path, data: bytes) -> bool:
    """Write a file at once or not at all; return whether it could be written."""
    work = file.with_name(f"{file.name}-{uuid.uuid4().hex}{_UNFINISHED}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        work.write_bytes(data)
        os.replace(work, file)
    except OSError:
        with contextlib.suppress(OSError):
            work.unlink(missing_ok=True)
        return False
    return True
