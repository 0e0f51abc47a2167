"""Photos damaged as disks and networks damage them: how many get another label unnoticed.

    python -m tests.fuzz.damage PHOTOS... [--count N] [--seed N]

For each kind of damage it prints the number of photos that it fits, of those that were
accepted, of those whose first label changed, and of those that were refused but for
`--damaged accept`, which gives them a row and a warning. The exit code is 1 where too many
labels changed, or too few of the refused photos have a row with that option.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnv1cli.errors import ImageError
from mnv1cli.images import decode
from mnv1cli.inference.predictor import Predictor
from mnv1cli.types import PixelSpec, Task
from tests.support.pixels import load_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mnv1cli.types import FloatArray

END = b"\xff\xd9"
PAGE = 4096
LOST = 2000


def find_pixels(data: bytes) -> tuple[int, int]:
    """Find the first byte of the coded pixels of a JPEG, and the one behind the last."""
    scan = data.rindex(b"\xff\xda")
    return scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big"), data.rindex(END)


def flip_bit(data: bytes, chance: random.Random) -> bytes:
    """Flip a bit of the coded pixels."""
    harmed = bytearray(data)
    harmed[chance.randrange(*find_pixels(data))] ^= 1 << chance.randrange(8)
    return bytes(harmed)


def zero_page(data: bytes, chance: random.Random) -> bytes | None:
    """Zero a page of the file that is within the coded pixels, if there is one."""
    start, end = find_pixels(data)
    pages = range(-(-start // PAGE) * PAGE, end - PAGE + 1, PAGE)
    if not pages:
        return None
    place = chance.choice(pages)
    return data[:place] + bytes(PAGE) + data[place + PAGE :]


def cut_quarter(data: bytes, chance: random.Random) -> bytes:
    """Cut a file after its first quarter, and close it."""
    return data[: len(data) // 4] + END


def lose_middle(data: bytes, chance: random.Random) -> bytes | None:
    """Lose bytes near the middle of the coded pixels, if there are enough."""
    start, end = find_pixels(data)
    if end - start < 2 * LOST:
        return None
    place = (start + end - LOST) // 2 + chance.randrange(-LOST // 4, LOST // 4)
    return data[:place] + data[place + LOST :]


KINDS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "one bit flipped": flip_bit,
    "a page of 4 KiB zeroed": zero_page,
    "cut at a quarter, closed": cut_quarter,
    "2,000 bytes missing": lose_middle,
}
# The photos of 500 that may be accepted with another label. Not every flipped bit shows.
ALLOWED = dict(zip(KINDS, (20, 5, 5, 5), strict=True))
# The share of the refused photos that are accepted where this is wanted.
SHARE = 0.95
SPEC = PixelSpec(128)


class Outcome(NamedTuple):
    """The numbers of photos that were damaged, accepted, and accepted with another label.

    `warned` counts those that are refused, and accepted with a warning where this is wanted.
    """

    damaged: int
    accepted: int
    changed: int
    warned: int

    @property
    def share(self) -> float:
        """The share of the refused photos that are accepted where this is wanted."""
        refused = self.damaged - self.accepted
        return self.warned / refused if refused else 1.0


def measure(photos: Sequence[bytes], kind: str, count: int, seed: int = 0) -> Outcome:
    """Damage `count` photos in the same way, and compare their labels with the right ones."""
    pixels: list[FloatArray] = []
    owners: list[int] = []
    damaged, warned = 0, 0
    for i in range(count):
        harmed = KINDS[kind](photos[i % len(photos)], random.Random(f"{kind} {seed} {i}"))
        if harmed is None:
            continue
        damaged += 1
        try:
            pixels.append(load_pixels(harmed, SPEC))
            owners.append(i % len(photos))
        except ImageError as error:
            warned += is_accepted(harmed, str(error))
    if not pixels:
        return Outcome(damaged, 0, 0, warned)
    labels = compute_labels(pixels)
    expected = compute_labels([load_pixels(photos[i], SPEC) for i in owners])
    return Outcome(damaged, len(pixels), int((labels != expected).sum()), warned)


def is_accepted(data: bytes, reason: str) -> bool:
    """Return whether a refused photo can be accepted, with the reason as its warning."""
    try:
        return decode.decode(data, replace(SPEC, damaged="accept")).warning == reason
    except ImageError:
        return False


def compute_labels(pixels: Sequence[FloatArray]) -> np.ndarray:
    """Compute the first label of each image, with the bundled module."""
    job = Predictor("bundled").make_job(Task("logits"))
    batches = [np.stack(pixels[i : i + 16]) for i in range(0, len(pixels), 16)]
    return np.concatenate([job.model(batch)[job.output].argmax(axis=1) for batch in batches])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    photos = [file.read_bytes() for path in options.photos for file in sorted(path.iterdir())]
    is_bad = False
    for kind, allowed in ALLOWED.items():
        outcome = measure(photos, kind, options.count, options.seed)
        numbers = f"{outcome.damaged:6} {outcome.accepted:9} {outcome.changed:8}"
        sys.stdout.write(
            f"{kind:26}{numbers} of at most {allowed * options.count // 500}; "
            f"with --damaged accept {outcome.warned} of {outcome.damaged - outcome.accepted} "
            f"refused ones ({100 * outcome.share:.1f} %)\n"
        )
        is_bad |= outcome.changed > allowed * options.count / 500 or outcome.share < SHARE
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
