"""Images as batches of pixels, decoded in a pool of threads."""

from __future__ import annotations

import threading
from itertools import count, takewhile
from typing import TYPE_CHECKING

import numpy as np

from mnv1cli.errors import ImageError
from mnv1cli.images import decode, file
from mnv1cli.images.info import read_info
from mnv1cli.images.resize import GroupResize, crop_and_resize
from mnv1cli.inputs import prefetch
from mnv1cli.system.threads import ordered_map, split_into_chunks
from mnv1cli.types import Batch, ImageInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

# Images in the first batches: few, so that a handful of images is spread over the cores.
_FIRST_BATCH = 2
# Images that are resized together, in which more threads than a few get less into each other's way.
_GROUP = 4
_FEW_WORKERS = 4


def load_batches(
    refs: Iterable[ImageRef],
    spec: PixelSpec,
    batch_size: int,
    workers: int,
    with_info: bool = False,
) -> Iterator[Batch]:
    """Read, decode and batch images, in the order of `refs`, ahead of the consumer.

    Images in stores are requested before they are decoded, many at once. An
    image that cannot be read is in its batch with a reason and without pixels.
    What the iterator over `refs` raises is raised here, in its turn. Batches
    hold at most `batch_size` images, and may hold fewer.
    """

    def load(refs: Sequence[ImageRef]) -> Batch:
        return load_batch(refs, spec, with_info, workers=workers)

    chunks = split_refs(refs, spec, batch_size, workers)
    return ordered_map(load, chunks, workers, ahead=workers)


def split_refs(
    refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int, workers: int
) -> Iterator[list[ImageRef]]:
    """Split refs into those of each batch, small ones first; those in stores are read ahead."""
    growing = takewhile(lambda size: size < batch_size, (_FIRST_BATCH << i for i in count()))
    first_sizes = [size for size in growing for _ in range(workers)]
    ahead = prefetch.prefetch_remote(refs, spec.max_bytes)
    return split_into_chunks(ahead, batch_size, first_sizes)


def load_batch(
    refs: Sequence[ImageRef],
    spec: PixelSpec,
    with_info: bool = False,
    buffer: PixelBuffer | None = None,
    workers: int = 1,
) -> Batch:
    """Read and decode the images of a batch, one after the other.

    With a `buffer` the pixels are overwritten by the next batch in the same thread. `workers` is
    the number of threads that do this at once.
    """
    reasons, warnings, image_info = [], [], []
    pixels = (buffer or PixelBuffer()).reserve(len(refs), spec.size)
    resize = GroupResize(pixels, spec, _GROUP if workers > _FEW_WORKERS else 1)
    for ref in refs:
        info, warning = ImageInfo(), ""
        try:
            image = decode_image(ref, spec)
            info = read_info(ref, image) if with_info else info
        except ImageError as error:
            reasons.append(str(error))
        else:
            reasons.append("")
            warning = image.warning
            resize.add(image.rgbx)
        warnings.append(warning)
        image_info.append(info)
    return Batch(
        tuple(ref.path for ref in refs),
        tuple(reasons),
        resize.finish(),
        tuple(image_info) if with_info else (),
        tuple(warnings) if spec.accepts_damaged else (),
    )


class PixelBuffer(threading.local):
    """The pixels of a batch, for each thread its own.

    Fresh pages each time would cost almost as much as the resize.
    """

    def __init__(self) -> None:
        self._pixels = np.empty((0, 0, 0, 3), np.float32)

    def reserve(self, count: int, size: int) -> FloatArray:
        """Return float32 [count, size, size, 3] with any values."""
        if len(self._pixels) < count or self._pixels.shape[1] != size:
            self._pixels = np.empty((count, size, size, 3), np.float32)
        return self._pixels[:count]


def load_image(ref: ImageRef, spec: PixelSpec, out: FloatArray) -> decode.DecodedImage:
    """Write the pixels of an image to `out`, float32 [size, size, 3] in [0, 1].

    The pixels of the result are those of the next image as soon as there is one.

    Raises:
        ImageError: the image cannot be read.
    """
    image = decode_image(ref, spec)
    crop_and_resize(image.rgbx, spec, out)
    return image


def decode_image(ref: ImageRef, spec: PixelSpec) -> decode.DecodedImage:
    """Read and decode an image; its pixels are those of the next one as soon as there is one.

    Raises:
        ImageError: the image cannot be read.
    """
    if ref.problem:
        raise ImageError(ref.problem)
    if ref.source is not None:
        return decode.decode_from_memory(ref.source, spec)
    return decode.decode(file.read_image(ref, spec.max_bytes), spec, True, ref.path)
