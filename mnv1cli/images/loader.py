"""Images as batches of pixels: decoded by Pillow at first, and by tf.data when there are many.

Importing TensorFlow takes seconds and half a gigabyte, and tf.data is only a
little faster afterwards. So Pillow begins. When there are so many images that
it pays, TensorFlow is prepared in the background and takes over where Pillow
has got to. Both give the same bits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from itertools import count, takewhile
from typing import TYPE_CHECKING

import numpy as np

from mnv1cli.errors import ImageError
from mnv1cli.images import decode, file
from mnv1cli.images.tf_data import Stream
from mnv1cli.inputs import prefetch
from mnv1cli.system.threads import ordered_map, split_into_chunks
from mnv1cli.types import Batch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

log = logging.getLogger(__name__)

# From this number of images on it pays to import TensorFlow and to make the graph, as
# measured on two cores: 3 s against 0.14 ms per image. See examples/benchmark.
MIN_IMAGES = 25_000
# The same where TensorFlow is imported already, for its engine or after compiling: 0.3 s.
MIN_IMAGES_WITH_TENSORFLOW = 2_000
# The mean size of a file from which on it pays: tf.data decodes photos of 100 kB faster, but
# is slower with images of 2 kB, which cost more to pass around than to decode.
MIN_MEAN_BYTES = 50_000
# The number of files whose mean size is measured.
_SAMPLE = 64
# Images in the first batches: few, so that a handful of images is spread over the cores.
_FIRST_BATCH = 2


def load_batches(
    refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int, workers: int
) -> Iterator[Batch]:
    """Read, decode and batch images, in the order of `refs`, ahead of the consumer.

    Images in stores are requested before they are decoded, many at once. An
    image that cannot be read is in its batch with a reason and without pixels.
    What the iterator over `refs` raises is raised here, in its turn. Batches
    hold at most `batch_size` images, and may hold fewer.
    """
    handover = _Handover(prefetch.prefetch_remote(refs, spec.max_bytes), spec, batch_size, workers)
    yield from load_with_pillow(handover.take_until_ready(), spec, batch_size, workers)
    if handover.stream is not None:
        yield from handover.stream.load_batches(handover.refs)


def load_with_pillow(
    refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int, workers: int
) -> Iterator[Batch]:
    """Do the same in a pool of threads, with Pillow only."""

    def load(refs: Sequence[ImageRef]) -> Batch:
        return _load_batch(refs, spec)

    growing = takewhile(lambda size: size < batch_size, (_FIRST_BATCH << i for i in count()))
    first_sizes = [size for size in growing for _ in range(workers)]
    return ordered_map(
        load, split_into_chunks(refs, batch_size, first_sizes), workers, ahead=workers
    )


def _load_batch(refs: Sequence[ImageRef], spec: PixelSpec) -> Batch:
    reasons = []
    pixels = np.empty((len(refs), spec.size, spec.size, 3), np.float32)
    good = 0
    for ref in refs:
        try:
            load_image(ref, spec, pixels[good])
        except ImageError as error:
            reasons.append(str(error))
        else:
            reasons.append("")
            good += 1
    return Batch(tuple(ref.path for ref in refs), tuple(reasons), pixels[:good])


def load_image(ref: ImageRef, spec: PixelSpec, out: FloatArray) -> None:
    """Write the pixels of an image to `out`, float32 [size, size, 3] in [0, 1].

    Raises:
        ImageError: the image cannot be read.
    """
    if ref.problem:
        raise ImageError(ref.problem)
    if ref.source is not None:
        decode.load_from_memory(ref.source, spec, out)
    else:
        decode.load(file.read_image(ref, spec.max_bytes), spec, out)


class _Handover:
    """The images that are left in `refs`, and the stream that takes them over from Pillow."""

    def __init__(
        self, refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int, workers: int
    ) -> None:
        self.refs = iter(refs)
        self.stream: Stream | None = None
        self._arguments = (spec, batch_size, workers)

    def take_until_ready(self) -> Iterator[ImageRef]:
        """Yield the images for Pillow: all if they are few, else until the stream is ready."""
        loaded = "tensorflow" in sys.modules
        threshold = MIN_IMAGES_WITH_TENSORFLOW if loaded else MIN_IMAGES
        latest: deque[ImageRef] = deque(maxlen=_SAMPLE)
        for number, ref in enumerate(self.refs):
            latest.append(ref)
            if number == threshold and _measure_mean_bytes(latest) >= MIN_MEAN_BYTES:
                # No daemon: Python must not end in the middle of an import.
                threading.Thread(target=self._prepare, name="mnv1-tensorflow").start()
            yield ref
            if self.stream is not None:
                return

    def _prepare(self) -> None:
        try:
            self.stream = Stream(*self._arguments)
        except ImportError as error:
            log.info("TensorFlow cannot be imported (%s); Pillow decodes instead", error)


def _measure_mean_bytes(refs: Collection[ImageRef]) -> float:
    """Measure the mean size of the images' files; images in memory count as empty files."""
    total = 0
    for ref in refs:
        if ref.member is not None:
            # Stores tell the size with the listing; others know it once the file is read.
            total += getattr(ref.member, "size", 0)
            continue
        with contextlib.suppress(OSError, ValueError):
            total += os.stat(ref.path).st_size if ref.source is None else 0
    return total / len(refs)
