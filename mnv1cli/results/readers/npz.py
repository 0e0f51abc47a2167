"""NPZ read back, as a stream."""

from __future__ import annotations

import contextlib
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from mnv1cli.errors import ResultError
from mnv1cli.results.metadata import RunMetadata
from mnv1cli.results.readers.common import IMAGES, parse_metadata
from mnv1cli.types import Layout, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


class NpzResult:
    """`values`, `paths`, `meta`, and `errors` where they were wanted."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with _told(file), zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            if not {"values.npy", "paths.npy"} <= names:
                raise ResultError(f"{file} holds no values and paths")
            with archive.open("values.npy") as member:
                shape, _, dtype = _header(member)
            if dtype != np.float32 or len(shape) < 2:
                raise ResultError(f"{file} holds {dtype} {list(shape)}, not float32 rows")
            self._errors = "errors.npy" in names
            self.layout: Layout | None = Layout(shape[1:], errors=self._errors)
            self.metadata: RunMetadata | None = None
            if "meta.npy" in names:
                with archive.open("meta.npy") as member:
                    told = npy.read_array(member, allow_pickle=False)
                self.metadata = RunMetadata.from_json(parse_metadata(str(told), file), file)

    def paths(self) -> Iterator[bytes]:
        """Each image that has a row, in their order."""
        for part in self._parts("paths", IMAGES):
            yield from map(_encoded, part.tolist())

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """The rows, in the tables that a writer takes."""
        names = ("values", "paths", *(["errors"] if self._errors else []))
        parts = (self._parts(name, images or IMAGES) for name in names)
        for values, paths, *rest in zip(*parts, strict=True):
            errors = tuple(rest[0].tolist()) if rest else ("",) * len(values)
            if not len(values) == len(paths) == len(errors):
                raise ResultError(f"{self._file} has other numbers of values and of paths")
            yield Table(tuple(map(_encoded, paths.tolist())), errors, values=values)

    def _parts(self, name: str, images: int) -> Iterator[NDArray[Any]]:
        """An array of the archive, so many rows at once."""
        with (
            _told(self._file),
            zipfile.ZipFile(self._file) as archive,
            archive.open(f"{name}.npy") as member,
        ):
            shape, fortran, dtype = _header(member)
            if fortran or dtype.hasobject:
                raise ResultError(f"{self._file} is no result of mnv1")
            row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
            for start in range(0, shape[0], images):
                count = min(images, shape[0] - start)
                data = member.read(count * row)
                if len(data) < count * row:
                    raise ResultError(f"{self._file} ends too early")
                yield np.frombuffer(data, dtype).reshape(count, *shape[1:])


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    """Make one line of what a damaged file raises."""
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ResultError(f"cannot read {file}: {error}") from error


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(member)


def _encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
