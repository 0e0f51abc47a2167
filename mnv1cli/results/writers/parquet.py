"""Parquet, with the metadata in the file's footer.

A Parquet file without its footer is lost, and the footer is written last. So
rows wait in a spool of Arrow record batches beside the result, which can be
cut and taken up again, and become row groups when the last one is there.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from mnv1cli.results.files import reopen_from_start
from mnv1cli.results.writers.arrow import METADATA_KEY, ArrowRows, import_pyarrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mnv1cli.results.files import ResultFiles
    from mnv1cli.types import Layout, Table

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
        outputs: ResultFiles,
        layout: Layout,
        state: Mapping[str, Any] | None = None,  # noqa: ARG002 - the spool knows it all
    ) -> None:
        self._rows = ArrowRows(layout)
        self._arrow = import_pyarrow()
        self._schema = self._rows.schema
        self._stream = outputs.open_main()
        self._spool: Any = outputs.open_spool("rows")
        if self._spool.tell():
            # What was written before ends here.
            self._spool.write(_END_OF_STREAM)
        self._batches: Any = self._arrow.ipc.new_stream(self._spool, self._schema)

    def write(self, table: Table) -> None:
        """Write consecutive images' results."""
        self._batches.write_batch(self._rows.batch(table))

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
        encoded = json.dumps(metadata, ensure_ascii=False).encode("utf-8", "replace")
        with self._arrow.parquet.ParquetWriter(
            self._stream, self._schema, compression="zstd"
        ) as writer:
            for group in self._groups():
                writer.write_table(group)
            writer.add_key_value_metadata({METADATA_KEY: encoded})

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
        with reopen_from_start(self._spool) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(0)
            while file.tell() < end:
                yield from self._arrow.ipc.open_stream(file)
