"""The files that make up a module: which there must be, their checksums, the fingerprint."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HUB_MARK = "tfhub_module.pb"
MODULE_FILES = (
    "saved_model.pb",
    HUB_MARK,
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)
# It lies in the module, so that neither comes or goes without the other.
CHECKSUMS = ".mnv1-sha256"

_CHUNK = 1 << 20


def find_missing_file(directory: Path) -> str | None:
    """The first file that a module must have and `directory` lacks, or None.

    A TF2 SavedModel needs no `tfhub_module.pb`.
    """
    for name in MODULE_FILES:
        if os.path.isfile(directory / name):
            continue
        if name == HUB_MARK and _is_tf2(directory / MODULE_FILES[0]):
            continue
        return name
    return None


def _is_tf2(graph: Path) -> bool:
    """Whether a `saved_model.pb` has the tag `serve`, told without TensorFlow.

    The tag is field 4 of its MetaInfoDef: the key 0x22, the length, the text.
    """
    return b"\x22\x05serve" in graph.read_bytes()


def list_files(directory: Path) -> list[str]:
    """The files that make up a module, as sorted relative names."""
    names = [name for name in ("saved_model.pb", HUB_MARK) if (directory / name).is_file()]
    for folder in ("variables", "assets"):
        found = (path for path in (directory / folder).rglob("*") if path.is_file())
        names += [path.relative_to(directory).as_posix() for path in found]
    return sorted(names)


def measure_size(directory: Path) -> int:
    """Bytes that a module takes on disk."""
    return sum((directory / name).stat().st_size for name in list_files(directory))


def hash_file(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compute_fingerprint(directory: Path) -> str:
    """What tells two modules apart: sha256, in hexadecimal.

    Over each file of `module_files` in order: its relative name in UTF-8, a
    zero byte, its length as 8 bytes big-endian, its bytes.
    """
    digest = hashlib.sha256()
    for name in list_files(directory):
        path = directory / name
        digest.update(os.fsencode(name) + b"\0" + path.stat().st_size.to_bytes(8, "big"))
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def find_problems(directory: Path) -> list[str]:
    """What is wrong with a module's files, a few words each.

    They are held against the checksums that were noted when it came; of a
    module that was laid there by hand there are none.
    """
    lacking = find_missing_file(directory)
    problems = [f"{lacking} is missing"] if lacking else []
    noted = _read_checksums(directory)
    if not noted and has_checksums(directory):
        problems.append("the list of its checksums is damaged")
    for name in sorted({*noted, *list_files(directory)}):
        path = directory / name
        if not path.is_file():
            problems += [f"{name} is missing"] if name != lacking else []
        elif noted and name not in noted:
            problems.append(f"{name} was not there when the module came")
        elif noted and hash_file(path) != noted[name]:
            problems.append(f"{name} has changed since the module came")
    return problems


def write_checksums(directory: Path) -> None:
    """Keep the sha256 of every file with the module, as `sha256sum -c` reads them."""
    sums = (f"{hash_file(directory / name)}  {name}\n" for name in list_files(directory))
    (directory / CHECKSUMS).write_text("".join(sums))


def has_checksums(directory: Path) -> bool:
    """Whether checksums of this module were noted."""
    return os.path.isfile(directory / CHECKSUMS)


def _read_checksums(directory: Path) -> dict[str, str]:
    try:
        lines = (directory / CHECKSUMS).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.split("  ", 1) for line in lines if "  " in line)
    return {name: digest for digest, name in pairs}
