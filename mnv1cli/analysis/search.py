"""A search in an index, from queries to rows: they are embedded as the index was, or read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli._version import __version__
from mnv1cli.errors import ResultError
from mnv1cli.inference.predictor import Predictor
from mnv1cli.path_text import path_fields
from mnv1cli.results.readers.similarities import GROUPS, MATCHES
from mnv1cli.runs.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

    from mnv1cli.analysis.search_index import Index, Match
    from mnv1cli.inputs.from_python import Sources
    from mnv1cli.inputs.listing import Listing
    from mnv1cli.types import FetchOptions, FloatArray, Table

    Row = tuple[Any, ...]

# What of the index's metadata is not the search's.
_OF_THE_RUN = ("version", "command", "counts", "seconds", "failures")
# So many queries pass over the index at once; the index is read once for them.
_AT_ONCE = 4096


class Search:
    """Rows of matches or groups, and what there is to tell of them.

    `columns` names the cells of the rows; a bar on the stream `progress` shows
    how far the queries are.
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
        """Matches of images, which are embedded as those of the index were.

        Raises:
            ResultError: the module is another than the index was made with.
        """
        listing.require_images()
        metadata = self._index.metadata
        predictor = Predictor.for_result(metadata.to_json(), module, fetch, threads)
        job = predictor.make_job(self._index.task())
        metadata.require_same(self._index.file, job.metadata())
        self.tally = Tally(self._progress)
        self._settings = {"top": top}
        return self._matches(map(self.tally.counted, job.tables(listing)), top)

    def of_features(self, queries: Index, top: int) -> Iterator[Row]:
        """Matches of images whose features are there.

        Raises:
            ResultError: they came about in another way than those of the index.
        """
        queries.metadata.require_same(queries.file, self._index.metadata)
        self._settings = {"top": top, "from": queries.file.name}
        return self._matches(map(self.tally.counted, queries.tables()), top)

    def groups(self, threshold: float) -> Iterator[Row]:
        """Groups of images of the index that are alike; they count from 1."""
        self.columns = GROUPS
        self._settings = {"threshold": threshold}
        return self._grouped(threshold)

    def _grouped(self, threshold: float) -> Iterator[Row]:
        for number, group in enumerate(self._index.groups(threshold), start=1):
            self._groups = number
            for member in group:
                yield (number, *member)

    def told(self) -> dict[str, Any]:
        """The metadata of the search, once all its rows are there."""
        index = self._index
        settings = index.metadata.to_json()
        counts: dict[str, int] = {"index": len(index.paths)}
        counts |= (
            {"groups": self._groups}
            if self.columns is GROUPS
            else {"done": self.tally.done, "failed": self.tally.failed}
        )
        return {
            **{key: value for key, value in settings.items() if key not in _OF_THE_RUN},
            "version": __version__,
            "command": "similar",
            "index": index.file.name,
            **self._settings,
            "counts": counts,
            "seconds": round(self.tally.seconds, 3),
            "failures": [
                {**path_fields(fault.path), "reason": fault.reason} for fault in self.tally.faults
            ],
        }

    def summary(self) -> str:
        """What was done, in one line."""
        count = len(self._index.paths)
        there = f"{'1 image' if count == 1 else f'{count:,} images'} of {self._index.file}"
        if self.columns is GROUPS:
            groups = "1 group" if self._groups == 1 else f"{self._groups:,} groups"
            return f"{groups} among {there}"
        failed = f", {self.tally.failed:,} failed" if self.tally.failed else ""
        queries = "1 query" if self.tally.done == 1 else f"{self.tally.done:,} queries"
        return f"{queries}{failed}, among {there}"

    def _matches(self, tables: Iterable[Table], top: int) -> Iterator[Row]:
        with contextlib.closing(self.tally):
            for paths, features in _chunks(tables, self._index.length):
                if features.shape[1] != self._index.length:
                    raise ResultError(
                        f"{self._index.file} holds features of {self._index.length} numbers, "
                        f"not {features.shape[1]}"
                    )
                found = self._index.search(features, top)
                for query, matches in zip(paths, found, strict=True):
                    for rank, path, similarity in matches:
                        yield query, rank, path, similarity


def find_similar(
    predictor: Predictor, index: Index, images: Sources, top: int
) -> list[list[Match]]:
    """Return the `top` images of an index that are most similar to each image.

    Raises:
        ResultError: the index was made with other settings than those of the predictor.
        ImageError: an image cannot be used.
    """
    task = index.task()
    index.metadata.require_same(index.file, predictor.make_job(task).metadata())
    return index.search(predictor.predict_array(task, images), top)


def _chunks(tables: Iterable[Table], length: int) -> Iterator[tuple[list[bytes], FloatArray]]:
    """Paths and features of images that did not fail, so many as are searched at once.

    One chunk comes at least, though nothing be in it: the search counts the index.
    """
    waiting = iter(tables)
    paths, parts, searched = list[bytes](), [np.empty((0, length), np.float32)], False
    for table in waiting:
        good = table.without_faults()
        assert good.values is not None
        paths += good.paths
        parts.append(good.values)
        if len(paths) >= _AT_ONCE:
            yield paths, np.concatenate(parts)
            paths, parts, searched = [], parts[:1], True
    if paths or not searched:
        yield paths, np.concatenate(parts)
