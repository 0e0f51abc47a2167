"""CSV and TSV: a header, then a row per image, or for labels a row per image and rank."""

from __future__ import annotations

import csv
import io
import itertools
from typing import TYPE_CHECKING, Any, ClassVar

from mnv1cli.path_text import decode_path
from mnv1cli.types import ImageInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mnv1cli.results.files import ResultFiles
    from mnv1cli.types import Layout, Table

LABEL_FIELDS = ("rank", "class_id", "wnid", "label", "probability")
META_FIELDS = ImageInfo._fields

# Nine significant digits distinguish any two values of float32.
FLOAT_FORMAT = "%.9g"


class CsvWriter:
    """Comma-separated values as in RFC 4180, with bare line feeds and raw bytes in paths."""

    delimiter: ClassVar[str] = ","

    def __init__(
        self, outputs: ResultFiles, layout: Layout, state: Mapping[str, Any] | None = None
    ) -> None:
        self._stream = outputs.open_main()
        self._layout = layout
        if state is None:
            self._write_rows([self._header()])

    def write(self, table: Table) -> None:
        """Write the results of consecutive images."""
        self._write_rows(self._rows(table))

    def state(self) -> Mapping[str, Any]:
        """Return nothing: the file is all that another writer needs."""
        return {}

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Do nothing: every row is in the stream already."""

    def _write_rows(self, rows: Iterable[Iterable[str]]) -> None:
        self._stream.write(encode_rows(rows, self.delimiter))

    def _header(self) -> list[str]:
        if not self._layout.labels:
            columns = [str(i) for i in range(self._layout.shape[0])]
        elif self._layout.wide:
            ranks = range(1, self._layout.shape[0] + 1)
            columns = [f"{name}_{k}" for k in ranks for name in ("label", "probability")]
        else:
            columns = list(LABEL_FIELDS)
        meta = META_FIELDS if self._layout.meta else ()
        return ["path", *columns, *meta, *list_texts(self._layout)]

    def _rows(self, table: Table) -> Iterator[list[str]]:
        values = self._label_cells(table) if self._layout.labels else self._value_cells(table)
        image_info = table.image_info or itertools.repeat(())
        for path, cells, info, texts in zip(
            table.paths, values, image_info, zip_texts(table, self._layout), strict=False
        ):
            last = ["" if value is None else str(value) for value in info]
            for row in cells:
                yield [decode_path(path), *row, *last, *texts]

    def _label_cells(self, table: Table) -> Iterator[list[list[str]]]:
        """Yield the rows of each image, without path and error."""
        for error, predictions in zip(table.errors, table.predictions, strict=True):
            if self._layout.wide:
                cells = [c for p in predictions for c in (p.label, FLOAT_FORMAT % p.probability)]
                yield [cells + [""] * (2 * self._layout.shape[0] - len(cells))]
            elif error:
                yield [[""] * len(LABEL_FIELDS)]
            else:
                yield [
                    [str(rank), str(class_id), wnid, label, FLOAT_FORMAT % probability]
                    for rank, class_id, wnid, label, probability in predictions
                ]

    def _value_cells(self, table: Table) -> Iterator[list[list[str]]]:
        assert table.values is not None
        blank = [""] * self._layout.shape[0]
        for error, row in zip(table.errors, table.values.tolist(), strict=True):
            yield [blank if error else [FLOAT_FORMAT % value for value in row]]


class TsvWriter(CsvWriter):
    """Tab-separated values, quoted where a value holds a tab, a quote or a line end."""

    delimiter = "\t"


def list_texts(layout: Layout) -> list[str]:
    """Return the names of the last columns, which hold what is wrong with an image."""
    return ["warning"] * layout.warnings + ["error"] * layout.errors


def zip_texts(table: Table, layout: Layout) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each image in the columns of `list_texts`."""
    columns = [table.get_warnings()] * layout.warnings + [table.errors] * layout.errors
    return zip(*columns, strict=True) if columns else iter([()] * len(table.paths))


def encode_rows(rows: Iterable[Iterable[Any]], delimiter: str = ",") -> bytes:
    """Encode rows of text as delimited bytes."""
    buffer = io.StringIO()
    # With the terminator \r\n every version of Python quotes values with either of them.
    writer = csv.writer(_LineFeeds(buffer), delimiter=delimiter, lineterminator="\r\n")
    writer.writerows(rows)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


class _LineFeeds:
    """Takes the rows of a csv writer, one per call, and ends them with a bare line feed."""

    def __init__(self, buffer: io.StringIO) -> None:
        self._buffer = buffer

    def write(self, row: str) -> int:
        return self._buffer.write(row.removesuffix("\r\n") + "\n")
