"""JSON lines read back."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import ResultError
from mnv1cli.path_text import parse_path
from mnv1cli.results.readers.common import IMAGES, read_run_metadata
from mnv1cli.types import ImageInfo, Layout, Prediction, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class JsonLinesResult:
    """A result in JSON lines: an object per image."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._length = 0
        self.layout: Layout | None = self._read_layout()
        self.metadata = read_run_metadata(file)

    def paths(self) -> Iterator[bytes]:
        """Yield each image that has a row, in their order."""
        for record in self._records():
            yield parse_path(record)

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """Yield the rows in tables of `images` images, as a writer takes them."""
        records = self._records()
        while chunk := list(itertools.islice(records, images or IMAGES)):
            try:
                yield self._make_table(chunk)
            except (KeyError, TypeError, ValueError) as error:
                raise ResultError(f"{self._file} is damaged: {error}") from error

    def _read_layout(self) -> Layout | None:
        # The first image that did not fail has the length.
        first = None
        for record in self._records():
            first = first or record
            if record.get("values") or record.get("predictions") is not None:
                break
        else:
            if first is None:
                return None
            record = first
        last = {"errors": "error" in first, "warnings": "warning" in first}
        if "predictions" in record:
            return Layout((0,), labels=True, meta="width" in first, **last)
        self._length = len(record.get("values") or ())
        return Layout((self._length,), **last)

    def _records(self) -> Iterator[dict[str, Any]]:
        try:
            with self._file.open("rb") as stream:
                for number, line in enumerate(stream, start=1):
                    record = json.loads(line)
                    if not isinstance(record, dict) or not isinstance(record.get("path"), str):
                        raise ResultError(f"line {number} of {self._file} is not about an image")
                    yield record
        except OSError as error:
            raise ResultError(f"cannot read {self._file}: {error.strerror}") from error
        except ValueError as error:
            raise ResultError(f"line {number} of {self._file} is not JSON: {error}") from error

    def _make_table(self, records: list[dict[str, Any]]) -> Table:
        paths = tuple(map(parse_path, records))
        errors = tuple(record.get("error") or "" for record in records)
        assert self.layout is not None
        warnings = tuple(r.get("warning") or "" for r in records if self.layout.warnings)
        if self.layout.labels:
            predictions = tuple(
                tuple(Prediction(**fields) for fields in record["predictions"] or ())
                for record in records
            )
            image_info = tuple(map(_read_info, records)) if self.layout.meta else ()
            return Table(
                paths, errors, predictions=predictions, image_info=image_info, warnings=warnings
            )
        blank = [None] * self._length
        # A value that JSON has no number for is null there, and NaN here.
        values = np.array([record["values"] or blank for record in records], np.float64)
        return Table(paths, errors, values.astype(np.float32), warnings=warnings)


def _read_info(record: Mapping[str, Any]) -> ImageInfo:
    times = (record["mtime"] or "", record["exif_datetime"] or "")
    return ImageInfo(record["width"], record["height"], *times)
