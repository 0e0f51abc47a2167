"""Mutated photos through both decoders: each is refused by both, or gives the same pixels.

    python -m tests.fuzz.both_decoders PHOTOS [COUNT [SEED]]

Says how many were refused and for what, and what was different or slow.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images import decode
from mnv1cli.images.tf_data import Stream
from mnv1cli.types import ImageRef, PixelSpec
from tests.fuzz.mutations import encode_forms, mutate
from tests.support.reading import find_differences, unpack_batches

SLOW_SECONDS = 2.0
SPEC = PixelSpec(64)


def main(photos: Path, count: int, seed: int) -> int:
    chance = random.Random(seed)
    files = sorted(photos.iterdir())
    reasons: Counter[str] = Counter()
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        refs = []
        for i in range(count):
            name, data = _choose_source(files, chance)
            harmed = mutate(data, seed * count + i)
            path = Path(folder, f"{i:06}-{name}")
            path.write_bytes(harmed)
            started = time.process_time()
            try:
                decode.load(harmed, SPEC)
                reasons["accepted"] += 1
            except ImageError as error:
                reasons[_describe_kind(str(error))] += 1
            if time.process_time() - started > SLOW_SECONDS:
                bad.append(f"slow: {path}")
            refs.append(ImageRef(i, os.fsencode(path)))
        results = list(unpack_batches(Stream(SPEC, 16, 2).load_batches(refs), SPEC))
        bad += [os.fsdecode(path) for path in find_differences(results, refs, SPEC)]
        for name in bad:
            kept = Path(tempfile.gettempdir(), "mnv1-different", Path(name).name)
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(Path(name.removeprefix("slow: ")).read_bytes())
    for reason, number in reasons.most_common():
        sys.stdout.write(f"{number:6} {reason}\n")
    sys.stdout.write(f"{count} files, {len(bad)} different or slow: {bad[:20]}\n")
    return len(bad)


def _choose_source(files: list[Path], chance: random.Random) -> tuple[str, bytes]:
    """Return a photo as it is, or in another form."""
    photo = chance.choice(files)
    if chance.random() < 0.5:
        return photo.name, photo.read_bytes()
    with Image.open(photo) as image:
        name, data = chance.choice(list(encode_forms(image).items()))
    return name, data


def _describe_kind(reason: str) -> str:
    return "".join("#" if c.isdigit() else c for c in reason)[:70]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    numbers = [int(word) for word in sys.argv[2:4]]
    sys.exit(main(Path(sys.argv[1]), *numbers, *[2000, 1][len(numbers) :]) > 0)
