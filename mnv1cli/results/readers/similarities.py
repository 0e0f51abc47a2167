"""What `similar` wrote, read back: rows of named columns."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OptionError, ResultError
from mnv1cli.path_text import path_of
from mnv1cli.results.readers.common import IMAGES, as_metadata, metadata_beside
from mnv1cli.results.writers.arrow import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    Row = tuple[bytes | int, int, bytes, float]

MATCHES = ("query", "rank", "path", "similarity")
GROUPS = ("group", "path", "similarity")
_START_BYTES = 64
_DAMAGE = (csv.Error, AttributeError, KeyError, TypeError, ValueError)


class SimilarRows:
    """Each match as (query, rank, path, similarity), each member as (group, 0, path, similarity).

    `grouped` says which; `metadata` is that of the search, None where there is none.
    """

    def __init__(self, file: Path, kind: str, grouped: bool) -> None:
        self.grouped = grouped
        self.file = file
        self._kind = kind
        self._columns = GROUPS if grouped else MATCHES
        self.metadata: Mapping[str, Any] | None
        self.metadata = _parquet_metadata(file) if kind == "parquet" else metadata_beside(file)

    def rows(self) -> Iterator[Row]:
        """The rows, in their order.

        Raises:
            ResultError: one of them is damaged.
        """
        read = {"jsonl": self._of_json, "parquet": self._of_parquet}.get(self._kind, self._of_text)
        number = 0
        try:
            for row in read():
                number += 1
                yield row
        except (*_DAMAGE, OSError) as error:
            raise ResultError(f"{self.file} is damaged after row {number}: {error}") from error

    def _of_text(self) -> Iterator[Row]:
        delimiter = "\t" if self._kind == "tsv" else ","
        with self.file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            for row in csv.DictReader(stream, delimiter=delimiter, strict=True):
                path = row["path"].encode("utf-8", "surrogateescape")
                first = row[self._columns[0]]
                key = int(first) if self.grouped else first.encode("utf-8", "surrogateescape")
                rank = 0 if self.grouped else int(row["rank"])
                yield key, rank, path, float(row["similarity"])

    def _of_json(self) -> Iterator[Row]:
        with self.file.open("rb") as stream:
            for line in stream:
                yield self._of_record(json.loads(line))

    def _of_parquet(self) -> Iterator[Row]:
        for batch in _parquet(self.file).iter_batches(IMAGES):
            for record in batch.to_pylist():
                # Bytes there, base64 in JSON.
                raw = {k: v for k, v in record.items() if k.endswith("_bytes") and v is not None}
                for name, value in raw.items():
                    record[name.removesuffix("_bytes")] = value
                yield self._of_record({k: v for k, v in record.items() if k not in raw})

    def _of_record(self, record: Mapping[str, Any]) -> Row:
        path, similarity = _bytes(record, "path"), float(record["similarity"])
        if self.grouped:
            return int(record["group"]), 0, path, similarity
        return _bytes(record, "query"), int(record["rank"]), path, similarity


def open_rows(file: Path) -> SimilarRows | None:
    """The rows of a file that `similar` wrote; None for any other, which may not be there."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_START_BYTES)
    except OSError:
        return None
    if start.startswith(b"PAR1"):
        names = set(_parquet(file).schema_arrow.names)
        found = [columns for columns in (MATCHES, GROUPS) if set(columns) <= names]
        return SimilarRows(file, "parquet", found[0] is GROUPS) if found else None
    for columns in (MATCHES, GROUPS):
        for kind, mark in (
            ("csv", ",".join(columns)),
            ("tsv", "\t".join(columns)),
            ("jsonl", f'{{"{columns[0]}":'),
        ):
            if start.startswith(mark.encode()):
                return SimilarRows(file, kind, columns is GROUPS)
    return None


def _bytes(record: Mapping[str, Any], name: str) -> bytes:
    value = record[name]
    if isinstance(value, bytes):
        return value
    return path_of({"path": value, "path_bytes": record.get(f"{name}_bytes")})


def _parquet(file: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise OptionError("parquet needs pyarrow", "pip install 'mnv1cli[parquet]'") from None
    try:
        return parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise ResultError(f"cannot read {file}: {error}") from error


def _parquet_metadata(file: Path) -> Mapping[str, Any] | None:
    told = (_parquet(file).metadata.metadata or {}).get(METADATA_KEY)
    return as_metadata(told.decode(), file) if told else None


def by_entry(rows: Iterable[Row]) -> Iterator[tuple[bytes | int, list[tuple[bytes, float]]]]:
    """Each query with its matches, or each group with its members."""
    last: tuple[bytes | int, int] | None = None
    found: list[tuple[bytes, float]] = []
    for key, rank, path, similarity in rows:
        # Ranks count up: the same query once more is another entry.
        if last is not None and (key != last[0] or 0 < rank <= last[1]):
            yield last[0], found
            found = []
        found.append((path, similarity))
        last = key, rank
    if last is not None:
        yield last[0], found
