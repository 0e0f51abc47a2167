"""Results of `similar`, read back: queries with their matches, or groups with their members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnv1cli.results.readers.common import parse_metadata, read_metadata_beside
from mnv1cli.results.rows import open_parquet, read_rows
from mnv1cli.results.writers.arrow import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    # The query or the number of the group, the rank or 0, path, and similarity.
    Row = tuple[bytes | int, int, bytes, float]

MATCHES: Mapping[str, type] = {"query": bytes, "rank": int, "path": bytes, "similarity": float}
GROUPS: Mapping[str, type] = {"group": int, "path": bytes, "similarity": float}
_START_BYTES = 64


class SimilarityRows:
    """Each match as (query, rank, path, similarity), each member as (group, 0, path, similarity).

    Attributes:
        grouped: whether these are members of groups.
        metadata: those of the search, None where there are none.
    """

    def __init__(self, file: Path, form: str, columns: Mapping[str, type]) -> None:
        self.file = file
        self.grouped = columns is GROUPS
        self._form = form
        self._columns = columns
        self.metadata: Mapping[str, Any] | None
        self.metadata = _parquet_metadata(file) if form == "parquet" else read_metadata_beside(file)

    def rows(self) -> Iterator[Row]:
        """Yield the rows, in their order.

        Raises:
            ResultError: one of them is damaged.
        """
        for row in read_rows(self.file, self._form, self._columns):
            if self.grouped:
                group, path, similarity = row
                yield group, 0, path, similarity
            else:
                query, rank, path, similarity = row
                yield query, rank, path, similarity


def open_similarities(file: Path) -> SimilarityRows | None:
    """Open a file that `similar` wrote; None for any other, which need not exist."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_START_BYTES)
    except OSError:
        return None
    if start.startswith(b"PAR1"):
        names = set(open_parquet(file).schema_arrow.names)
        fitting = [columns for columns in (MATCHES, GROUPS) if set(columns) <= names]
        return SimilarityRows(file, "parquet", fitting[0]) if fitting else None
    for columns in (MATCHES, GROUPS):
        for form, mark in (
            ("csv", ",".join(columns)),
            ("tsv", "\t".join(columns)),
            ("jsonl", f'{{"{next(iter(columns))}":'),
        ):
            if start.startswith(mark.encode()):
                return SimilarityRows(file, form, columns)
    return None


def group_entries(rows: Iterable[Row]) -> Iterator[tuple[bytes | int, list[tuple[bytes, float]]]]:
    """Group rows into each query with its matches, or each group with its members."""
    last: tuple[bytes | int, int] | None = None
    members: list[tuple[bytes, float]] = []
    for key, rank, path, similarity in rows:
        # Ranks count up: the same query once more is another entry.
        if last is not None and (key != last[0] or 0 < rank <= last[1]):
            yield last[0], members
            members = []
        members.append((path, similarity))
        last = key, rank
    if last is not None:
        yield last[0], members


def _parquet_metadata(file: Path) -> Mapping[str, Any] | None:
    encoded = (open_parquet(file).metadata.metadata or {}).get(METADATA_KEY)
    return parse_metadata(encoded.decode(), file) if encoded else None
