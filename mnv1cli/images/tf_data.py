"""Many images decoded through tf.data, by the same steps as in `decode.py`.

JPEGs of 1 or 3 components, which are nearly all images, are decoded and resized
by TensorFlow's own ops. Everything else is decoded by `decode.py`, because
TensorFlow's decoders differ from Pillow's on CMYK JPEG, 16-bit PNG and palette
BMP, and know neither TIFF nor WebP.

Python reads the files and their headers, several at a time; what TensorFlow does
with each of them involves no Python.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import ImageError
from mnv1cli.images import decode, file
from mnv1cli.images.resize import SCALE, Frame, choose_reduction, plan_frame
from mnv1cli.system.threads import ordered_map, split_into_chunks
from mnv1cli.types import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

# Files that Python reads at a time: enough to hide the cost of a call between Python
# and TensorFlow, and few enough to hold in memory many times over.
_FILES_AT_ONCE = 8
# Decoded batches that wait for the model: enough to bridge the time of a slow file.
_WAITING_BATCHES = 2


@dataclass(slots=True)
class _PendingImage:
    """An image under way.

    It has a `plan` if TensorFlow decodes it, else `pixels`, float32 [size,
    size, 3], or the `reason` why it cannot be read.
    """

    ref: ImageRef
    data: bytes = b""
    plan: _JpegPlan | None = None
    pixels: FloatArray | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _JpegPlan:
    """The decoding of a JPEG by TensorFlow: at 1/`ratio`, then turned, cropped and placed."""

    ratio: int
    orientation: int
    frame: Frame

    def to_row(self) -> tuple[int, ...]:
        """Return the plan as the row of numbers that the graph takes."""
        f = self.frame
        place = (f.y, f.x, f.h, f.w, f.target_h, f.target_w, f.offset_y, f.offset_x)
        return (self.ratio, self.orientation, *place)


# The row of an image that TensorFlow does not decode.
_NO_PLAN = (0,) * 10


class Stream:
    """The tf.data graph for one pass over images; making it takes some time."""

    def __init__(self, spec: PixelSpec, batch_size: int, workers: int) -> None:
        self._spec = spec
        self._batch_size = batch_size
        self._workers = workers
        self._refs: Iterable[ImageRef] = ()
        # Images that are in the graph, in their order, and the number of the first.
        self._pending: deque[_PendingImage] = deque()
        self._first = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self._dataset = self._make_dataset()

    def load_batches(self, refs: Iterable[ImageRef]) -> Iterator[Batch]:
        """Read, decode and batch images, in the order of `refs`, ahead of the consumer.

        An image that cannot be read is in its batch with a reason and without
        pixels. What the iterator over `refs` raises is raised here, in its turn.
        """
        self._refs = refs
        try:
            for numbers, images in self._dataset.as_numpy_iterator():
                yield from _split_batch(
                    self._make_batch(numbers.tolist(), images), self._batch_size
                )
            if self._pending:
                no_pixels = np.empty((0, self._spec.size, self._spec.size, 3), np.float32)
                yield from _split_batch(
                    self._make_batch([], no_pixels, drain=True), self._batch_size
                )
            if self._failure is not None:
                raise self._failure
        finally:
            self._stopped = True

    def _make_dataset(self) -> Any:
        import tensorflow as tf

        signature = (tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 11], tf.int64))
        data = tf.data.Dataset.from_generator(self._feed, output_signature=signature)
        # There is no Python in `_decode` to convert, and converting leaves files behind.
        decode_image = tf.autograph.experimental.do_not_convert(self._decode)
        data = data.unbatch().map(
            decode_image, num_parallel_calls=self._workers, deterministic=True
        )
        # What TensorFlow's JPEG decoder refuses is dropped here; `_make_batch` sees the gap.
        data = data.ignore_errors().batch(self._batch_size).prefetch(_WAITING_BATCHES)
        options = tf.data.Options()
        # A fixed number of workers: tf.data's own tuning takes longer than most runs, and
        # sometimes settles on half the speed. Two threads more than workers, one to feed
        # them and one to wait.
        options.autotune.enabled = False
        options.threading.private_threadpool_size = self._workers + 2
        return data.with_options(options)

    def _feed(self) -> Iterator[tuple[Any, Any]]:
        """Yield the images to the graph, and keep what the refs raise for the consumer."""
        number = 0
        files = split_into_chunks(self._refs, _FILES_AT_ONCE)
        try:
            for images in ordered_map(self._open_all, files, self._workers, ahead=1):
                if self._stopped:
                    return
                rows = [image.plan.to_row() if image.plan else _NO_PLAN for image in images]
                numbered = [(number + i, *row) for i, row in enumerate(rows)]
                data = np.array([image.data for image in images] + [b""], object)[:-1]
                for image in images:
                    # From here on TensorFlow holds the bytes.
                    image.data = b""
                self._pending.extend(images)
                number += len(images)
                yield data, np.array(numbered, np.int64)
        except BaseException as error:  # noqa: BLE001 - raised again by `load_batches`
            self._failure = error

    def _open_all(self, refs: Sequence[ImageRef]) -> list[_PendingImage]:
        return [self._open(ref) for ref in refs]

    def _open(self, ref: ImageRef) -> _PendingImage:
        """Read a file and its header, and decode what TensorFlow cannot."""
        try:
            if ref.problem:
                return _PendingImage(ref, reason=ref.problem)
            if ref.source is not None:
                return _PendingImage(ref, pixels=decode.load_from_memory(ref.source, self._spec))
            data = file.read_image(ref, self._spec.max_bytes)
            header = decode.read_plain_jpeg(data, self._spec)
            if header is None:
                return _PendingImage(ref, pixels=decode.load(data, self._spec))
            return _PendingImage(ref, header.data, self._plan(header))
        except ImageError as error:
            return _PendingImage(ref, reason=str(error))

    def _plan(self, header: decode.JpegHeader) -> _JpegPlan:
        ratio = choose_reduction(header.height, header.width, self._spec)
        # libjpeg rounds the reduced size up.
        h, w = -(-header.height // ratio), -(-header.width // ratio)
        if header.orientation >= 5:
            h, w = w, h
        return _JpegPlan(ratio, header.orientation, plan_frame(h, w, self._spec))

    def _decode(self, data: Any, row: Any) -> tuple[Any, Any]:
        """Make the graph for an image: its number and its pixels, zeros if it has no plan."""
        import tensorflow as tf

        size = self._spec.size
        number, ratio, orientation, *frame = tf.unstack(row)
        image = tf.cond(
            tf.equal(ratio, 0),
            lambda: tf.zeros([size, size, 3]),
            lambda: _decode_jpeg(data, ratio, orientation, frame, size),
        )
        image.set_shape([size, size, 3])
        return number, image

    def _make_batch(self, numbers: list[int], images: FloatArray, drain: bool = False) -> Batch:
        """Put a batch's images back beside their refs, including those that were dropped."""
        batch: list[_PendingImage] = []
        for number, image in zip(numbers, images, strict=True):
            while self._first != number:
                batch.append(self._decode_again())
            pending = self._take_first()
            batch.append(pending)
            if pending.plan is not None:
                pending.pixels = image
        while drain and self._pending:
            batch.append(self._decode_again())
        paths = tuple(image.ref.path for image in batch)
        reasons = tuple(image.reason for image in batch)
        if len(batch) == len(images) and all(pending.plan is not None for pending in batch):
            return Batch(paths, reasons, images)
        rows = [pending.pixels for pending in batch if pending.pixels is not None]
        return Batch(paths, reasons, np.stack(rows) if rows else images[:0])

    def _take_first(self) -> _PendingImage:
        """Remove the first pending image, and return it."""
        self._first += 1
        return self._pending.popleft()

    def _decode_again(self) -> _PendingImage:
        """Decode with Pillow what TensorFlow refused: for the reason, or for its pixels.

        As far as is known both refuse the same files, except the largest: TensorFlow
        accepts no JPEG of more than 2**29 bytes unpacked. Pillow decides.
        """
        ref = self._take_first().ref
        try:
            data = file.read_image(ref, self._spec.max_bytes)
            return _PendingImage(ref, pixels=decode.load(data, self._spec))
        except ImageError as error:
            return _PendingImage(ref, reason=str(error))


def _split_batch(batch: Batch, size: int) -> Iterator[Batch]:
    """Split a batch into parts of `size`: it is larger where images were dropped from the graph."""
    if len(batch.paths) <= size:
        yield batch
        return
    row = 0
    for start in range(0, len(batch.paths), size):
        part = slice(start, start + size)
        end = row + batch.reasons[part].count("")
        yield Batch(batch.paths[part], batch.reasons[part], batch.pixels[row:end])
        row = end


def _decode_jpeg(data: Any, ratio: Any, orientation: Any, frame: list[Any], size: int) -> Any:
    """Decode a JPEG's bytes to pixels float32 [size, size, 3], in TensorFlow's ops."""
    import tensorflow as tf

    def make_decoder(r: int) -> Any:
        # INTEGER_ACCURATE is the method of Pillow; the bits of the default method differ.
        return lambda: tf.io.decode_jpeg(data, channels=3, ratio=r, dct_method="INTEGER_ACCURATE")

    halvings = tf.cast(tf.equal(ratio, 2), tf.int32) + 2 * tf.cast(tf.equal(ratio, 4), tf.int32)
    halvings += 3 * tf.cast(tf.equal(ratio, 8), tf.int32)
    rgb = tf.switch_case(halvings, [make_decoder(r) for r in (1, 2, 4, 8)])
    rgb = tf.cond(tf.equal(orientation, 1), lambda: rgb, lambda: _turn(rgb, orientation))
    y, x, h, w, target_h, target_w, offset_y, offset_x = frame
    crop = rgb[y : y + h, x : x + w]
    target = tf.cast(tf.stack([target_h, target_w]), tf.int32)
    image = tf.raw_ops.ResizeBilinear(images=crop[None], size=target)[0] * SCALE

    def pad() -> Any:
        below, right = size - target_h - offset_y, size - target_w - offset_x
        margins = [[offset_y, below], [offset_x, right], [0, 0]]
        return tf.pad(image, margins, constant_values=0.5)

    fills = tf.logical_and(tf.equal(target_h, size), tf.equal(target_w, size))
    return tf.cond(fills, lambda: image, pad)


def _turn(rgb: Any, orientation: Any) -> Any:
    """Apply an EXIF orientation, 2 to 8, to [h, w, c]."""
    import tensorflow as tf

    axes = {2: [1], 3: [0, 1], 4: [0], 5: [], 6: [1], 7: [0, 1], 8: [0]}

    def make_turn(turn: int) -> Any:
        def apply() -> Any:
            image = tf.transpose(rgb, [1, 0, 2]) if turn >= 5 else rgb
            return tf.reverse(image, axes[turn]) if axes[turn] else image

        return apply

    return tf.switch_case(tf.cast(orientation, tf.int32) - 2, [make_turn(turn) for turn in axes])
