"""Parquet as a stream of row groups, with the metadata in the file's footer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import OptionError
from mnv1cli.records import text_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.records import Layout, Table
    from mnv1cli.writers.outputs import Outputs

METADATA_KEY = b"mnv1"

# Rows wait until they make a row group that is worth its overhead.
_GROUP_BYTES = 16 << 20
_GROUP_ROWS = 1 << 16


class ParquetWriter:
    """A row an image, or for labels a row an image and rank.

    `path` is text, with U+FFFD for what is not UTF-8; only then `path_bytes`
    has the bytes.
    """

    def __init__(self, outputs: Outputs, layout: Layout) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise OptionError("parquet needs pyarrow", "pip install 'mnv1cli[parquet]'") from None
        self._arrow: Any = pyarrow
        self._layout = layout
        self._schema = self._make_schema()
        self._writer: Any = parquet.ParquetWriter(
            outputs.stream(), self._schema, compression="zstd"
        )
        self._waiting: list[Any] = []
        self._bytes = self._rows = 0

    def write(self, table: Table) -> None:
        """Write consecutive images' results."""
        columns = self._labels(table) if self._layout.labels else self._values(table)
        batch = self._arrow.record_batch(columns, schema=self._schema)
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        self._rows += batch.num_rows
        if self._bytes >= _GROUP_BYTES or self._rows >= _GROUP_ROWS:
            self._flush()

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the last row group and the footer."""
        self._flush()
        if metadata is not None:
            told = json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace")
            self._writer.add_key_value_metadata({METADATA_KEY: told})
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(self._arrow.Table.from_batches(self._waiting))
        self._waiting = []
        self._bytes = self._rows = 0

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
        if self._layout.errors:
            fields.append(("error", pa.string()))
        return pa.schema(fields)

    def _labels(self, table: Table) -> list[Any]:
        blank = (None,) * 5
        rows: list[tuple[Any, ...]] = []
        paths: list[bytes] = []
        errors: list[str] = []
        for path, error, found in zip(table.paths, table.errors, table.predictions, strict=True):
            kept: Sequence[tuple[Any, ...]] = [blank] if error else found
            rows += kept
            paths += [path] * len(kept)
            errors += [error] * len(kept)
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(blank)
        return self._complete(paths, columns, errors)

    def _values(self, table: Table) -> list[Any]:
        assert table.values is not None
        pa = self._arrow
        flat = pa.array(np.ascontiguousarray(table.values, np.float32).reshape(-1))
        failed = np.array([bool(error) for error in table.errors], bool)
        values = pa.FixedSizeListArray.from_arrays(
            flat, self._layout.shape[0], mask=pa.array(failed) if failed.any() else None
        )
        return self._complete(table.paths, [values], table.errors)

    def _complete(
        self, paths: Sequence[bytes], columns: Sequence[Any], errors: Sequence[str]
    ) -> list[Any]:
        """The columns with the paths before and the errors behind them, as the schema has them."""
        texts = [text_path(path) for path in paths]
        names = [text for text, _ in texts]
        raw = [path if lossy else None for path, (_, lossy) in zip(paths, texts, strict=True)]
        every = [names, raw, *columns, *([errors] if self._layout.errors else [])]
        return [
            column
            if isinstance(column, self._arrow.Array)
            else self._arrow.array(column, field.type)
            for column, field in zip(every, self._schema, strict=True)
        ]
