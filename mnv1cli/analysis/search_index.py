"""An index of feature vectors that `embed` wrote, and the exact search by cosine in it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnv1cli.analysis.near_duplicates import group_similar
from mnv1cli.errors import ResultError
from mnv1cli.results.files import META
from mnv1cli.results.readers import open_result
from mnv1cli.storage.location import Location
from mnv1cli.storage.sources import to_result_source
from mnv1cli.types import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mnv1cli.storage.location import ResultSource
    from mnv1cli.types import FloatArray, Table

    Indices = NDArray[np.int64]
    Wide = NDArray[np.float64]


class Match(NamedTuple):
    """An image of the index with its similarity to a query, -1 to 1; `rank` counts from 1."""

    rank: int
    path: bytes
    similarity: float


class Member(NamedTuple):
    """An image of a group, with the similarity to the most similar other image."""

    path: bytes
    similarity: float


@dataclass(slots=True)
class _Best:
    """The best matches of one query so far, best first."""

    rows: Indices
    similarities: FloatArray

    def add(self, first: int, similarities: FloatArray, top: int) -> None:
        """Add the rows from `first` on; of equally similar ones the earlier comes first."""
        better = np.flatnonzero(similarities > self._threshold(top))
        if not len(better):
            return
        rows = np.concatenate([self.rows, better + first])
        values = np.concatenate([self.similarities, similarities[better]])
        order = np.argsort(-values, kind="stable")[:top]
        self.rows, self.similarities = rows[order], values[order]

    def _threshold(self, top: int) -> float:
        return float(self.similarities[-1]) if len(self.similarities) == top else -np.inf

    def to_matches(self, paths: Sequence[bytes]) -> list[Match]:
        """Return the matches, best first."""
        pairs = zip(self.rows, self.similarities, strict=True)
        return [Match(rank, paths[row], float(value)) for rank, (row, value) in enumerate(pairs, 1)]


class Index:
    """The features of many images, in a file or dataset that `embed` wrote.

    Attributes:
        file: the file or the dataset.
        metadata: the metadata of its run.
        length: the number of values in a feature vector.
        paths: the images that have features, known after a search.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or has no feature vectors or no metadata.
    """

    def __init__(self, file: ResultSource) -> None:
        self.file = file
        self._result = open_result(file)
        layout, metadata = self._result.layout, self._result.metadata
        empty = layout is None or layout.labels or layout.shape == (0,)
        if layout is None or empty or (metadata and metadata.command != "embed"):
            raise ResultError(f"{file} holds no features", "'mnv1 embed -o FILE' writes them")
        if metadata is None:
            raise ResultError(
                f"{file} has no metadata: the settings that it was made with are unknown",
                f"put {file.name}.meta.json back beside it",
            )
        if len(layout.shape) != 1:
            raise ResultError(
                f"{file} holds arrays of {list(layout.shape)} per image",
                "make it without --no-pool",
            )
        self.metadata = metadata
        self.length = layout.shape[0]
        self.paths: list[bytes] = []

    def make_task(self) -> Task:
        """Return the task that computes such features."""
        output = self.metadata.output or ""
        endpoint = "" if output == "features" else output
        return Task("embed", endpoint=endpoint, pool=self.metadata.pool)

    def search(self, queries: FloatArray, top: int) -> list[list[Match]]:
        """Return the `top` most similar images for each row of `queries`, float32 [q, d].

        The similarity is the cosine; for an image or a query of zeros it is 0. It is summed
        in float64, so that it does not depend on the other queries.
        """
        best = [_Best(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in queries]
        wide, lengths = _widen(queries)
        units = (wide / lengths[:, None]).T
        self.paths = []
        for paths, rows, lengths in self._blocks():
            # The products are far fewer numbers to divide than the rows.
            similarities = _round((rows @ units) / lengths[:, None])
            for matches, column in zip(best, similarities.T, strict=True):
                matches.add(len(self.paths), column, top)
            self.paths += paths
        return [matches.to_matches(self.paths) for matches in best]

    def groups(self, threshold: float) -> list[list[Member]]:
        """Return groups of images that are at least as similar as `threshold`.

        A group also has images that are similar only by way of others in it.
        """
        self.paths, features = self._load_units()
        groups, closest = group_similar(features, threshold)
        return [[Member(self.paths[row], float(closest[row])) for row in group] for group in groups]

    def tables(self) -> Iterator[Table]:
        """Yield the features as they were written, NaN where an image failed."""
        return self._result.tables()

    def _blocks(self) -> Iterator[tuple[list[bytes], Wide, Wide]]:
        """Yield paths, features and lengths of the images that did not fail, block by block."""
        for table in self._result.tables():
            good = table.without_faults()
            assert good.values is not None
            wide, lengths = _widen(good.values)
            # The list of paths beside X.npy need not say which of its rows are NaN.
            finite: NDArray[np.bool_] = np.isfinite(lengths)
            if finite.all():
                yield list(good.paths), wide, lengths
            else:
                paths = list(itertools.compress(good.paths, finite))
                yield paths, wide[finite], lengths[finite]

    def _load_units(self) -> tuple[list[bytes], FloatArray]:
        """Return all paths, and the features as vectors of length 1."""
        paths: list[bytes] = []
        # Grown in place: the parts and the whole at once would take twice the memory.
        features = np.empty((0, self.length), np.float32)
        for block, rows, lengths in self._blocks():
            start = len(paths)
            paths += block
            features.resize((len(paths), self.length), refcheck=False)
            features[start:] = rows / lengths[:, None]
        return paths, features


def _round(similarities: Wide) -> FloatArray:
    """Return float32, equal where the values differ only by the rounding of float64."""
    rounded = np.round(similarities, 12, out=similarities).astype(np.float32)
    # Turns -0 into 0.
    rounded += 0
    return rounded


def _widen(rows: FloatArray) -> tuple[Wide, Wide]:
    """Return the rows in float64 and their lengths, which is 1 for a row of zeros."""
    wide = rows.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    lengths[lengths == 0] = 1
    return wide, lengths


def list_index_files(location: Location) -> list[Path]:
    """Return the files on this machine that are read with an index; they may not exist."""
    index = to_result_source(location)
    if isinstance(index, Location):
        return []
    if not index.name:
        return [index]
    return [index, index.with_suffix(".index.csv"), index.with_name(index.name + META)]
