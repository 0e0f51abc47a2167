"""Shards: parts of a listing that machines process separately and that are merged afterwards."""

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
    """One of `count` parts, by `index` from 0; the path of an image decides which it is in.

    The first 8 bytes of the path's sha256 are a number, the highest byte first; its
    remainder by `count` is the index of the image's shard.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise OptionError(f"there is no shard {self}", "N shards are numbered 0/N to N-1/N")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse I/N.

        Raises:
            OptionError: it is not of this form, or there is no such shard.
        """
        numbers = _NUMBERS.fullmatch(text)
        if numbers is None:
            raise OptionError(f"{text!r} is not a shard", "write it as I/N: 0/8 to 7/8 for eight")
        return cls(int(numbers[1]), int(numbers[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def contains(self, path: bytes) -> bool:
        """Return whether the image that is reported as `path` is in the shard."""
        hashed = hashlib.sha256(path).digest()[:_HASHED]
        return int.from_bytes(hashed, "big") % self.count == self.index


class ShardSelection:
    """The images of one shard, selected from a whole listing.

    `positions` are those of the selected images in the whole listing, counted from 0;
    `total` is the number of all images; both as far as the listing was iterated.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.positions = array("Q")
        self.total = 0

    def select(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """Yield those of `refs` that are in the shard."""
        for ref in refs:
            is_selected = self.shard.contains(ref.path)
            if is_selected:
                self.positions.append(self.total)
            self.total += 1
            if is_selected:
                yield ref
