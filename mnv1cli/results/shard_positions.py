"""The outcome of each image of a shard, for the merge of all shards."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError, ResumeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mnv1cli.inputs.shards import ShardSelection
    from mnv1cli.results.formats import Format
    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.types import ImageRef, OnError, Table

# One character per image, for the journal.
_DONE, _FAILED, _UNLABELLED = "dfu"


class PathDigest:
    """A digest of paths in their order, which can be continued from its value."""

    def __init__(self, value: str = "") -> None:
        self.value = value

    def add(self, path: bytes) -> None:
        """Add the next path."""
        self.value = hashlib.sha256(self.value.encode() + b"\0" + path).hexdigest()


class ShardPositions:
    """The positions of a shard's rows in the listing of all images; nothing without a shard.

    Raises:
        OptionError: results in this format cannot be merged.
    """

    def __init__(
        self, sharded: ShardSelection | None, form: Format, on_error: OnError, wide: bool = False
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
        """The shard, which must be the same in a run that goes on."""
        return str(self._sharded.shard) if self._sharded else None

    def state(self) -> dict[str, str]:
        """Return what `continue_from` takes, by the names of `Checkpoint`."""
        if self._sharded is None:
            return {}
        self._marks = ["".join(self._marks)]
        return {"marks": self._marks[0], "digest": self._digest.value}

    def continue_from(self, marks: str, digest: str) -> None:
        """Continue the notes of a run that was cut."""
        self._marks, self._digest = [marks], PathDigest(digest)

    def add(self, table: Table) -> None:
        """Note the outcome of the images that follow."""
        if self._sharded is None:
            return
        marks = [_mark(table, i) for i in range(len(table.paths))]
        self._marks += marks
        for path, mark in zip(table.paths, marks, strict=True):
            if mark not in self._without_row:
                self._digest.add(path)

    def add_to(self, metadata: RunMetadata) -> RunMetadata:
        """Return the metadata with the notes: `rows`, `failures` and `unlabelled` are positions.

        `rows` has those of the images that have a row, in their order, and `paths` a digest of
        these images' paths. Images that failed may have one, those without a label may have none.
        """
        if self._sharded is None:
            return metadata
        positions: dict[str, list[int]] = {_DONE: [], _FAILED: [], _UNLABELLED: []}
        rows = []
        marks = "".join(self._marks)
        for position, mark in zip(self._sharded.positions, marks, strict=True):
            positions[mark].append(position)
            if mark not in self._without_row:
                rows.append(position)
        shard = self._sharded.shard
        notes = {
            "index": shard.index,
            "count": shard.count,
            "total": self._sharded.total,
            "on_error": self._on_error,
            "paths": self._digest.value,
            "rows": rows,
            "failures": positions[_FAILED],
            "unlabelled": positions[_UNLABELLED],
        }
        return replace(metadata, shard=notes)

    def require_same_shard(
        self, file: object, metadata: RunMetadata | None, refs: Iterable[ImageRef]
    ) -> None:
        """Require that a result which is complete is of the shard and listing of this run.

        Raises:
            ResumeError: it is of another one.
        """
        if self._sharded is None:
            return
        # The total is known only once all images are listed.
        deque(refs, maxlen=0)
        notes = metadata.shard if metadata and isinstance(metadata.shard, dict) else {}
        now = self._sharded
        if (notes.get("index"), notes.get("count")) != (now.shard.index, now.shard.count):
            raise ResumeError(
                f"{file} is complete, and is not shard {now.shard}", "begin anew with --force"
            )
        positions = [notes.get(name) or [] for name in ("rows", "failures", "unlabelled")]
        same = all(isinstance(each, list) for each in positions)
        same = same and set(itertools.chain(*positions)) == set(now.positions)
        if notes.get("total") != now.total or not same:
            raise ResumeError(
                f"{file} is complete, and of another listing than that of {now.total:,} images",
                "begin all shards anew with --force",
            )


def _mark(table: Table, index: int) -> str:
    """Return the mark of an image of a table."""
    if table.errors[index]:
        return _FAILED
    return _UNLABELLED if table.predictions and not table.predictions[index] else _DONE
