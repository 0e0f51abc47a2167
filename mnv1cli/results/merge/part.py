"""Results that are to be one: what each is, and where its images stand in the whole."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import OptionError, ResultError
from mnv1cli.inputs.shards import Shard
from mnv1cli.path_text import display_path
from mnv1cli.results.metadata import Counts
from mnv1cli.results.readers import open_result
from mnv1cli.results.shard_positions import PathDigest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mnv1cli.types import Table

_AGAIN = "make it again with --force"
_DAMAGE = (AttributeError, KeyError, OptionError, OverflowError, TypeError, ValueError)
_COMMANDS = ("classify", "logits", "embed")


@dataclass(frozen=True, slots=True)
class Places:
    """Which shard a result is of, and where its images stand in a listing of `total` images.

    `rows`, `failures` and `unlabelled` are positions that count up: of what has
    a row, what failed, and what kept no label; `paths` is a digest of the rows'
    paths. What failed has a row where `has_faults`.
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
        """Whether there are images without a label and without a row."""
        return _in_rows(self.unlabelled, self.rows) is False

    def images(self) -> array[int]:
        """Each image's position, once."""
        found = self.rows[:]
        for each in (self.failures, self.unlabelled):
            if not _in_rows(each, self.rows):
                found.extend(each)
        return found


class Part:
    """A result that is to be a part of another.

    `metadata` are its own without what they tell of the shard, which is in
    `places`, None where it is no shard.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or does not tell how it came about.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._result = open_result(file)
        if self._result.metadata is None:
            raise ResultError(
                f"nothing tells how {file} came about: it has no metadata",
                f"{file.name}.meta.json has to lie beside it",
            )
        metadata = self._result.metadata
        try:
            self.places = _places(metadata.shard)
        except _DAMAGE as error:
            raise ResultError(f"the metadata of {file} are damaged") from error
        # There may be a number for every image in it, which is kept only once.
        if isinstance(metadata.shard, dict):
            metadata.shard.clear()
        if metadata.counts is None or metadata.failures is None or metadata.seconds is None:
            raise ResultError(f"the metadata of {file} are damaged")
        self.failures, self.seconds = metadata.failures, metadata.seconds
        self.done = metadata.counts.done
        self.metadata = replace(metadata, shard=None)
        self.layout = self._result.layout
        self._check()

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.file)

    @property
    def has_faults(self) -> bool | None:
        """Whether images that failed have rows; None where nothing tells."""
        if self.layout is not None:
            return self.layout.errors
        if self.places is not None:
            return self.places.has_faults
        return False if self.failures else None

    def paths(self) -> Iterator[bytes]:
        """Each image that has a row, in their order."""
        return self._result.paths()

    def tables(self, shape: tuple[int, ...], images: int | None = None) -> Iterator[Table]:
        """The rows, with values of this shape, in tables of so many `images`.

        They are held against what the metadata tell.

        Raises:
            ResultError: they are not the rows that were written.
        """
        digest, count, wanted = PathDigest(), 0, self._rows()
        lengths: set[int] = set()
        for table in self._tables(shape, images):
            for path in table.paths if self.places else ():
                self._refuse_foreign(path)
                digest.add(path)
            self._refuse_torn(table, lengths)
            count += len(table.paths)
            if count > wanted:
                break
            yield table
        if count > wanted or (count < wanted and not self._may_lack):
            has = f"more than {wanted:,}" if count > wanted else f"{count:,}"
            raise ResultError(
                f"{self.file} has {has} images with rows, and its metadata tell of {wanted:,}",
                _AGAIN,
            )
        if self.places and digest.value != self.places.paths:
            raise ResultError(f"the rows of {self.file} are not in the order of the run", _AGAIN)

    def lacks_unlabelled(self) -> bool:
        """Whether images that kept no label have no row."""
        if self.places is not None:
            return self.places.lacks_unlabelled
        return self._may_lack and sum(1 for _ in self.paths()) < self._rows()

    @property
    def _may_lack(self) -> bool:
        return self.places is None and bool(self.metadata.min_probability)

    def _rows(self) -> int:
        """How many images have a row, or may have one."""
        if self.places is not None:
            return len(self.places.rows)
        return self.done + (len(self.failures) if self.has_faults else 0)

    def _refuse_foreign(self, path: bytes) -> None:
        shard = self.places and self.places.shard
        if shard and not shard.has(path):
            what = f"{self.file} has a row of {display_path(path)}"
            raise ResultError(f"{what}, which is not in shard {shard}", _AGAIN)

    def _refuse_torn(self, table: Table, lengths: set[int]) -> None:
        """Refuse an image that has lost labels; `lengths` are how many others have."""
        for path, error, found in zip(table.paths, table.errors, table.predictions, strict=False):
            ranks = [each.rank for each in found]
            lengths.update([] if error or self.metadata.min_probability else [len(ranks)])
            if ranks != list(range(1, len(ranks) + 1)) or len(lengths) > 1:
                what = f"{self.file} lacks labels of {display_path(path)}, or of one before it"
                raise ResultError(what, _AGAIN)

    def _tables(self, shape: tuple[int, ...], images: int | None) -> Iterator[Table]:
        for table in self._result.tables(images) if self.layout else ():
            if table.values is not None and table.values.shape[1:] == (0,):
                # JSON lines of failures alone do not tell how long a row is.
                values = np.full((len(table.paths), *shape), np.nan, np.float32)
                yield replace(table, values=values)
            else:
                yield table

    def _check(self) -> None:
        """Refuse metadata that contradict themselves or the file."""
        metadata, places = self.metadata, self.places
        labels = metadata.command == "classify"
        sound = metadata.command in _COMMANDS
        sound = sound and metadata.counts == Counts(self.done, len(self.failures))
        if self.layout is not None:
            sound = sound and self.layout.labels == labels
        if places is not None:
            sound = sound and len(places.failures) == len(self.failures)
            sound = sound and places.has_faults == self.has_faults
            sound = sound and all(places.shard.has(fault.path) for fault in self.failures)
        if not sound:
            raise ResultError(f"the metadata of {self.file} are not those of its rows", _AGAIN)


def _places(told: Any) -> Places | None:
    if told is None:
        return None
    positions = [array("Q", told[name]) for name in ("rows", "failures", "unlabelled")]
    total = told["total"]
    if not isinstance(total, int) or not isinstance(told["paths"], str):
        raise TypeError
    for each in positions:
        if not _counts_up(each) or (each and each[-1] >= total):
            raise ValueError
    found = Places(_shard(told), total, told["paths"], told["on_error"] == "row", *positions)
    if _in_rows(found.failures, found.rows) not in (None, found.has_faults):
        raise ValueError
    images = found.images()
    if len(np.unique(images)) < len(images):
        raise ValueError
    return found


def _shard(told: Mapping[str, Any]) -> Shard:
    return Shard.parse(f"{told['index']}/{told['count']}")


def _counts_up(positions: Sequence[int]) -> bool:
    found = np.asarray(positions, np.uint64)
    return bool((found[1:] > found[:-1]).all())


def _in_rows(some: array[int], rows: array[int]) -> bool | None:
    """Whether all of some positions are among those of rows, or none of them; None of nothing.

    Raises:
        ValueError: some are and some are not.
    """
    if not some:
        return None
    found = np.isin(np.asarray(some), np.asarray(rows))
    if found.any() != found.all():
        raise ValueError
    return bool(found.all())
