"""Files made from modules and kept in the cache: compiled models, and records of inspections.

Those of a module are in `compiled/FINGERPRINT` of the cache: for each model
`NAME.tflite` and, written last, `NAME.json` with its sha256 and its origin; and
records of the module's signatures, so that a run need not load TensorFlow to
read them. A damaged file counts as absent: all of them can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mnv1cli.modules import cache
from mnv1cli.types import UNIT_RANGE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mnv1cli.types import InputRange, Precision

_FOLDER = "compiled"
_MODEL, _RECORD = ".tflite", ".json"
_UNFINISHED = "-tmp"


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model for LiteRT, and its origin.

    `outputs` names its outputs in their order, `converter` the program that
    made it; `calibration` describes the images used for an int8 model.
    `image_size` is the side of its images in pixels where the module states none, and
    `input_range` what it maps them to from [0, 1].
    """

    model: bytes = field(repr=False)
    outputs: tuple[str, ...]
    precision: Precision
    converter: str
    calibration: Mapping[str, Any] | None = None
    image_size: int | None = None
    input_range: InputRange = UNIT_RANGE

    @property
    def sha256(self) -> str:
        """The digest of the model in hexadecimal."""
        return hashlib.sha256(self.model).hexdigest()


def artifact_directory(fingerprint: str) -> Path:
    """Return the directory of the files made from a module."""
    return cache.cache_root() / _FOLDER / fingerprint


def find_model(
    fingerprint: str,
    outputs: tuple[str, ...],
    precision: Precision,
    image_size: int | None = None,
    input_range: InputRange = UNIT_RANGE,
) -> CompiledModel | None:
    """Read a module's model with these outputs, None if it is absent or damaged."""
    stem = _make_stem(outputs, precision, image_size, input_range)
    folder = artifact_directory(fingerprint)
    record = _read(folder / (stem + _RECORD))
    try:
        model = (folder / (stem + _MODEL)).read_bytes()
        compiled = CompiledModel(
            model,
            tuple(record["outputs"]),
            precision,
            str(record["converter"]),
            record["calibration"],
            image_size,
            input_range,
        )
        sound = compiled.sha256 == record["sha256"] and compiled.outputs == outputs
    except (OSError, KeyError, TypeError):
        return None
    return compiled if sound else None


def save_model(fingerprint: str, compiled: CompiledModel) -> bool:
    """Save a model; return whether the cache could be written."""
    stem = _make_stem(
        compiled.outputs, compiled.precision, compiled.image_size, compiled.input_range
    )
    record = {
        "sha256": compiled.sha256,
        "outputs": compiled.outputs,
        "precision": compiled.precision,
        "converter": compiled.converter,
        "calibration": compiled.calibration,
    }
    # The record last: without it, or beside another model, the model does not count.
    return _write(artifact_directory(fingerprint) / (stem + _MODEL), compiled.model) and _write(
        artifact_directory(fingerprint) / (stem + _RECORD), json.dumps(record, indent=1).encode()
    )


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
    return [_read(place) for place in places if not place.with_suffix(_MODEL).exists()]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A compiled model in the cache; `size` in bytes."""

    outputs: tuple[str, ...]
    precision: str
    size: int


def list_models(fingerprint: str) -> list[StoredModel]:
    """List the compiled models of a module."""
    models = []
    for place in sorted(artifact_directory(fingerprint).glob("*" + _MODEL)):
        record = _read(place.with_suffix(_RECORD))
        with contextlib.suppress(OSError, KeyError, TypeError):
            model = StoredModel(tuple(record["outputs"]), record["precision"], place.stat().st_size)
            models.append(model)
    return models


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
    outputs: tuple[str, ...], precision: Precision, image_size: int | None, input_range: InputRange
) -> str:
    # A digest, because the names of outputs come from the module and may be anything.
    stem = f"{precision}-{_hash_text(json.dumps(outputs))}"
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
