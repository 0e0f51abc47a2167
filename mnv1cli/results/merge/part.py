"""The results that are merged into one, and the checks of each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mnv1cli.errors import OptionError, ResultError
from mnv1cli.path_text import display_path
from mnv1cli.results.merge.positions import Positions, parse_positions
from mnv1cli.results.readers import open_result
from mnv1cli.results.shard_positions import PathDigest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.types import Table

_AGAIN = "make it again with --force"
_DAMAGE = (AttributeError, KeyError, OptionError, OverflowError, TypeError, ValueError)
_COMMANDS = ("classify", "logits", "embed")


class Part:
    """A result that is merged with others.

    `metadata` are its own without those of the shard, which are in `positions`, None where the
    result is no shard.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, has no metadata, or contradicts them.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._result = open_result(file)
        metadata = self._result.metadata
        if metadata is None:
            raise ResultError(
                f"{file} has no metadata", f"put {file.name}.meta.json back beside it"
            )
        self.positions: Positions | None = None
        if metadata.shard is not None:
            try:
                self.positions = parse_positions(metadata.shard)
            except _DAMAGE as error:
                raise ResultError(f"the metadata of {file} are damaged") from error
            # There may be a number for every image in it, which is kept only once.
            metadata.shard.clear()
        if metadata.counts is None or metadata.failures is None or metadata.seconds is None:
            raise ResultError(f"the metadata of {file} are damaged")
        self.failures, self.seconds = metadata.failures, metadata.seconds
        self.counts = metadata.counts
        self.done = metadata.counts.done
        self.metadata = replace(metadata, shard=None)
        self.layout = self._result.layout
        self._check()

    @property
    def name(self) -> str:
        """The name of the file in messages."""
        return str(self.file)

    @property
    def has_faults(self) -> bool | None:
        """True where images that failed have rows; None where that is not known."""
        if self.layout is not None:
            return self.layout.errors
        if self.positions is not None:
            return self.positions.has_faults
        return False if self.failures else None

    def paths(self) -> Iterator[bytes]:
        """Return the path of each image that has a row, in their order."""
        return self._result.paths()

    def tables(self, shape: tuple[int, ...], images: int | None = None) -> Iterator[Table]:
        """Yield the rows, with values of this shape, in tables of so many `images`.

        They are checked against the metadata.

        Raises:
            ResultError: they are not the rows that were written.
        """
        digest, count, expected = PathDigest(), 0, self._count_rows()
        lengths: set[int] = set()
        for table in self._tables(shape, images):
            for path in table.paths if self.positions else ():
                self._require_own(path)
                digest.add(path)
            self._require_all_labels(table, lengths)
            count += len(table.paths)
            if count > expected:
                break
            yield table
        if count > expected or (count < expected and not self._may_lack_rows):
            has = f"more than {expected:,}" if count > expected else f"{count:,}"
            raise ResultError(
                f"{self.file} has {has} images with rows, and its metadata count {expected:,}",
                _AGAIN,
            )
        if self.positions and digest.value != self.positions.paths:
            raise ResultError(f"the rows of {self.file} are not in the order of the run", _AGAIN)

    def lacks_unlabelled(self) -> bool:
        """Return whether images that kept no label have no row."""
        if self.positions is not None:
            return self.positions.lacks_unlabelled
        return self._may_lack_rows and sum(1 for _ in self.paths()) < self._count_rows()

    @property
    def _may_lack_rows(self) -> bool:
        return self.positions is None and bool(self.metadata.min_probability)

    def _count_rows(self) -> int:
        """Return how many images have a row, or may have one."""
        if self.positions is not None:
            return len(self.positions.rows)
        return self.done + (len(self.failures) if self.has_faults else 0)

    def _require_own(self, path: bytes) -> None:
        shard = self.positions and self.positions.shard
        if shard and not shard.contains(path):
            what = f"{self.file} has a row of {display_path(path)}"
            raise ResultError(f"{what}, which is not in shard {shard}", _AGAIN)

    def _require_all_labels(self, table: Table, lengths: set[int]) -> None:
        """Refuse an image that has lost labels; `lengths` are the numbers that others have."""
        for path, error, labels in zip(table.paths, table.errors, table.predictions, strict=False):
            ranks = [label.rank for label in labels]
            lengths.update([] if error or self.metadata.min_probability else [len(ranks)])
            if ranks != list(range(1, len(ranks) + 1)) or len(lengths) > 1:
                what = f"{self.file} lacks labels of {display_path(path)}, or of one before it"
                raise ResultError(what, _AGAIN)

    def _tables(self, shape: tuple[int, ...], images: int | None) -> Iterator[Table]:
        for table in self._result.tables(images) if self.layout else ():
            if table.values is not None and table.values.shape[1:] == (0,):
                # JSON lines with only failures do not say how long a row is.
                values = np.full((len(table.paths), *shape), np.nan, np.float32)
                yield replace(table, values=values)
            else:
                yield table

    def _check(self) -> None:
        """Refuse metadata that contradict themselves or the file."""
        metadata, positions = self.metadata, self.positions
        labels = metadata.command == "classify"
        sound = metadata.command in _COMMANDS
        sound = sound and self.counts.failed == len(self.failures)
        if self.layout is not None:
            sound = sound and self.layout.labels == labels
        if positions is not None:
            sound = sound and len(positions.failures) == len(self.failures)
            sound = sound and positions.has_faults == self.has_faults
            sound = sound and all(positions.shard.contains(fault.path) for fault in self.failures)
        if not sound:
            raise ResultError(f"the metadata of {self.file} are not those of its rows", _AGAIN)
