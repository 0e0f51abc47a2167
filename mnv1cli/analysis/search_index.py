"""Which images are alike: exact search by cosine among the features that `embed` wrote."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnv1cli.errors import ResultError
from mnv1cli.results.files import META
from mnv1cli.results.readers import open_result
from mnv1cli.storage.location import Location, source
from mnv1cli.types import Task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mnv1cli.storage.location import Source
    from mnv1cli.types import FloatArray, Table

    Indices = NDArray[np.int64]
    Wide = NDArray[np.float64]

# Rows whose similarities to one another are worked out at once: 4 MB of them.
_BLOCK = 1024
# What differs from 1 by less is 1, but for the rounding of float32.
_ROUNDING = 1e-6


class Match(NamedTuple):
    """An image of the index by its similarity to a query, -1 to 1; `rank` counts from 1."""

    rank: int
    path: bytes
    similarity: float


class Member(NamedTuple):
    """An image of a group; `similarity` is that to the most similar other one."""

    path: bytes
    similarity: float


@dataclass(slots=True)
class _Best:
    """The best matches of one query so far, best first."""

    rows: Indices
    similarities: FloatArray

    def take(self, first: int, similarities: FloatArray, top: int) -> None:
        """Take the rows from `first` on into account; of equal ones the earlier stays ahead."""
        found = np.flatnonzero(similarities > self._least(top))
        if not len(found):
            return
        rows = np.concatenate([self.rows, found + first])
        values = np.concatenate([self.similarities, similarities[found]])
        order = np.argsort(-values, kind="stable")[:top]
        self.rows, self.similarities = rows[order], values[order]

    def _least(self, top: int) -> float:
        return float(self.similarities[-1]) if len(self.similarities) == top else -np.inf


class Index:
    """The features of many images, in the file or dataset that `embed` wrote.

    `metadata` is that of its run; `paths` has every image that has features.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, holds no feature vectors, or does not tell
            how they came about.
    """

    def __init__(self, file: Source) -> None:
        self.file = file
        self._result = open_result(file)
        layout, metadata = self._result.layout, self._result.metadata
        empty = layout is None or layout.labels or layout.shape == (0,)
        if layout is None or empty or (metadata and metadata.command != "embed"):
            raise ResultError(f"{file} holds no features", "'mnv1 embed -o FILE' writes them")
        if metadata is None:
            raise ResultError(
                f"nothing tells how {file} came about: it has no metadata",
                f"put {file.name}.meta.json back beside it",
            )
        if len(layout.shape) != 1:
            raise ResultError(
                f"{file} holds arrays of {list(layout.shape)} an image",
                "make it without --no-pool",
            )
        self.metadata = metadata
        self.length = layout.shape[0]
        self.paths: list[bytes] = []

    def task(self) -> Task:
        """What makes such features as these."""
        output = self.metadata.output or ""
        endpoint = "" if output == "features" else output
        return Task("embed", endpoint=endpoint, pool=self.metadata.pool)

    def search(self, queries: FloatArray, top: int) -> list[list[Match]]:
        """The `top` most similar images for each row of `queries`, float32 [q, d].

        The similarity is the cosine; an image or a query of zeros has 0. It is
        summed in float64, so that it does not depend on what else is searched.
        """
        best = [_Best(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
        wide, lengths = _measured(queries)
        wanted = (wide / lengths[:, None]).T
        self.paths = []
        for paths, rows, lengths in self._blocks():
            # Dividing what comes out is far less than dividing what goes in.
            similarities = _rounded((rows @ wanted) / lengths[:, None])
            for one, column in zip(best, similarities.T, strict=True):
                one.take(len(self.paths), column, top)
            self.paths += paths
        return [
            [
                Match(rank, self.paths[row], float(value))
                for rank, (row, value) in enumerate(
                    zip(one.rows, one.similarities, strict=True), start=1
                )
            ]
            for one in best
        ]

    def groups(self, threshold: float) -> list[list[Member]]:
        """Images that are as similar as `threshold`, or by way of others of their group."""
        self.paths, features = self._whole()
        groups = _Groups(len(features))
        closest = np.full(len(features), -np.inf, np.float32)
        for start in range(0, len(features), _BLOCK):
            rows = slice(start, start + _BLOCK)
            for other in range(start, len(features), _BLOCK):
                columns = slice(other, other + _BLOCK)
                similarities = features[rows] @ features[columns].T
                similarities[similarities > 1 - _ROUNDING] = 1
                if start == other:
                    np.fill_diagonal(similarities, -np.inf)
                closest[rows] = np.maximum(closest[rows], similarities.max(axis=1))
                closest[columns] = np.maximum(closest[columns], similarities.max(axis=0))
                groups.join(similarities >= threshold, start, other)
        return [
            [Member(self.paths[row], float(closest[row])) for row in group]
            for group in groups.found()
        ]

    def tables(self) -> Iterator[Table]:
        """The features as they were written, NaN where an image failed."""
        return self._result.tables()

    def _blocks(self) -> Iterator[tuple[list[bytes], Wide, Wide]]:
        """Paths, features and their lengths, of the images that did not fail, so many at once."""
        for table in self._result.tables():
            good = table.without_faults()
            assert good.values is not None
            wide, lengths = _measured(good.values)
            # An index beside X.npy need not tell which of its rows are NaN.
            whole: NDArray[np.bool_] = np.isfinite(lengths)
            if whole.all():
                yield list(good.paths), wide, lengths
            else:
                yield list(itertools.compress(good.paths, whole)), wide[whole], lengths[whole]

    def _whole(self) -> tuple[list[bytes], FloatArray]:
        """All paths, and the features as vectors of length 1."""
        paths: list[bytes] = []
        # Grown in place: the parts and the whole at once would take twice the memory.
        features = np.empty((0, self.length), np.float32)
        for names, rows, lengths in self._blocks():
            start = len(paths)
            paths += names
            features.resize((len(paths), self.length), refcheck=False)
            features[start:] = rows / lengths[:, None]
        return paths, features


class _Groups:
    """Rows that belong together, by union-find; the root of a group is its first row."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def join(self, alike: NDArray[np.bool_], first: int, second: int) -> None:
        """Put rows from `first` on together with those from `second` on where `alike` is true."""
        # All rows hang on their roots here. What is together already, as a thousand
        # blank images soon are, makes no pair.
        one = self._parent[first : first + alike.shape[0]]
        two = self._parent[second : second + alike.shape[1]]
        rows, columns = np.nonzero(alike & (one[:, None] != two))
        if not len(rows):
            return
        count = len(self._parent)
        pairs = np.unique(one[rows] * count + two[columns])
        for a, b in zip(*(part.tolist() for part in np.divmod(pairs, count)), strict=True):
            low, high = sorted((self._root(a), self._root(b)))
            self._parent[high] = low
        while not np.array_equal(above := self._parent[self._parent], self._parent):
            self._parent = above

    def _root(self, row: int) -> int:
        while (above := int(self._parent[row])) != row:
            row = above
        return row

    def found(self) -> list[list[int]]:
        """The groups of two and more, in the order of their first rows."""
        order = np.argsort(self._parent, kind="stable")
        starts = np.flatnonzero(np.diff(self._parent[order], prepend=-1))
        parts = np.split(order, starts[1:]) if len(order) else []
        return [part.tolist() for part in parts if len(part) > 1]


def _rounded(similarities: NDArray[np.float64]) -> FloatArray:
    """As float32, equal where they differ by the rounding of float64 alone."""
    found = np.round(similarities, 12, out=similarities).astype(np.float32)
    # There is no -0.
    found += 0
    return found


def _measured(rows: FloatArray) -> tuple[Wide, Wide]:
    """The rows in float64 and their lengths; that of a row of zeros is taken for 1."""
    wide = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    lengths[lengths == 0] = 1
    return wide, lengths


def list_index_files(location: Location) -> list[Path]:
    """Return the files on this machine that are read with an index; they may not exist."""
    index = source(location)
    if isinstance(index, Location):
        return []
    if not index.name:
        return [index]
    return [index, index.with_suffix(".index.csv"), index.with_name(index.name + META)]
