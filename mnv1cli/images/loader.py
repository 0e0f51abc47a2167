"""Images as batches of pixels: through Pillow at once, through tf.data when there are many.

To import TensorFlow takes seconds and half a gigabyte, and tf.data is only a
little faster then. So Pillow begins; when there are so many images that it
pays, TensorFlow is made ready meanwhile, and takes over where Pillow stands.
Both give the same bits.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from mnv1cli.images import pillow_pool
from mnv1cli.images.tf_data import Stream
from mnv1cli.inputs import prefetch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from mnv1cli.types import Batch, ImageRef, PixelSpec

log = logging.getLogger(__name__)

# From so many images on it pays to import TensorFlow and make the graph, as measured
# on two cores: 3 s against 0.14 ms for each image. See examples/benchmark.
MANY = 25_000
# The same where TensorFlow is there already, for its engine or after compiling: 0.3 s.
MANY_WITH_TENSORFLOW = 2_000
# And they must be worth it: tf.data decodes photos of 100 kB faster, and is slower with
# pictures of 2 kB, of which it has more to hand around than to decode.
WORTH_BYTES = 50_000
_SAMPLE = 64


def batches(
    refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int, workers: int
) -> Iterator[Batch]:
    """Read, decode and batch images, in the order of `refs`, ahead of the consumer.

    Those in stores are asked for before they are decoded, many at once.
    An image that cannot be read stands in its batch with a reason. What the
    iterator over `refs` raises is raised here, in its turn. Batches hold at
    most `batch_size` images, and may hold fewer.
    """
    relay = _Relay(prefetch.ahead(refs, spec.max_bytes), spec, batch_size, workers)
    yield from pillow_pool.batches(relay.first(), spec, batch_size, workers)
    if relay.stream is not None:
        yield from relay.stream.batches(relay.rest)


class _Relay:
    """Hands the images over from Pillow to tf.data."""

    def __init__(
        self, refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int, workers: int
    ) -> None:
        self.rest = iter(refs)
        self.stream: Stream | None = None
        self._arguments = (spec, batch_size, workers)

    def first(self) -> Iterator[ImageRef]:
        """The images for Pillow: all if they are few, else those until the stream is ready."""
        many = MANY_WITH_TENSORFLOW if "tensorflow" in sys.modules else MANY
        last: deque[ImageRef] = deque(maxlen=_SAMPLE)
        for count, ref in enumerate(self.rest):
            last.append(ref)
            if count == many and _mean_bytes(last) >= WORTH_BYTES:
                # No daemon: Python must not come to its end in the midst of an import.
                threading.Thread(target=self._prepare, name="mnv1-tensorflow").start()
            yield ref
            if self.stream is not None:
                return

    def _prepare(self) -> None:
        try:
            self.stream = Stream(*self._arguments)
        except ImportError as error:
            log.info("TensorFlow cannot be imported (%s); Pillow decodes instead", error)


def _mean_bytes(refs: Collection[ImageRef]) -> float:
    """The mean length of the images' files; those that are in memory have none to decode."""
    total = 0
    for ref in refs:
        if ref.member is not None:
            # Of a store it is known when it was listed, or has been read.
            total += getattr(ref.member, "size", 0)
            continue
        with contextlib.suppress(OSError, ValueError):
            total += os.stat(ref.path).st_size if ref.source is None else 0
    return total / len(refs)
