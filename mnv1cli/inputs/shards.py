"""A listing in parts that machines do by themselves, and that are one again afterwards."""

from __future__ import annotations

import hashlib
import re
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from mnv1cli.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.types import ImageRef

_NUMBERS = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_HASHED = 8


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One of `count` parts, by `index` from 0; which images are in it depends on their paths alone.

    An image is in the shard that the first 8 bytes of its path's sha256, as a
    number with the highest byte first, leave as the remainder by `count`.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise OptionError(f"there is no shard {self}", "of N shards they are 0/N to N-1/N")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that I/N names.

        Raises:
            OptionError: there is none such.
        """
        found = _NUMBERS.fullmatch(text)
        if found is None:
            raise OptionError(f"{text!r} is no shard", "say it as I/N, 0/8 to 7/8 for eight")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def contains(self, path: bytes) -> bool:
        """Whether the image that is reported as `path` is in it."""
        hashed = hashlib.sha256(path).digest()[:_HASHED]
        return int.from_bytes(hashed, "big") % self.count == self.index


class ShardSelection:
    """The images of one shard, taken out of a whole listing.

    `positions` is where each of them stands in the whole, counted from 0;
    `total` how many the whole has, both as far as it was gone through.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.positions = array("Q")
        self.total = 0

    def select(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """Those of `refs` that are in the shard."""
        for ref in refs:
            mine = self.shard.contains(ref.path)
            if mine:
                self.positions.append(self.total)
            self.total += 1
            if mine:
                yield ref
