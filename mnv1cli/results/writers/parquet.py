"""Parquet, with the metadata in the file's footer.

A Parquet file without its footer is lost, and the footer is written last. So
rows wait in a spool of Arrow record batches beside the result, which can be
cut and continued, and become row groups after the last one.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, BinaryIO

from mnv1cli.results.files import read_from_start
from mnv1cli.results.writers.arrow import METADATA_KEY, ArrowRows, import_pyarrow, join_tables
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mnv1cli.results.files import ResultFiles
    from mnv1cli.types import Layout, Table

# The end of a stream of record batches, which one that was cut does not have.
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

# A record batch costs as much as the rows of several images: tables are joined to larger ones.
_BATCH_IMAGES, _BATCH_BYTES = 256, 1 << 20

# A row group of this size is worth its overhead.
_GROUP_BYTES = 16 << 20
_GROUP_ROWS = 1 << 16


class ParquetWriter:
    """Writes a row per image, or for labels a row per image and rank, as `ArrowRows` makes them."""

    def __init__(
        self,
        outputs: ResultFiles,
        layout: Layout,
        state: Mapping[str, Any] | None = None,  # noqa: ARG002 - the spool has all of it
    ) -> None:
        self._rows = ArrowRows(layout)
        self._arrow = import_pyarrow()
        self._schema = self._rows.schema
        self._stream = outputs.open_main()
        self._spool: Any = outputs.open_spool("rows")
        if self._spool.tell():
            # End the stream that was written before.
            self._spool.write(_END_OF_STREAM)
        self._tables: list[Table] = []
        self._images = 0
        self._batches: Any = self._arrow.ipc.new_stream(self._spool, self._schema)

    def write(self, table: Table) -> None:
        """Write the results of consecutive images."""
        if table.paths:
            self._tables.append(table)
            self._images += len(table.paths)
        is_large = table.values is not None and table.values.nbytes >= _BATCH_BYTES
        if is_large or self._images >= _BATCH_IMAGES:
            self._write_batch()

    def state(self) -> Mapping[str, Any]:
        """Return nothing: the spool has all that another writer needs."""
        self._write_batch()
        return {}

    def _write_batch(self) -> None:
        if self._tables:
            self._batches.write_batch(self._rows.batch(join_tables(self._tables)))
            self._tables, self._images = [], 0

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the waiting rows and the footer; nothing where the run was stopped."""
        self._write_batch()
        self._batches.close()
        self._spool.flush()
        if metadata is None:
            return
        # An earlier attempt that failed has left half a file.
        self._stream.seek(0)
        self._stream.truncate()
        encoded = json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace")
        with (
            read_from_start(self._spool) as spool,
            self._arrow.parquet.ParquetWriter(
                self._stream, self._schema, compression="zstd"
            ) as writer,
        ):
            for group in self._make_groups(spool):
                writer.write_table(group)
            writer.add_key_value_metadata({METADATA_KEY: encoded})

    def _make_groups(self, spool: BinaryIO) -> Iterator[Any]:
        """Yield the waiting rows in tables that are worth a row group."""
        waiting: list[Any] = []
        size = rows = 0
        for batch in self._read_batches(spool):
            waiting.append(batch)
            size += batch.nbytes
            rows += batch.num_rows
            if size >= _GROUP_BYTES or rows >= _GROUP_ROWS:
                yield self._arrow.Table.from_batches(waiting)
                waiting = []
                size = rows = 0
                # The waiting rows are on disk: another run can begin the file anew.
                signals.raise_waiting_stop()
        if waiting:
            yield self._arrow.Table.from_batches(waiting)

    def _read_batches(self, spool: BinaryIO) -> Iterator[Any]:
        """Yield the record batches of the spool, which has a stream for each run that wrote it."""
        end = spool.seek(0, os.SEEK_END)
        spool.seek(0)
        while spool.tell() < end:
            # A run that was stopped after it had closed its stream has ended it more than once.
            if spool.read(len(_END_OF_STREAM)) != _END_OF_STREAM:
                spool.seek(-len(_END_OF_STREAM), os.SEEK_CUR)
                yield from self._arrow.ipc.open_stream(spool)
