"""A search in an index, from queries, which are embedded or read, to rows of matches."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli._version import __version__
from mnv1cli.errors import ResultError
from mnv1cli.inference.reopen import reopen_predictor
from mnv1cli.path_text import count, make_path_fields
from mnv1cli.results.metadata import Counts
from mnv1cli.results.readers.similarities import GROUPS, MATCHES
from mnv1cli.runs.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from mnv1cli.analysis.search_index import Index, Match
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.inputs.from_python import ImageInputs
    from mnv1cli.inputs.listing import Listing
    from mnv1cli.types import FetchOptions, FloatArray, Table

    Row = tuple[Any, ...]

# Keys of the index's metadata that are not the search's.
_OF_THE_RUN = ("version", "command", "counts", "seconds", "failures")
_NOT_FINITE = "its features have NaN or infinity"
# Queries that are searched in one reading of the index.
_CHUNK = 4096


class Search:
    """A search for matches or groups, with its rows and its metadata.

    `columns` names the cells of the rows; a bar on the stream `progress` shows how many
    queries are done.
    """

    def __init__(self, index: Index, progress: TextIO | None = None) -> None:
        self.columns = MATCHES
        self.tally = Tally()
        self._progress = progress
        self._index = index
        self._groups = 0
        self._settings: dict[str, Any] = {}

    def of_images(
        self,
        listing: Listing,
        top: int,
        module: str | None = None,
        fetch: FetchOptions | None = None,
        threads: int | None = None,
    ) -> Iterator[Row]:
        """Yield the matches of images, which are embedded as those of the index were.

        Raises:
            ResultError: the module is not the one that the index was made with.
        """
        listing.require_images()
        metadata = self._index.metadata
        predictor = reopen_predictor(metadata.to_json(), module, fetch, threads, self._index.file)
        job = predictor.make_job(self._index.make_task())
        metadata.require_same(self._index.file, job.metadata())
        self.tally = Tally(self._progress)
        self._settings = {"top": top}
        return self._matches(map(self.tally.counted, job.compute_tables(listing)), top)

    def of_features(self, queries: Index, top: int) -> Iterator[Row]:
        """Yield the matches of images whose features are in another index.

        Raises:
            ResultError: they were made with other settings than those of the index.
        """
        queries.metadata.require_same(queries.file, self._index.metadata)
        self._settings = {"top": top, "from": queries.file.name}
        tables = map(_add_faults, queries.tables())
        return self._matches(map(self.tally.counted, tables), top)

    def groups(self, threshold: float) -> Iterator[Row]:
        """Yield the groups of similar images of the index; groups are numbered from 1."""
        self.columns = GROUPS
        self._settings = {"threshold": threshold}
        return self._list_members(threshold)

    def _list_members(self, threshold: float) -> Iterator[Row]:
        for number, group in enumerate(self._index.groups(threshold), start=1):
            self._groups = number
            for member in group:
                yield (number, *member)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the search, after all its rows."""
        index = self._index
        settings = index.metadata.to_json()
        tally = self.tally
        damaged = tally.damaged if index.metadata.accepts_damaged else None
        counts: dict[str, int] = {"index": len(index.paths)}
        counts |= (
            {"groups": self._groups}
            if self.columns is GROUPS
            else Counts(tally.done, tally.failed, damaged).to_json()
        )
        return {
            **{key: value for key, value in settings.items() if key not in _OF_THE_RUN},
            "version": __version__,
            "command": "similar",
            "index": index.file.name,
            **self._settings,
            "counts": counts,
            "seconds": round(tally.seconds, 3),
            "failures": [
                {**make_path_fields(fault.path), "reason": fault.reason} for fault in tally.faults
            ],
        }

    def summary(self) -> str:
        """Return one line about the search."""
        index = f"{count(len(self._index.paths), 'image')} of {self._index.file}"
        if self.columns is GROUPS:
            return f"{count(self._groups, 'group')} among {index}"
        failed = f", {self.tally.failed:,} failed" if self.tally.failed else ""
        damaged = f", {self.tally.damaged:,} damaged and accepted" if self.tally.damaged else ""
        return f"{count(self.tally.done, 'query', 'queries')}{failed}{damaged}, among {index}"

    def _matches(self, tables: Iterable[Table], top: int) -> Iterator[Row]:
        with contextlib.closing(self.tally):
            for paths, features in _chunks(tables, self._index.length):
                if features.shape[1] != self._index.length:
                    raise ResultError(
                        f"{self._index.file} holds features of {self._index.length} numbers, "
                        f"not {features.shape[1]}"
                    )
                matches = self._index.search(features, top)
                for query, matches_of_query in zip(paths, matches, strict=True):
                    for rank, path, similarity in matches_of_query:
                        yield query, rank, path, similarity


def find_similar(
    predictor: Predictor, index: Index, images: ImageInputs, top: int
) -> list[list[Match]]:
    """Return the `top` images of an index that are most similar to each image.

    Raises:
        ResultError: the index was made with other settings than those of the predictor.
        ImageError: an image cannot be used.
    """
    task = index.make_task()
    index.metadata.require_same(index.file, predictor.make_job(task).metadata())
    return index.search(predictor.predict_array(task, images), top)


def _add_faults(table: Table) -> Table:
    """Return a table in which rows with NaN or infinity are faults: nothing is similar to them."""
    assert table.values is not None
    finite: Any = np.isfinite(table.values).all(axis=tuple(range(1, table.values.ndim)))
    errors = zip(table.errors, finite, strict=True)
    return replace(
        table,
        errors=tuple(error or ("" if good else _NOT_FINITE) for error, good in errors),
    )


def _chunks(tables: Iterable[Table], length: int) -> Iterator[tuple[list[bytes], FloatArray]]:
    """Yield paths and features of the images that did not fail, chunk by chunk.

    There is always one chunk, though it may be empty: the search counts the index.
    """
    paths, parts, searched = list[bytes](), [np.empty((0, length), np.float32)], False
    for table in tables:
        good = table.without_faults()
        assert good.values is not None
        paths += good.paths
        parts.append(good.values)
        if len(paths) >= _CHUNK:
            yield paths, np.concatenate(parts)
            paths, parts, searched = [], parts[:1], True
    if paths or not searched:
        yield paths, np.concatenate(parts)
