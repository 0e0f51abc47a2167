"""What was made of modules and is kept in the cache: compiled models, and what modules say.

All that belongs to one module lies in `compiled/FINGERPRINT` of the cache: for
each model `NAME.tflite` and, written last, `NAME.json` with its sha256 and how
it came about; and records of what the module says of itself, so that a run
need not ask TensorFlow. What is damaged here counts as absent: all of it can
be made again.
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

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mnv1cli.types import Precision

_FOLDER = "compiled"
_MODEL, _RECORD = ".tflite", ".json"
_UNFINISHED = "-tmp"


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model for LiteRT, and how it came about.

    `outputs` names its outputs in their order, `converter` what made it;
    `calibration` tells of the images of an int8 model.
    """

    model: bytes = field(repr=False)
    outputs: tuple[str, ...]
    precision: Precision
    converter: str
    calibration: Mapping[str, Any] | None = None

    @property
    def sha256(self) -> str:
        """The digest of the model, in hexadecimal."""
        return hashlib.sha256(self.model).hexdigest()


def artifact_directory(fingerprint: str) -> Path:
    """Where all that was made of a module lies."""
    return cache.cache_root() / _FOLDER / fingerprint


def find_model(
    fingerprint: str, outputs: tuple[str, ...], precision: Precision
) -> CompiledModel | None:
    """The model of a module with these outputs, if it is there and sound."""
    place = artifact_directory(fingerprint) / _make_stem(outputs, precision)
    record = _read(place.with_suffix(_RECORD))
    try:
        model = place.with_suffix(_MODEL).read_bytes()
        found = CompiledModel(
            model,
            tuple(record["outputs"]),
            precision,
            str(record["converter"]),
            record["calibration"],
        )
        sound = found.sha256 == record["sha256"] and found.outputs == outputs
    except (OSError, KeyError, TypeError):
        return None
    return found if sound else None


def save_model(fingerprint: str, compiled: CompiledModel) -> bool:
    """Keep a model; gives whether the cache could be written."""
    stem = _make_stem(compiled.outputs, compiled.precision)
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
    """Take away what processes left that died while they wrote."""
    for leftover in artifact_directory(fingerprint).glob(f"*{_UNFINISHED}"):
        leftover.unlink(missing_ok=True)


def read_record(fingerprint: str, key: str) -> dict[str, Any]:
    """What was noted of a module under `key`, empty where nothing was."""
    return _read(artifact_directory(fingerprint) / (_hash_text(key) + _RECORD))


def write_record(fingerprint: str, key: str, facts: Mapping[str, Any]) -> None:
    """Note something of a module, where the cache can be written."""
    _write(
        artifact_directory(fingerprint) / (_hash_text(key) + _RECORD), json.dumps(facts).encode()
    )


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A compiled model in the cache; `size` in bytes."""

    outputs: tuple[str, ...]
    precision: str
    size: int


def list_models(fingerprint: str) -> list[StoredModel]:
    """The compiled models of a module."""
    found = []
    for place in sorted(artifact_directory(fingerprint).glob("*" + _MODEL)):
        record = _read(place.with_suffix(_RECORD))
        with contextlib.suppress(OSError, KeyError, TypeError):
            entry = StoredModel(tuple(record["outputs"]), record["precision"], place.stat().st_size)
            found.append(entry)
    return found


def list_fingerprints() -> list[str]:
    """The modules of which something is kept."""
    root = cache.cache_root() / _FOLDER
    return sorted(place.name for place in root.iterdir()) if root.is_dir() else []


def remove(fingerprint: str) -> None:
    """Forget all that was made of a module."""
    shutil.rmtree(artifact_directory(fingerprint), ignore_errors=True)
    with contextlib.suppress(OSError):
        artifact_directory(fingerprint).parent.rmdir()


def remove_all() -> None:
    """Forget all that was made of any module."""
    shutil.rmtree(cache.cache_root() / _FOLDER, ignore_errors=True)


def _make_stem(outputs: tuple[str, ...], precision: Precision) -> str:
    # A digest, because the names of outputs are the module's and may hold anything.
    return f"{precision}-{_hash_text(json.dumps(outputs))}"


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, data: bytes) -> bool:
    """Write a file in one stroke; gives whether that was possible."""
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
