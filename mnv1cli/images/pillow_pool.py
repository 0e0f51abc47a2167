"""Images through Pillow in a pool of threads: for the first ones, and where TensorFlow is not."""

from __future__ import annotations

from itertools import count, takewhile
from typing import TYPE_CHECKING

import numpy as np

from mnv1cli.errors import ImageError
from mnv1cli.images import decode, file
from mnv1cli.system.threads import chunks, ordered_map
from mnv1cli.types import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

# The first batches are small, so that a handful of images is spread over the cores.
_FIRST = 2


def batches(
    refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int, workers: int
) -> Iterator[Batch]:
    """Read, decode and batch images, in the order of `refs`, ahead of the consumer.

    An image that cannot be read stands in its batch with a reason. What the
    iterator over `refs` raises is raised here, in its turn.
    """

    def load(some: Sequence[ImageRef]) -> Batch:
        return _batch(some, spec)

    growing = takewhile(lambda size: size < batch_size, (_FIRST << i for i in count()))
    first = [size for size in growing for _ in range(workers)]
    return ordered_map(load, chunks(refs, batch_size, first), workers, ahead=workers)


def _batch(refs: Sequence[ImageRef], spec: PixelSpec) -> Batch:
    reasons = []
    found = np.empty((len(refs), spec.size, spec.size, 3), np.float32)
    good = 0
    for ref in refs:
        try:
            read(ref, spec, found[good])
        except ImageError as error:
            reasons.append(str(error))
        else:
            reasons.append("")
            good += 1
    return Batch(tuple(ref.path for ref in refs), tuple(reasons), found[:good])


def read(ref: ImageRef, spec: PixelSpec, out: FloatArray) -> None:
    """Pixels of one image into `out`, float32 [size, size, 3].

    Raises:
        ImageError: it cannot be read.
    """
    if ref.problem:
        raise ImageError(ref.problem)
    if ref.source is not None:
        decode.from_memory(ref.source, spec, out)
    else:
        decode.load(file.content(ref, spec.max_bytes), spec, out)
