"""The files of a module that no engine can run, written to a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILES = {
    "saved_model.pb": b"graph",
    "tfhub_module.pb": b"\x08\x03",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights" * 100,
}
WITH_ASSETS = {**FILES, "assets/b.txt": b"b", "assets/a/c.txt": b"c"}


def lay(directory: Path, files: Mapping[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def read_files(directory: Path) -> dict[str, bytes]:
    """Read every file below a directory, except the checksums of a module."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != ".mnv1-sha256"
    }


def list_left(cache: Path) -> set[str]:
    """Return the names in a cache, except those of locks."""
    return {path.name for path in cache.iterdir() if not path.name.endswith(".mnv1-lock")}
