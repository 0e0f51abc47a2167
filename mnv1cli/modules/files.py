"""The files of a module: those required, their checksums, and the fingerprint of all."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HUB_MARK = "tfhub_module.pb"
MODULE_FILES = (
    "saved_model.pb",
    HUB_MARK,
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)
# The class names of a module that was trained for other classes than ImageNet's.
LABELS_ASSET = "assets/labels.csv"
_VARIABLES = "variables"
_SHARD = re.compile(r"variables\.data-\d{5}-of-(\d{5})")
# It is in the module's own directory, so that both come and go together.
CHECKSUMS = ".mnv1-sha256"

CHUNK_BYTES = 1 << 20

# The kinds of fields on protobuf's wire, and the bytes of those without a length.
_VARINT, _DELIMITED = 0, 2
_FIXED_LENGTHS = {1: 8, 5: 4}
_VARINT_BITS = 70


def find_missing_file(directory: Path) -> str | None:
    """Return the first file that a module must have and `directory` lacks, None if complete.

    A TF2 SavedModel needs no `tfhub_module.pb`, and variables may be in several files.
    """
    for name in MODULE_FILES:
        if os.path.isfile(directory / name):
            continue
        if name == HUB_MARK and _is_tf2(directory / MODULE_FILES[0]):
            continue
        return _find_missing_shard(directory / _VARIABLES) if name == MODULE_FILES[-1] else name
    return None


def _find_missing_shard(folder: Path) -> str | None:
    """Return the first missing one of the files that share the variables, None if all exist."""
    names = {path.name for path in folder.glob("variables.data-*") if path.is_file()}
    totals = {int(match[1]) for name in names if (match := _SHARD.fullmatch(name))} - {0} or {1}
    missing = [
        next((name for name in _list_shards(total) if name not in names), None)
        for total in sorted(totals)
    ]
    # Of several sets one is enough: the others are of an older checkpoint.
    return None if None in missing else f"{_VARIABLES}/{missing[0]}"


def _list_shards(total: int) -> Iterator[str]:
    return (f"variables.data-{i:05}-of-{total:05}" for i in range(total))


def _is_tf2(graph: Path) -> bool:
    """Return whether a `saved_model.pb` has the tag `serve`, without importing TensorFlow.

    The tag is field 4 of its MetaInfoDef: the key 0x22, the length, the text.
    """
    return b"\x22\x05serve" in graph.read_bytes()


def is_tf2_export(directory: Path) -> bool:
    """Return whether a SavedModel is of TF2: it has a graph for serving, and none without tags."""
    tags = list(_read_tags((directory / MODULE_FILES[0]).read_bytes()))
    return () not in tags and any("serve" in names for names in tags)


def _read_tags(saved_model: bytes) -> Iterator[tuple[str, ...]]:
    """Yield the tags of each graph in a `saved_model.pb`, without importing TensorFlow.

    They are `tags = 4` of `MetaInfoDef meta_info_def = 1` of `MetaGraphDef meta_graphs = 2`.
    """
    for meta_graph in _walk_fields(saved_model, 2):
        info = next(_walk_fields(meta_graph, 1), b"")
        yield tuple(bytes(tag).decode("utf-8", "replace") for tag in _walk_fields(info, 4))


def _walk_fields(message: bytes | memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the contents of a protobuf message's fields of a number, up to the first damage.

    Only fields with a length, such as texts and messages, are yielded; the last
    one may be cut off.
    """
    view, position = memoryview(message), 0
    while position < len(view):
        key, position = _read_varint(view, position)
        kind, length = key & 7, _FIXED_LENGTHS.get(key & 7, 0)
        if kind in (_VARINT, _DELIMITED):
            number, position = _read_varint(view, position)
            length = number if kind == _DELIMITED else 0
        elif kind not in _FIXED_LENGTHS:
            return
        if kind == _DELIMITED and key >> 3 == wanted:
            yield view[position : position + length]
        position += length


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """Read a number of 7 bits per byte, the lowest first; return it and the next position."""
    number = shift = 0
    while position < len(view) and shift < _VARINT_BITS:
        byte = view[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            break
    return number, position


def list_files(directory: Path) -> list[str]:
    """List the files of a module as sorted relative names."""
    names = [name for name in ("saved_model.pb", HUB_MARK) if (directory / name).is_file()]
    for folder in ("variables", "assets"):
        paths = (path for path in (directory / folder).rglob("*") if path.is_file())
        names += [path.relative_to(directory).as_posix() for path in paths]
    return sorted(names)


def measure_size(directory: Path) -> int:
    """Return the size of a module's files in bytes."""
    return sum((directory / name).stat().st_size for name in list_files(directory))


def hash_file(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compute_fingerprint(directory: Path) -> str:
    """Compute the fingerprint that distinguishes modules: a sha256 in hexadecimal.

    It is taken over each file of `list_files` in order: its relative name in UTF-8, a
    zero byte, its length as 8 bytes big-endian, its bytes.
    """
    digest = hashlib.sha256()
    for name in list_files(directory):
        path = directory / name
        digest.update(os.fsencode(name) + b"\0" + path.stat().st_size.to_bytes(8, "big"))
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def find_problems(directory: Path) -> list[str]:
    """Compare a module's files with their checksums; return each problem in a few words.

    The checksums were written when the module was installed; a module that was
    put there by hand has none.
    """
    missing = find_missing_file(directory)
    problems = [f"{missing} is missing"] if missing else []
    checksums = _read_checksums(directory)
    if not checksums and has_checksums(directory):
        problems.append("the list of its checksums is damaged")
    for name in sorted({*checksums, *list_files(directory)}):
        path = directory / name
        if not path.is_file():
            problems += [f"{name} is missing"] if name != missing else []
        elif checksums and name not in checksums:
            problems.append(f"{name} was not there when the module came")
        elif checksums and hash_file(path) != checksums[name]:
            problems.append(f"{name} has changed since the module came")
    return problems


def write_checksums(directory: Path) -> None:
    """Write the sha256 of every file of a module beside them, as `sha256sum -c` reads it."""
    sums = (f"{hash_file(directory / name)}  {name}\n" for name in list_files(directory))
    (directory / CHECKSUMS).write_text("".join(sums))


def has_checksums(directory: Path) -> bool:
    """Return whether a module has a list of checksums."""
    return os.path.isfile(directory / CHECKSUMS)


def _read_checksums(directory: Path) -> dict[str, str]:
    try:
        lines = (directory / CHECKSUMS).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.split("  ", 1) for line in lines if "  " in line)
    return {name: digest for digest, name in pairs}
