"""What became of each image of a shard, for those who put the shards together."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError, ResumeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.inputs.shards import Sharded
    from mnv1cli.results.formats import Format
    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.types import ImageRef, OnError, Table

# One character an image, for the journal.
_DONE, _FAILED, _UNLABELLED = "dfu"


class PathDigest:
    """A digest of paths in their order, which can be taken up again from its value."""

    def __init__(self, value: str = "") -> None:
        self.value = value

    def add(self, path: bytes) -> None:
        """Take the next path."""
        self.value = hashlib.sha256(self.value.encode() + b"\0" + path).hexdigest()


class ShardPositions:
    """Notes where the images of a result stand in the whole listing; nothing without a shard.

    Raises:
        OptionError: the output cannot be one of several parts.
    """

    def __init__(
        self, sharded: Sharded | None, form: Format, on_error: OnError, wide: bool = False
    ) -> None:
        self._sharded = sharded
        self._marks: list[str] = []
        self._digest = PathDigest()
        self._on_error = on_error
        without = set() if on_error == "row" else {_FAILED}
        if not form.has_all(wide):
            without.add(_UNLABELLED)
        self._without_row = without
        if sharded is not None and not form.resumable:
            raise OptionError(
                f"a {form.name} cannot be put together again", "use csv, tsv or jsonl"
            )

    @property
    def setting(self) -> str | None:
        """The shard, as it must be the same in a run that goes on."""
        return str(self._sharded.shard) if self._sharded else None

    def state(self) -> dict[str, str]:
        """What `go_on` takes, as `Checkpoint` names it."""
        if self._sharded is None:
            return {}
        self._marks = ["".join(self._marks)]
        return {"marks": self._marks[0], "digest": self._digest.value}

    def go_on(self, marks: str, digest: str) -> None:
        """Take up the notes of a run that was cut."""
        self._marks, self._digest = [marks], PathDigest(digest)

    def add(self, table: Table) -> None:
        """Note what became of the images that follow."""
        if self._sharded is None:
            return
        marks = list(_marks(table))
        self._marks += marks
        for path, mark in zip(table.paths, marks, strict=True):
            if mark not in self._without_row:
                self._digest.add(path)

    def add_to(self, metadata: RunMetadata) -> RunMetadata:
        """Return the metadata with the notes: `rows`, `failures` and `unlabelled` are positions.

        `rows` has those of the images that have a row, in their order, and
        `paths` a digest of these images' paths. Images that failed may have one,
        those without a label may have none.
        """
        if self._sharded is None:
            return metadata
        found: dict[str, list[int]] = {_DONE: [], _FAILED: [], _UNLABELLED: []}
        rows = []
        marks = "".join(self._marks)
        for position, mark in zip(self._sharded.positions, marks, strict=True):
            found[mark].append(position)
            if mark not in self._without_row:
                rows.append(position)
        shard = self._sharded.shard
        told = {
            "index": shard.index,
            "count": shard.count,
            "total": self._sharded.total,
            "on_error": self._on_error,
            "paths": self._digest.value,
            "rows": rows,
            "failures": found[_FAILED],
            "unlabelled": found[_UNLABELLED],
        }
        return replace(metadata, shard=told)

    def require(self, file: object, metadata: RunMetadata | None, refs: Iterable[ImageRef]) -> None:
        """Hold the shard of a result that is complete against this run's.

        Raises:
            ResumeError: it is another one, or one of another listing.
        """
        if self._sharded is None:
            return
        deque(refs, maxlen=0)  # what nobody has gone through yet
        found = metadata.shard if metadata else None
        found = found if isinstance(found, dict) else {}
        now = self._sharded
        if (found.get("index"), found.get("count")) != (now.shard.index, now.shard.count):
            raise ResumeError(
                f"{file} is complete, and is not shard {now.shard}", "begin anew with --force"
            )
        there = [found.get(name) or [] for name in ("rows", "failures", "unlabelled")]
        same = all(isinstance(each, list) for each in there)
        same = same and set(itertools.chain(*there)) == set(now.positions)
        if found.get("total") != now.total or not same:
            raise ResumeError(
                f"{file} is complete, and of another listing than that of {now.total:,} images",
                "begin all shards anew with --force",
            )


def _marks(table: Table) -> Iterator[str]:
    for i, error in enumerate(table.errors):
        if error:
            yield _FAILED
        else:
            yield _UNLABELLED if table.predictions and not table.predictions[i] else _DONE
