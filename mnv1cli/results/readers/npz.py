"""NPZ read back, as a stream."""

from __future__ import annotations

import contextlib
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from mnv1cli.errors import ResultError
from mnv1cli.results.readers.common import IMAGES, encode_path, parse_run_metadata
from mnv1cli.types import Layout, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


class NpzResult:
    """A result in NPZ: `values`, `paths`, `meta`, `warnings` and `errors` where it has them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with _reporting_damage(file), zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
            if not {"values.npy", "paths.npy"} <= names:
                raise ResultError(f"{file} holds no values and paths")
            with archive.open("values.npy") as member:
                shape, _, dtype = _read_header(member)
            if dtype != np.float32 or len(shape) < 2:
                raise ResultError(f"{file} holds {dtype} {list(shape)}, not float32 rows")
            self._texts = [name for name in ("errors", "warnings") if f"{name}.npy" in names]
            texts = dict.fromkeys(self._texts, True)
            self.layout: Layout | None = Layout(shape[1:], **texts)
            self.metadata = None
            if "meta.npy" in names:
                with archive.open("meta.npy") as member:
                    text = str(npy.read_array(member, allow_pickle=False))
                self.metadata = parse_run_metadata(text, file)

    def paths(self) -> Iterator[bytes]:
        """Yield each image that has a row, in their order."""
        for part in self._parts("paths", IMAGES):
            yield from map(encode_path, part.tolist())

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """Yield the rows in tables of `images` images, as a writer takes them."""
        names = ("values", "paths", *self._texts)
        parts = (self._parts(name, images or IMAGES) for name in names)
        for arrays in zip(*parts, strict=True):
            if len({len(array) for array in arrays}) > 1:
                raise ResultError(f"{self._file} has different numbers of values and of paths")
            values, paths, *texts = arrays
            columns = {
                name: tuple(text.tolist()) for name, text in zip(self._texts, texts, strict=True)
            }
            columns.setdefault("errors", ("",) * len(values))
            yield Table(tuple(map(encode_path, paths.tolist())), values=values, **columns)

    def _parts(self, name: str, images: int) -> Iterator[NDArray[Any]]:
        """Yield an array of the archive in pieces of `images` rows."""
        with (
            _reporting_damage(self._file),
            zipfile.ZipFile(self._file) as archive,
            archive.open(f"{name}.npy") as member,
        ):
            shape, fortran, dtype = _read_header(member)
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
def _reporting_damage(file: Path) -> Iterator[None]:
    """Raise `ResultError` where a file is damaged or cannot be read."""
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ResultError(f"cannot read {file}: {error}") from error


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(member)
