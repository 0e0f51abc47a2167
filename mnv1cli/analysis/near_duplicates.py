"""Groups of images that are nearly the same, by the similarity of their feature vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mnv1cli.types import FloatArray

    Numbers = NDArray[np.int64]
    Mask = NDArray[np.bool_]

# Photos with a higher cosine of their feature vectors are copies of one another: the same
# photo in another size or another quality.
COPY_SIMILARITY = 0.98
# Rows whose similarities to one another are computed at once: 4 MB of them.
_BLOCK = 1024
# Rows whose similarities to all later ones are computed at once.
_COPY_ROWS = 512
# Less than this below 1 is 1, except for the rounding of float32.
_ROUNDING = 1e-6


class RowGroups:
    """Groups of rows, by union-find; the root of a group is its first row.

    `roots` is the root of each row, int64 [n].
    """

    def __init__(self, rows: int) -> None:
        self.roots: Numbers = np.arange(rows)

    def join(self, similar: Mask, first: int, second: int) -> None:
        """Join the groups of rows from `first` on and from `second` on where `similar` is true.

        `similar` is [m, k] for m rows from `first` on and k rows from `second` on.
        """
        # All rows hang directly on their roots here. Rows that are in one group already, as
        # a thousand blank images soon are, make no pair.
        roots = self.roots[first : first + similar.shape[0]]
        other_roots = self.roots[second : second + similar.shape[1]]
        rows, columns = np.nonzero(similar & (roots[:, None] != other_roots))
        if not len(rows):
            return
        size = len(self.roots)
        pairs = np.unique(roots[rows] * size + other_roots[columns])
        for a, b in zip(*(part.tolist() for part in np.divmod(pairs, size)), strict=True):
            low, high = sorted((self._find_root(a), self._find_root(b)))
            self.roots[high] = low
        while not np.array_equal(above := self.roots[self.roots], self.roots):
            self.roots = above

    def _find_root(self, row: int) -> int:
        while (above := int(self.roots[row])) != row:
            row = above
        return row

    def list_groups(self) -> list[list[int]]:
        """Return the groups of two rows or more, ordered by their first rows."""
        order = np.argsort(self.roots, kind="stable")
        starts = np.flatnonzero(np.diff(self.roots[order], prepend=-1))
        parts = np.split(order, starts[1:]) if len(order) else []
        return [part.tolist() for part in parts if len(part) > 1]


def group_similar(features: FloatArray, threshold: float) -> tuple[list[list[int]], FloatArray]:
    """Group rows [n, d] of length 1 whose cosine is at least `threshold`.

    A group also has rows that are similar only by way of others in it. Returns the groups of
    two rows or more, and for each row the cosine of the most similar other row.
    """
    groups = RowGroups(len(features))
    closest = np.full(len(features), -np.inf, np.float32)
    for start in range(0, len(features), _BLOCK):
        rows = slice(start, start + _BLOCK)
        for second in range(start, len(features), _BLOCK):
            columns = slice(second, second + _BLOCK)
            similarities = features[rows] @ features[columns].T
            similarities[similarities > 1 - _ROUNDING] = 1
            if start == second:
                np.fill_diagonal(similarities, -np.inf)
            closest[rows] = np.maximum(closest[rows], similarities.max(axis=1))
            closest[columns] = np.maximum(closest[columns], similarities.max(axis=0))
            groups.join(similarities >= threshold, start, second)
    return groups.list_groups(), closest


def group_copies(features: FloatArray, similarity: float = COPY_SIMILARITY) -> Numbers:
    """Return a number for each row of [n, d] that is the same for copies, int64 [n].

    Copies are rows with a cosine above `similarity`, and copies of copies.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = features / np.where(lengths > 0, lengths, 1)
    # Rows of zeros have no direction: they are copies only of one another.
    units = np.concatenate([units, lengths == 0], axis=1, dtype=np.float32)
    groups = RowGroups(len(units))
    for start in range(0, len(units), _COPY_ROWS):
        similarities = units[start : start + _COPY_ROWS] @ units[start:].T
        groups.join(similarities > similarity, start, start)
    return groups.roots
