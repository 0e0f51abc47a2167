"""Parquet, with the metadata in the file's footer.

A Parquet file without its footer is lost, and the footer is written last. So
rows wait in a spool of Arrow record batches beside the result, which can be
cut and taken up again, and become row groups when the last one is there.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import OptionError
from mnv1cli.records import text_path
from mnv1cli.writers.outputs import reread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mnv1cli.records import Facts, Layout, Table
    from mnv1cli.writers.outputs import Outputs

METADATA_KEY = b"mnv1"

# What ends a stream of record batches: one that was cut has none.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

# Rows wait until they make a row group that is worth its overhead.
_GROUP_BYTES = 16 << 20
_GROUP_ROWS = 1 << 16


class ParquetWriter:
    """A row an image, or for labels a row an image and rank.

    `path` is text, with U+FFFD for what is not UTF-8; only then `path_bytes`
    has the bytes.
    """

    def __init__(
        self,
        outputs: Outputs,
        layout: Layout,
        state: Mapping[str, Any] | None = None,  # noqa: ARG002 - the spool knows it all
    ) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise OptionError("parquet needs pyarrow", "pip install 'mnv1cli[parquet]'") from None
        self._arrow: Any = pyarrow
        self._parquet: Any = parquet
        self._layout = layout
        self._schema = self._make_schema()
        self._stream = outputs.stream()
        self._spool: Any = outputs.spool("rows")
        if self._spool.tell():
            # What was written before ends here.
            self._spool.write(_END_OF_STREAM)
        self._batches: Any = self._arrow.ipc.new_stream(self._spool, self._schema)

    def write(self, table: Table) -> None:
        """Write consecutive images' results."""
        columns = self._labels(table) if self._layout.labels else self._values(table)
        self._batches.write_batch(self._arrow.record_batch(columns, schema=self._schema))

    def state(self) -> Mapping[str, Any]:
        """The spool knows all there is to know."""
        return {}

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Make row groups of what waits, and write the footer; nothing where the run was cut."""
        self._batches.close()
        self._spool.flush()
        if metadata is None:
            return
        # Where an earlier attempt failed there is half a file.
        self._stream.seek(0)
        self._stream.truncate()
        told = json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace")
        with self._parquet.ParquetWriter(self._stream, self._schema, compression="zstd") as writer:
            for group in self._groups():
                writer.write_table(group)
            writer.add_key_value_metadata({METADATA_KEY: told})

    def _groups(self) -> Iterator[Any]:
        """The rows that wait, in tables that are worth a row group."""
        waiting: list[Any] = []
        for batch in self._waiting_batches():
            waiting.append(batch)
            size = sum(each.nbytes for each in waiting)
            if size >= _GROUP_BYTES or sum(each.num_rows for each in waiting) >= _GROUP_ROWS:
                yield self._arrow.Table.from_batches(waiting)
                waiting = []
        if waiting:
            yield self._arrow.Table.from_batches(waiting)

    def _waiting_batches(self) -> Iterator[Any]:
        """The record batches of the spool, which has a stream for each time it was taken up."""
        with reread(self._spool) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(0)
            while file.tell() < end:
                yield from self._arrow.ipc.open_stream(file)

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
            # Without a zone, which many a reader needs another library for.
            fields += [("mtime", pa.timestamp("s")), ("exif_datetime", pa.timestamp("s"))]
        if self._layout.errors:
            fields.append(("error", pa.string()))
        return pa.schema(fields)

    def _labels(self, table: Table) -> list[Any]:
        blank: tuple[Any, ...] = (None,) * 5
        rows: list[tuple[Any, ...]] = []
        paths: list[bytes] = []
        errors: list[str] = []
        facts = [_times(each) for each in table.facts] or [()] * len(table.paths)
        if self._layout.meta:
            blank = (None,) * 9
        for path, error, found, told in zip(
            table.paths, table.errors, table.predictions, facts, strict=True
        ):
            kept: Sequence[tuple[Any, ...]] = [blank] if error else [(*p, *told) for p in found]
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


def _times(facts: Facts) -> tuple[Any, ...]:
    """Facts with their times as Arrow takes them."""
    times = (datetime.fromisoformat(t.removesuffix("Z")) if t else None for t in facts[2:])
    return (*facts[:2], *times)
