"""Lists of paths: files with one path per line, or with paths that end with NUL."""

from __future__ import annotations

import codecs
import io
import itertools
import os
import select
from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.errors import OptionError
from mnv1cli.inputs.archives import split_member
from mnv1cli.storage.location import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16
_READY_MILLISECONDS = 200


def read_path_groups(file: BinaryIO, name: str, null: bool) -> Iterator[list[bytes]]:
    """Read the paths in a list called `name`, in groups as they arrive.

    With `null` paths end with NUL.

    Raises:
        OptionError: the list has NUL bytes, and `null` is false.
    """
    is_start = True
    for records in _read_records(file, b"\0" if null else b"\n"):
        group: list[bytes] = []
        for record in _strip_mark(iter(records)) if is_start else records:
            if b"\0" in record:
                if group:
                    yield group
                raise OptionError(
                    f"the list {name} has NUL bytes",
                    "add -0 if they end its paths; else it is no list of paths in UTF-8",
                )
            path = record if null else _strip_return(record)
            if path:
                group.append(path)
        is_start = False
        if group:
            yield group


def is_ready(file: BinaryIO) -> bool:
    """Return whether a list can be read on without waiting longer than a moment."""
    try:
        poll = select.poll()
        poll.register(file.fileno(), select.POLLIN)
        return bool(poll.poll(_READY_MILLISECONDS))
    except (AttributeError, OSError, ValueError):
        # Not a file of the system's, or not a system that can tell.
        return isinstance(file, io.BytesIO)


def _read_records(file: BinaryIO, separator: bytes) -> Iterator[list[bytes]]:
    """Yield the non-empty records of a file as they arrive: a slow writer must not delay them."""
    read = getattr(file, "read1", file.read)
    tail = b""
    while chunk := read(_CHUNK):
        *records, tail = (tail + chunk).split(separator)
        if records := list(filter(None, records)):
            yield records
    if tail:
        yield [tail]


def _strip_mark(records: Iterator[bytes]) -> Iterator[bytes]:
    """Remove the byte order mark of a list from Windows, unless a name begins with it."""
    for first in itertools.islice(records, 1):
        bare = first.removeprefix(codecs.BOM_UTF8)
        yield first if os.path.lexists(first) else bare
    yield from records


def _strip_return(path: bytes) -> bytes:
    """Remove the carriage return of a list from Windows, unless it belongs to the name."""
    bare = path.removesuffix(b"\r")
    if bare == path or os.path.lexists(path):
        return path
    if is_remote(bare) or split_member(bare) is not None:
        return bare
    return bare if not bare or os.path.lexists(bare) else path
