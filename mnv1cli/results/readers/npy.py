"""NPY read back, with the index beside it."""

from __future__ import annotations

import csv
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import ResultError
from mnv1cli.results.readers.common import IMAGES, encode_path, read_run_metadata
from mnv1cli.results.writers.delimited import list_texts
from mnv1cli.types import Layout, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.types import FloatArray


class NpyResult:
    """A result in NPY: float32 [n, ...], mapped into memory, and `row,path` in X.index.csv."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._index = file.with_suffix(".index.csv")
        try:
            self.values: FloatArray = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ResultError(f"cannot read {file}: {error}") from error
        if self.values.dtype != np.float32 or self.values.ndim < 2:
            raise ResultError(
                f"{file} holds {self.values.dtype} {list(self.values.shape)}, "
                "not a row of float32 per image"
            )
        header = next(self._rows(), [])
        shape, last = self.values.shape[1:], set(header[2:])
        self._layout = Layout(shape, errors="error" in last, warnings="warning" in last)
        self._header = ["row", "path", *list_texts(self._layout)]
        if header != self._header:
            raise ResultError(f"{self._index} is not an index of mnv1")
        self.layout: Layout | None = self._layout
        self.metadata = read_run_metadata(file)

    def paths(self) -> Iterator[bytes]:
        """Yield each image that has a row, in their order."""
        for path, _ in self._entries():
            yield path

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """Yield the rows in tables of `images` images, as a writer takes them."""
        entries = self._entries()
        images = images or IMAGES
        for start in range(0, len(self.values), images):
            values = self._map_rows(start, images)
            chunk = list(itertools.islice(entries, len(values)))
            paths, texts = zip(*chunk, strict=True)
            errors = tuple(cells[-1] if self._layout.errors else "" for cells in texts)
            warnings = tuple(cells[0] for cells in texts if self._layout.warnings)
            yield Table(paths, errors, values, warnings=warnings)
        next(entries, None)

    def _map_rows(self, start: int, images: int) -> FloatArray:
        """Map rows from `start` on, apart from the whole: rows that were read leave the memory."""
        whole = self.values
        if not isinstance(whole, np.memmap) or not whole.flags.c_contiguous:
            return np.asarray(whole[start : start + images])
        shape = (min(images, len(whole) - start), *whole.shape[1:])
        offset = whole.offset + start * whole.strides[0]
        return np.asarray(np.memmap(self._file, whole.dtype, "r", offset, shape))

    def _entries(self) -> Iterator[tuple[bytes, list[str]]]:
        """Yield the path and the last cells of each row, as many as there are rows."""
        count = 0
        for row in itertools.islice(self._rows(), 1, None):
            if row[:1] != [str(count)] or len(row) != len(self._header):
                raise ResultError(f"{self._index} is damaged at row {count}")
            count += 1
            if count <= len(self.values):
                yield encode_path(row[1]), row[2:]
        if count != len(self.values):
            raise ResultError(f"{self._index} has {count:,} rows, not {len(self.values):,}")

    def _rows(self) -> Iterator[list[Any]]:
        try:
            with self._index.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
                yield from csv.reader(stream, strict=True)
        except OSError as error:
            raise ResultError(f"cannot read {self._index}: {error.strerror}") from error
        except csv.Error as error:
            raise ResultError(f"{self._index} is not CSV: {error}") from error
