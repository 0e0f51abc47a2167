"""CSV and TSV read back."""

from __future__ import annotations

import csv
import itertools
import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mnv1cli.errors import ResultError
from mnv1cli.results.readers.common import IMAGES, encode_path, read_run_metadata
from mnv1cli.results.writers.delimited import LABEL_FIELDS, META_FIELDS
from mnv1cli.types import ImageInfo, Layout, Prediction, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_WIDE = re.compile(r"(label|probability)_[0-9]+")


class CsvResult:
    """A result in CSV: a row per image, or for labels a row per image and rank."""

    delimiter: ClassVar[str] = ","

    def __init__(self, file: Path) -> None:
        self._file = file
        self.layout: Layout | None = self._read_layout()
        self.metadata = read_run_metadata(file)

    def paths(self) -> Iterator[bytes]:
        """Yield each image that has a row, in their order."""
        for rows in self._images():
            yield encode_path(rows[0][0])

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """Yield the rows in tables of `images` images, as a writer takes them."""
        remaining = self._images()
        while chunk := list(itertools.islice(remaining, images or IMAGES)):
            yield self._make_table(chunk)

    def _read_layout(self) -> Layout:
        header = next(self._rows(), [])
        columns = header[1:]
        last: dict[str, bool] = {}
        for name in ("error", "warning"):
            last[f"{name}s"] = columns[-1:] == [name]
            columns = columns[: len(columns) - last[f"{name}s"]]
        meta = columns[-len(META_FIELDS) :] == list(META_FIELDS)
        if meta:
            columns = columns[: -len(META_FIELDS)]
        if header[:1] == ["path"]:
            if columns == list(LABEL_FIELDS):
                return Layout((0,), labels=True, meta=meta, **last)
            if columns and all(map(_WIDE.fullmatch, columns)):
                length = len(columns) // 2
                return Layout((length,), labels=True, wide=True, meta=meta, **last)
            if columns and columns == [str(i) for i in range(len(columns))]:
                return Layout((len(columns),), **last)
        raise ResultError(f"{self._file} has other columns than a result of mnv1")

    def _rows(self) -> Iterator[list[str]]:
        try:
            with self._file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
                yield from csv.reader(stream, delimiter=self.delimiter, strict=True)
        except (OSError, csv.Error) as error:
            raise ResultError(f"cannot read {self._file}: {error}") from error

    def _images(self) -> Iterator[list[list[str]]]:
        """Yield the rows of each image."""
        assert self.layout is not None
        by_rank = self.layout.labels and not self.layout.wide
        width: int | None = None
        image: list[list[str]] = []
        for number, row in enumerate(self._rows(), start=1):
            width = len(row) if width is None else width
            if len(row) != width:
                raise ResultError(f"row {number} of {self._file} has {len(row)} cells, not {width}")
            if number == 1:
                continue
            # Ranks count up: the same path once more is another image.
            same = image and row[0] == image[0][0] and 0 < _rank(image[-1]) < _rank(row)
            if image and not (by_rank and same):
                yield image
                image = []
            image.append(row)
        if image:
            yield image

    def _make_table(self, images: list[list[list[str]]]) -> Table:
        layout = self.layout
        assert layout is not None
        paths = tuple(encode_path(rows[0][0]) for rows in images)
        errors = tuple(rows[0][-1] if layout.errors else "" for rows in images)
        warnings = tuple(rows[0][-1 - layout.errors] for rows in images if layout.warnings)
        try:
            if layout.labels:
                predictions = tuple(
                    () if error else self._read_predictions(rows)
                    for rows, error in zip(images, errors, strict=True)
                )
                image_info = (
                    tuple(self._read_info(rows[0]) for rows in images) if layout.meta else ()
                )
                return Table(
                    paths,
                    errors,
                    predictions=predictions,
                    image_info=image_info,
                    warnings=warnings,
                )
            length = layout.shape[0]
            blank = [float("nan")] * length
            cells: list[Any] = [
                blank if error else rows[0][1 : length + 1]
                for rows, error in zip(images, errors, strict=True)
            ]
            values = np.array(cells, np.float64).astype(np.float32)
            return Table(paths, errors, values, warnings=warnings)
        except ValueError as error:
            raise ResultError(f"{self._file} is damaged: {error}") from error

    def _read_info(self, row: list[str]) -> ImageInfo:
        assert self.layout is not None
        end = len(row) - self.layout.errors - self.layout.warnings
        width, height, *times = row[end - len(META_FIELDS) : end]
        return ImageInfo(int(width) if width else None, int(height) if height else None, *times)

    def _read_predictions(self, rows: list[list[str]]) -> tuple[Prediction, ...]:
        assert self.layout is not None
        if not self.layout.wide:
            return tuple(
                Prediction(int(rank), int(class_id), wnid, label, float(probability))
                for _, rank, class_id, wnid, label, probability, *_ in rows
            )
        cells = rows[0][1 : 1 + 2 * self.layout.shape[0]]
        pairs = enumerate(zip(cells[::2], cells[1::2], strict=True), start=1)
        return tuple(
            Prediction(rank, -1, "", label, float(probability))
            for rank, (label, probability) in pairs
            if probability
        )


class TsvResult(CsvResult):
    """The same with tabs in place of commas."""

    delimiter = "\t"


def _rank(row: list[str]) -> int:
    """Return the rank of a row of labels, 0 where it has none, as of an image that failed."""
    return int(row[1]) if row[1].isdecimal() else 0
