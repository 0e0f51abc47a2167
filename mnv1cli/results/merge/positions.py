"""The positions of a shard's images in the listing of all images, out of its metadata."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.inputs.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Positions:
    """The shard that a result is of, and the positions of its images in a listing of `total`.

    `rows`, `failures` and `unlabelled` are positions in ascending order: of images that have a
    row, that failed, and that kept no label; `paths` is a digest of the rows' paths. Images
    that failed have a row where `has_faults`.
    """

    shard: Shard
    total: int
    paths: str
    has_faults: bool
    rows: array[int]
    failures: array[int]
    unlabelled: array[int]

    @property
    def lacks_unlabelled(self) -> bool:
        """True where there are images without a label and without a row."""
        return _are_rows(self.unlabelled, self.rows) is False

    def all_images(self) -> array[int]:
        """Return the position of each image, once."""
        positions = self.rows[:]
        for without_row in (self.failures, self.unlabelled):
            if not _are_rows(without_row, self.rows):
                positions.extend(without_row)
        return positions


def parse_positions(notes: Any) -> Positions:
    """Read what `ShardPositions` noted in the metadata of a shard.

    Raises:
        AttributeError, KeyError, OptionError, OverflowError, TypeError, ValueError: it is damaged.
    """
    rows, failures, unlabelled = (
        array("Q", notes[name]) for name in ("rows", "failures", "unlabelled")
    )
    shard = Shard.parse(f"{notes['index']}/{notes['count']}")
    total, paths, has_faults = notes["total"], notes["paths"], notes["on_error"] == "row"
    if not isinstance(total, int) or not isinstance(paths, str):
        raise TypeError
    for numbers in (rows, failures, unlabelled):
        if not _is_ascending(numbers) or (numbers and numbers[-1] >= total):
            raise ValueError
    if _are_rows(failures, rows) not in (None, has_faults):
        raise ValueError
    positions = Positions(shard, total, paths, has_faults, rows, failures, unlabelled)
    images = positions.all_images()
    if len(np.unique(images)) < len(images):
        raise ValueError
    return positions


def _is_ascending(numbers: Sequence[int]) -> bool:
    values = np.asarray(numbers, np.uint64)
    return bool((values[1:] > values[:-1]).all())


def _are_rows(some: array[int], rows: array[int]) -> bool | None:
    """Return whether all of some positions are among the rows, or none is; None for no position.

    Raises:
        ValueError: some are and some are not.
    """
    if not some:
        return None
    in_rows = np.isin(np.asarray(some), np.asarray(rows))
    if in_rows.any() != in_rows.all():
        raise ValueError
    return bool(in_rows.all())
