"""Files that exist only as long as the process lives."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mnv1-")


def make_scratch_dir() -> Path:
    """Make a directory for what cannot be cached; it is removed when the process ends."""
    return Path(_scratch().name)


def remove_scratch() -> None:
    """Remove it at once, for a process that ends without Python's own clean-up."""
    if _scratch.cache_info().currsize:
        _scratch().cleanup()


def is_permanent(directory: Path) -> bool:
    """Return whether a module will still exist when the process has ended."""
    return not _scratch.cache_info().currsize or make_scratch_dir() not in directory.parents


@contextlib.contextmanager
def redirect_temporary_files() -> Iterator[None]:
    """Let temporary files of libraries be removed with the process, however it ends."""
    before = tempfile.tempdir
    tempfile.tempdir = os.fspath(make_scratch_dir())
    try:
        yield
    finally:
        tempfile.tempdir = before


def make_plain_path(directory: Path) -> str:
    """Return a path to a module for TensorFlow, which takes a name for a pattern and for UTF-8.

    Where the name would mislead it, this is a link without such characters.
    """
    name = os.fspath(directory)
    if name.isascii() and not set(name) & set("*?[]\\"):
        return name
    link = make_scratch_dir() / hashlib.sha256(os.fsencode(os.path.abspath(name))).hexdigest()
    if not link.is_symlink():
        link.symlink_to(os.path.abspath(name))
    return os.fspath(link)
