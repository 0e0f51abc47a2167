"""The order of merged results: shards by position, other results one after the other."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mnv1cli.errors import ResultError
from mnv1cli.path_text import display_path
from mnv1cli.results.merge.shards import AllShards

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mnv1cli.results.merge.part import Part
    from mnv1cli.types import Fault, Table


class OrderedParts(Protocol):
    """Parts that fit together, in the order of the merged result."""

    parts: Sequence[Part]

    def tables(self, shape: tuple[int, ...]) -> Iterator[Table]:
        """Yield all rows in order, with values of this shape."""
        ...

    def failures(self) -> list[Fault]:
        """Return the images that failed, in order, with the reasons."""
        ...


def order_parts(parts: Sequence[Part]) -> OrderedParts:
    """Put the parts in order.

    Raises:
        ResultError: a shard or an image is missing, or exists twice.
    """
    shards = [part for part in parts if part.positions is not None]
    if not shards:
        return Sequel(parts)
    if len(shards) < len(parts):
        other = next(part for part in parts if part.positions is None)
        raise ResultError(
            f"{shards[0].name} is a shard and {other.name} is none",
            "merge only shards, and their result with others",
        )
    return AllShards(shards)


class Sequel:
    """Results of different images, one after the other.

    Where an image failed in one of them and is in a later one, the later outcome counts.

    Raises:
        ResultError: two of them have the same image.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        # Of each image that failed and has no row: the last part where it did.
        self._failed = {
            fault.path: number
            for number, part in enumerate(parts)
            if not part.has_faults
            for fault in part.failures
        }
        self._mended: set[tuple[int, bytes]] = set()
        self._require_each_image_once()

    def tables(self, shape: tuple[int, ...]) -> Iterator[Table]:
        """Return all rows, in the order of the parts."""
        return itertools.chain.from_iterable(part.tables(shape) for part in self.parts)

    def failures(self) -> list[Fault]:
        """Return the images that failed and are in no later part."""
        return [
            fault
            for number, part in enumerate(self.parts)
            for fault in part.failures
            if part.has_faults
            or (self._failed[fault.path] == number and (number, fault.path) not in self._mended)
        ]

    def _require_each_image_once(self) -> None:
        digests = np.sort(
            np.concatenate([self._digests(number, part) for number, part in enumerate(self.parts)])
        )
        for digest in digests[1:][digests[1:] == digests[:-1]]:
            self._refuse_twice(int(digest))

    def _digests(self, number: int, part: Part) -> NDArray[np.uint64]:
        """Return a number for each image with a row in a part, once."""
        return np.unique(np.fromiter(map(_digest, self._watch(number, part)), np.uint64))

    def _watch(self, number: int, part: Part) -> Iterator[bytes]:
        """Yield the images with rows in a part, and note which of them failed earlier."""
        for path in part.paths():
            failed = self._failed.get(path)
            if failed is not None and failed > number:
                raise _in_both(path, part, self.parts[failed])
            if failed is not None and failed < number:
                self._mended.add((failed, path))
            yield path

    def _refuse_twice(self, digest: int) -> None:
        """Refuse an image that two parts have, unless two images only have the same digest."""
        first: dict[bytes, Part] = {}
        for part in self.parts:
            for path in part.paths():
                if _digest(path) == digest and first.setdefault(path, part) is not part:
                    raise _in_both(path, first[path], part)


def _digest(path: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "big")


def _in_both(path: bytes, first: Part, second: Part) -> ResultError:
    return ResultError(
        f"{display_path(path)} is in {first.name} and in {second.name}",
        "merge results of different images",
    )
