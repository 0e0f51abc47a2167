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
def _create_scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mnv1-")


def make_scratch_dir() -> Path:
    """Make a directory for files that cannot be cached; it is removed when the process ends."""
    return Path(_create_scratch().name)


def remove_scratch() -> None:
    """Remove the scratch directory now, in a process that ends without Python's clean-up."""
    if _create_scratch.cache_info().currsize:
        _create_scratch().cleanup()


def is_permanent(directory: Path) -> bool:
    """Return whether a module will still exist after the process has ended."""
    return not _create_scratch.cache_info().currsize or make_scratch_dir() not in directory.parents


@contextlib.contextmanager
def redirect_temporary_files() -> Iterator[None]:
    """Put temporary files of libraries into the scratch directory, which the process removes."""
    before = tempfile.tempdir
    tempfile.tempdir = os.fspath(make_scratch_dir())
    try:
        yield
    finally:
        tempfile.tempdir = before


def make_plain_path(directory: Path) -> str:
    """Return a path to a module that TensorFlow reads literally.

    TensorFlow reads names as patterns in UTF-8. A name that it would misread is replaced by
    a link without such characters.
    """
    name = os.fspath(directory)
    if name.isascii() and not set(name) & set("*?[]\\"):
        return name
    link = make_scratch_dir() / hashlib.sha256(os.fsencode(os.path.abspath(name))).hexdigest()
    if not link.is_symlink():
        link.symlink_to(os.path.abspath(name))
    return os.fspath(link)
