"""Results as columns of Arrow, for Parquet files."""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import OptionError
from mnv1cli.path_text import decode_lossy
from mnv1cli.results.writers.delimited import list_texts, zip_texts
from mnv1cli.types import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnv1cli.types import ImageInfo, Layout

# The key of a run's metadata, as JSON, among those of a schema or a file.
METADATA_KEY = b"mnv1"
# rank, class_id, wnid, label, probability
_LABEL_CELLS = 5


def import_pyarrow(store_extra: str = "") -> Any:
    """Import pyarrow with its module for Parquet; `store_extra` is what a store needs beside it.

    Raises:
        OptionError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        extras = ",".join(filter(None, ("parquet", store_extra)))
        raise OptionError("parquet needs pyarrow", f"pip install 'mnv1cli[{extras}]'") from None
    return pyarrow


def join_tables(tables: Sequence[Table]) -> Table:
    """Join the results of consecutive images to one table."""
    if len(tables) == 1:
        return tables[0]
    values = [table.values for table in tables if table.values is not None]
    with_warnings = any(table.warnings for table in tables)
    return Table(
        tuple(chain.from_iterable(table.paths for table in tables)),
        tuple(chain.from_iterable(table.errors for table in tables)),
        np.concatenate(values) if values else None,
        tuple(chain.from_iterable(table.predictions for table in tables)),
        tuple(chain.from_iterable(table.image_info for table in tables)),
        tuple(chain.from_iterable(t.get_warnings() for t in tables)) if with_warnings else (),
    )


class ArrowRows:
    """Makes record batches of tables: a row per image, or for labels a row per image and rank.

    `path` is text, with U+FFFD for bytes that are not UTF-8; only then `path_bytes`
    has the bytes.

    Raises:
        OptionError: pyarrow is not installed.
    """

    def __init__(self, layout: Layout) -> None:
        self._arrow = import_pyarrow()
        self._layout = layout
        self.schema: Any = self._make_schema()

    def batch(self, table: Table) -> Any:
        """Make a record batch of the results of consecutive images."""
        columns = self._label_columns(table) if self._layout.labels else self._value_columns(table)
        return self._arrow.record_batch(columns, schema=self.schema)

    def _make_schema(self) -> Any:
        pa = self._arrow
        fields = [("path", pa.string()), ("path_bytes", pa.binary())]
        if self._layout.labels:
            fields += [
                ("rank", pa.int32()),
                ("class_id", pa.int32()),
                ("wnid", pa.string()),
                ("label", pa.string()),
                ("probability", pa.float32()),
            ]
        else:
            fields.append(("values", pa.list_(pa.float32(), self._layout.shape[0])))
        if self._layout.meta:
            fields += [("width", pa.int32()), ("height", pa.int32())]
            # Without a time zone, for which some readers need another library.
            fields += [("mtime", pa.timestamp("s")), ("exif_datetime", pa.timestamp("s"))]
        fields += [(name, pa.string()) for name in list_texts(self._layout)]
        return pa.schema(fields)

    def _label_columns(self, table: Table) -> list[Any]:
        blank: tuple[Any, ...] = (None,) * _LABEL_CELLS
        rows: list[tuple[Any, ...]] = []
        paths: list[bytes] = []
        texts: list[tuple[str, ...]] = []
        image_info = [_with_times(info) for info in table.image_info] or [()] * len(table.paths)
        if self._layout.meta:
            blank = (None,) * (_LABEL_CELLS + 4)
        for path, error, predictions, info, own_texts in zip(
            table.paths,
            table.errors,
            table.predictions,
            image_info,
            zip_texts(table, self._layout),
            strict=True,
        ):
            kept: Sequence[tuple[Any, ...]] = (
                [blank] if error else [(*prediction, *info) for prediction in predictions]
            )
            if self._layout.every and not kept:
                kept = [(*blank[:_LABEL_CELLS], *info)]
            rows += kept
            paths += [path] * len(kept)
            texts += [own_texts] * len(kept)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(blank)
        return self._complete(paths, columns, texts)

    def _value_columns(self, table: Table) -> list[Any]:
        assert table.values is not None
        pa = self._arrow
        flat = pa.array(np.ascontiguousarray(table.values, np.float32).reshape(-1))
        failed = np.array([bool(error) for error in table.errors], bool)
        values = pa.FixedSizeListArray.from_arrays(
            flat, self._layout.shape[0], mask=pa.array(failed) if failed.any() else None
        )
        return self._complete(table.paths, [values], list(zip_texts(table, self._layout)))

    def _complete(
        self, paths: Sequence[bytes], columns: Sequence[Any], texts: Sequence[tuple[str, ...]]
    ) -> list[Any]:
        """Add the columns of paths and texts, in the order and the types of the schema."""
        decoded = [decode_lossy(path) for path in paths]
        names = [name for name, _ in decoded]
        raw = [path if lossy else None for path, (_, lossy) in zip(paths, decoded, strict=True)]
        last = zip(*texts, strict=True) if texts else [()] * len(list_texts(self._layout))
        all_columns = [names, raw, *columns, *last]
        return [
            column
            if isinstance(column, self._arrow.Array)
            else self._arrow.array(column, field.type)
            for column, field in zip(all_columns, self.schema, strict=True)
        ]


def _with_times(info: ImageInfo) -> tuple[Any, ...]:
    """Return image info with its times as Arrow takes them."""
    times = (datetime.fromisoformat(t.removesuffix("Z")) if t else None for t in info[2:])
    return (*info[:2], *times)
