"""What lies on disk only as long as the process lives."""

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
    """A directory for what cannot be cached; it is removed when the process ends."""
    return Path(_scratch().name)


def remove_scratch() -> None:
    """Remove it at once, for a process that ends without Python's farewells."""
    if _scratch.cache_info().currsize:
        _scratch().cleanup()


def is_permanent(directory: Path) -> bool:
    """Whether a module will still be there when the process has ended."""
    return not _scratch.cache_info().currsize or make_scratch_dir() not in directory.parents


@contextlib.contextmanager
def redirect_temporary_files() -> Iterator[None]:
    """Let what libraries put into the temporary folder go with the process, however it ends."""
    before = tempfile.tempdir
    tempfile.tempdir = os.fspath(make_scratch_dir())
    try:
        yield
    finally:
        tempfile.tempdir = before


def make_plain_path(directory: Path) -> str:
    """A path to a module for TensorFlow, which takes a name for a pattern and for UTF-8.

    Where the name would mislead it, this is a link without such characters.
    """
    name = os.fspath(directory)
    if name.isascii() and not set(name) & set("*?[]\\"):
        return name
    link = make_scratch_dir() / hashlib.sha256(os.fsencode(os.path.abspath(name))).hexdigest()
    if not link.is_symlink():
        link.symlink_to(os.path.abspath(name))
    return os.fspath(link)
