"""JSON lines: one object per image."""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

from mnv1cli.path_text import make_path_fields
from mnv1cli.results.writers.delimited import FLOAT_FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mnv1cli.results.files import ResultFiles
    from mnv1cli.types import Layout, Table


class JsonLinesWriter:
    """Writes a `{path, predictions}` or `{path, values}` per line, `path_bytes` for lossy paths."""

    def __init__(
        self,
        outputs: ResultFiles,
        layout: Layout,
        state: Mapping[str, Any] | None = None,  # noqa: ARG002 - there is no header
    ) -> None:
        self._stream = outputs.open_main()
        self._layout = layout

    def write(self, table: Table) -> None:
        """Write the results of consecutive images."""
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in self._records(table))
        self._stream.write("".join(lines).encode())

    def state(self) -> Mapping[str, Any]:
        """Return nothing: the file is all that another writer needs."""
        return {}

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Do nothing: every row is in the stream already."""

    def _records(self, table: Table) -> Iterator[dict[str, Any]]:
        results = self._predictions(table) if self._layout.labels else self._values(table)
        key = "predictions" if self._layout.labels else "values"
        image_info = table.image_info or itertools.repeat(None)
        for path, error, warning, result, info in zip(
            table.paths, table.errors, table.get_warnings(), results, image_info, strict=False
        ):
            record = make_path_fields(path)
            record[key] = None if error else result
            if info is not None:
                record |= {name: value or None for name, value in info._asdict().items()}
            if self._layout.warnings:
                record["warning"] = warning or None
            if self._layout.errors:
                record["error"] = error or None
            yield record

    def _predictions(self, table: Table) -> Iterator[list[dict[str, Any]]]:
        for predictions in table.predictions:
            yield [
                {**p._asdict(), "probability": shorten_float32(p.probability)} for p in predictions
            ]

    def _values(self, table: Table) -> Iterator[list[float | None]]:
        assert table.values is not None
        for row in table.values.tolist():
            yield [shorten_float32(value) for value in row]


def shorten_float32(value: float) -> float | None:
    """Shorten a float32 to the digits that it has; JSON has no number for NaN and infinity."""
    return float(FLOAT_FORMAT % value) if math.isfinite(value) else None
