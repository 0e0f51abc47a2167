"""Lists of paths: files with one a line, or ended by NUL."""

from __future__ import annotations

import codecs
import itertools
import os
from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.errors import OptionError
from mnv1cli.storage.location import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16


def read_paths(file: BinaryIO, name: str, null: bool) -> Iterator[bytes]:
    """The paths in a list called `name`, as they arrive; ended by NUL with `null`.

    Raises:
        OptionError: there are NUL bytes, and `null` is not said.
    """
    for record in _without_mark(_records(file, b"\0" if null else b"\n")):
        if b"\0" in record:
            raise OptionError(
                f"the list {name} has NUL bytes",
                "add -0 if they end its paths; else it is no list of paths in UTF-8",
            )
        path = record if null else _without_return(record)
        if path:
            yield path


def _records(file: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """The non-empty records of a file as they arrive, so that a slow writer is not waited for."""
    read = getattr(file, "read1", file.read)
    rest = b""
    while chunk := read(_CHUNK):
        *records, rest = (rest + chunk).split(separator)
        yield from filter(None, records)
    if rest:
        yield rest


def _without_mark(records: Iterator[bytes]) -> Iterator[bytes]:
    """The records without the byte order mark of a list from Windows, unless a name begins so."""
    for first in itertools.islice(records, 1):
        bare = first.removeprefix(codecs.BOM_UTF8)
        yield first if os.path.lexists(first) else bare
    yield from records


def _without_return(path: bytes) -> bytes:
    """The path without the carriage return of a list from Windows, unless it is the name's own."""
    bare = path.removesuffix(b"\r")
    if bare == path or os.path.lexists(path):
        return path
    if is_remote(bare):
        return bare
    return bare if not bare or os.path.lexists(bare) else path
