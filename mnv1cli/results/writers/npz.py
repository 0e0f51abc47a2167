"""NPZ as a stream: values, paths and metadata in one file."""

from __future__ import annotations

import json
import zipfile
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from mnv1cli.path_text import decode_path
from mnv1cli.results.files import read_from_start
from mnv1cli.results.writers.delimited import list_texts, zip_texts
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.results.files import ResultFiles
    from mnv1cli.types import Layout, Table

_CHUNK = 1 << 20
# The byte that no path has.
_END = b"\0"


class _Strings:
    """Strings on disk, until their number and the longest of them are known."""

    def __init__(self, file: BinaryIO, state: Sequence[int] = (0, 1)) -> None:
        self._file = file
        self._count, self._longest = state

    @property
    def state(self) -> Sequence[int]:
        """The number of strings, and the length of the longest in characters."""
        return (self._count, self._longest)

    def add(self, value: bytes) -> None:
        self._file.write(value + _END)
        self._count += 1
        self._longest = max(self._longest, len(decode_path(value)))

    def write_to(self, member: IO[bytes]) -> None:
        """Write an array of fixed-width text; bytes that are not UTF-8 become lone surrogates."""
        _write_header(member, f"<U{self._longest}", (self._count,))
        width = 4 * self._longest
        unfinished = b""
        with read_from_start(self._file) as file:
            while chunk := file.read(_CHUNK):
                signals.raise_waiting_stop()
                *values, unfinished = (unfinished + chunk).split(_END)
                cells = (
                    decode_path(value).encode("utf-32-le", "surrogatepass") for value in values
                )
                member.write(b"".join(cell.ljust(width, _END) for cell in cells))


class NpzWriter:
    """Writes `values` float32 [n, ...], `paths`, `meta` as JSON, `warnings` and `errors`.

    The last two are there where they are wanted.

    A zip file cannot be extended in the middle: rows and paths wait in files
    beside the result, and are copied into it after the last one.
    """

    def __init__(
        self, outputs: ResultFiles, layout: Layout, state: Mapping[str, Any] | None = None
    ) -> None:
        self._stream = outputs.open_main()
        self._layout = layout
        state = state or {}
        self._values = outputs.open_spool("values")
        self._paths = _Strings(outputs.open_spool("paths"), state.get("paths", (0, 1)))
        self._texts = {
            name: _Strings(outputs.open_spool(name), state.get(name, (0, 1)))
            for name in (f"{column}s" for column in list_texts(layout))
        }
        self._rows = state.get("rows", 0)

    def state(self) -> Mapping[str, Any]:
        """Return the number of rows so far, and the sizes of their strings."""
        states = {name: strings.state for name, strings in self._texts.items()}
        return {"rows": self._rows, "paths": self._paths.state, **states}

    def write(self, table: Table) -> None:
        """Write the results of consecutive images."""
        assert table.values is not None
        self._values.write(np.ascontiguousarray(table.values, "<f4").data)
        for path, texts in zip(table.paths, zip_texts(table, self._layout), strict=True):
            self._paths.add(path)
            for strings, text in zip(self._texts.values(), texts, strict=True):
                strings.add(text.encode("utf-8", "surrogateescape"))
        self._rows += len(table.paths)

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the members of the archive; nothing where the run was stopped."""
        if metadata is None:
            return
        # An earlier attempt that failed has left half an archive.
        self._stream.seek(0)
        self._stream.truncate()
        with zipfile.ZipFile(self._stream, "w", zipfile.ZIP_STORED) as archive:
            with _member(archive, "values") as member:
                _write_header(member, "<f4", (self._rows, *self._layout.shape))
                with read_from_start(self._values) as values:
                    while chunk := values.read(_CHUNK):
                        # What waits is on disk: another run can begin the archive anew.
                        signals.raise_waiting_stop()
                        member.write(chunk)
            for name, strings in {"paths": self._paths, **self._texts}.items():
                with _member(archive, name) as member:
                    strings.write_to(member)
            with _member(archive, "meta") as member:
                encoded = json.dumps(metadata or {}, ensure_ascii=False)
                npy.write_array(member, np.array(encoded), allow_pickle=False)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    # A ZipInfo of our own has no time in it: equal results are equal files.
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


def _write_header(member: IO[bytes], descr: str, shape: tuple[int, ...]) -> None:
    description = {"descr": descr, "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(member, description)
