"""NPY as a stream: the rows as they come, and in the end their number in the header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from mnv1cli.path_text import decode_path
from mnv1cli.results.writers.delimited import encode_rows, list_texts, zip_texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mnv1cli.results.files import ResultFiles
    from mnv1cli.types import Layout, Table


class NpyWriter:
    """Writes float32 [n, ...] to the file, and `row,path` to X.index.csv beside it."""

    def __init__(
        self, outputs: ResultFiles, layout: Layout, state: Mapping[str, Any] | None = None
    ) -> None:
        self._stream = outputs.open_main()
        self._index = outputs.open(outputs.sidecars[0])
        self._layout = layout
        self._rows = 0
        if state is not None:
            self._rows, self._header_end = state["rows"], state["header_end"]
            return
        self._header_end = self._write_header()
        self._index.write(encode_rows([["row", "path", *list_texts(layout)]]))

    def write(self, table: Table) -> None:
        """Write the results of consecutive images."""
        assert table.values is not None
        self._stream.write(np.ascontiguousarray(table.values, "<f4").data)
        entries = zip(table.paths, zip_texts(table, self._layout), strict=True)
        self._index.write(
            encode_rows(
                [self._rows + i, decode_path(path), *texts]
                for i, (path, texts) in enumerate(entries)
            )
        )
        self._rows += len(table.paths)

    def state(self) -> Mapping[str, Any]:
        """Return the number of rows so far, which the header does not have yet."""
        return {"rows": self._rows, "header_end": self._header_end}

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Write the number of rows into the header."""
        end = self._stream.tell()
        self._stream.seek(0)
        # numpy pads its header so that the first dimension may grow in place.
        if self._write_header() != self._header_end:
            raise RuntimeError("the NPY header has grown")
        self._stream.seek(end)

    def _write_header(self) -> int:
        shape = (self._rows, *self._layout.shape)
        description = {"descr": "<f4", "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._stream, description)
        return self._stream.tell()
