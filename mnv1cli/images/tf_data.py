"""Many images through tf.data, by the same chain as `pixels.py`.

JPEG of 1 or 3 components, nearly all there is, is decoded and resized by
TensorFlow's own ops. Everything else is decoded by `pixels.py`, because
TensorFlow's decoders differ from Pillow's on CMYK JPEG, 16-bit PNG and palette
BMP, and know neither TIFF nor WebP.

Python reads the files and their headers, several at a time; it has no part in
what TensorFlow does with each of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import ImageError
from mnv1cli.images import decode, file
from mnv1cli.images.resize import SCALE, Frame, choose_reduction, plan_frame
from mnv1cli.system.threads import chunks, ordered_map
from mnv1cli.types import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

# Files that Python reads in one go: enough to hide what a call between Python
# and TensorFlow costs, few enough to hold in memory many times over.
_FILES_AT_ONCE = 8
# Decoded batches that wait for the model: enough to bridge a slow file.
_WAITING_BATCHES = 2


@dataclass(slots=True)
class _PendingImage:
    """One image on its way: `geometry` where TensorFlow decodes it, else pixels or a reason."""

    ref: ImageRef
    data: bytes = b""
    geometry: _JpegPlan | None = None
    pixels: FloatArray | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _JpegPlan:
    """How TensorFlow decodes a JPEG: at 1/`ratio`, then turned, then cut and placed."""

    ratio: int
    orientation: int
    frame: Frame

    def numbers(self) -> tuple[int, ...]:
        """As the row that goes into the graph."""
        f = self.frame
        place = (f.y, f.x, f.h, f.w, f.target_h, f.target_w, f.offset_y, f.offset_x)
        return (self.ratio, self.orientation, *place)


# The row of an image that TensorFlow has no part in.
_NOTHING = (0,) * 10


class Stream:
    """The tf.data graph for one pass over images; making it takes some time."""

    def __init__(self, spec: PixelSpec, batch_size: int, workers: int) -> None:
        self._spec = spec
        self._batch_size = batch_size
        self._workers = workers
        self._refs: Iterable[ImageRef] = ()
        # Images that are in the graph, in their order, and the number of the first.
        self._under_way: deque[_PendingImage] = deque()
        self._first = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self._dataset = self._graph()

    def load_batches(self, refs: Iterable[ImageRef]) -> Iterator[Batch]:
        """Read, decode and batch images, in the order of `refs`, ahead of the consumer.

        An image that cannot be read stands in its batch with a reason. What the
        iterator over `refs` raises is raised here, in its turn.
        """
        self._refs = refs
        try:
            for numbers, images in self._dataset.as_numpy_iterator():
                yield from _split_batch(self._batch(numbers.tolist(), images), self._batch_size)
            if self._under_way:
                nothing = np.empty((0, self._spec.size, self._spec.size, 3), np.float32)
                yield from _split_batch(self._batch([], nothing, drain=True), self._batch_size)
            if self._failure is not None:
                raise self._failure
        finally:
            self._stopped = True

    def _graph(self) -> Any:
        import tensorflow as tf

        signature = (tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 11], tf.int64))
        data = tf.data.Dataset.from_generator(self._feed, output_signature=signature)
        # There is no Python in `_image` to convert, and converting leaves files behind.
        image = tf.autograph.experimental.do_not_convert(self._image)
        data = data.unbatch().map(image, num_parallel_calls=self._workers, deterministic=True)
        # What TensorFlow's JPEG decoder refuses falls out here; `_batch` sees the gap.
        data = data.ignore_errors().batch(self._batch_size).prefetch(_WAITING_BATCHES)
        options = tf.data.Options()
        # A fixed number of workers: tf.data's own tuning needs longer than most runs
        # take, and sometimes settles on half the speed. Two more threads than workers,
        # for what feeds them and what waits.
        options.autotune.enabled = False
        options.threading.private_threadpool_size = self._workers + 2
        return data.with_options(options)

    def _feed(self) -> Iterator[tuple[Any, Any]]:
        """Give the graph its images, and keep what the refs raise for the consumer."""
        number = 0
        files = chunks(self._refs, _FILES_AT_ONCE)
        try:
            for opened in ordered_map(self._open, files, self._workers, ahead=1):
                if self._stopped:
                    return
                rows = [(*(o.geometry.numbers() if o.geometry else _NOTHING),) for o in opened]
                numbered = [(number + i, *row) for i, row in enumerate(rows)]
                data = np.array([o.data for o in opened] + [b""], object)[:-1]
                for o in opened:
                    # From here on TensorFlow holds the bytes.
                    o.data = b""
                self._under_way.extend(opened)
                number += len(opened)
                yield data, np.array(numbered, np.int64)
        except BaseException as error:  # noqa: BLE001 - raised again by `batches`
            self._failure = error

    def _open(self, refs: Sequence[ImageRef]) -> list[_PendingImage]:
        return [self._opened(ref) for ref in refs]

    def _opened(self, ref: ImageRef) -> _PendingImage:
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
            return _PendingImage(ref, header.data, self._geometry(header))
        except ImageError as error:
            return _PendingImage(ref, reason=str(error))

    def _geometry(self, header: decode.JpegHeader) -> _JpegPlan:
        ratio = choose_reduction(header.height, header.width, self._spec)
        # libjpeg rounds the reduced size up.
        h, w = -(-header.height // ratio), -(-header.width // ratio)
        if header.orientation >= 5:
            h, w = w, h
        return _JpegPlan(ratio, header.orientation, plan_frame(h, w, self._spec))

    def _image(self, data: Any, row: Any) -> tuple[Any, Any]:
        """The graph for one image: its number and its pixels, zeros where it has no part in it."""
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

    def _batch(self, numbers: list[int], images: FloatArray, drain: bool = False) -> Batch:
        """Put a batch's images back beside their refs, those that fell out included."""
        opened: list[_PendingImage] = []
        rows: list[FloatArray] = []
        for number, image in zip(numbers, images, strict=True):
            while self._first != number:
                opened.append(self._second_look())
            found = self._taken()
            opened.append(found)
            if found.geometry is not None:
                found.pixels = image
        while drain and self._under_way:
            opened.append(self._second_look())
        paths = tuple(o.ref.path for o in opened)
        reasons = tuple(o.reason for o in opened)
        if len(opened) == len(images) and all(o.geometry is not None for o in opened):
            return Batch(paths, reasons, images)
        rows = [o.pixels for o in opened if o.pixels is not None]
        return Batch(paths, reasons, np.stack(rows) if rows else images[:0])

    def _taken(self) -> _PendingImage:
        """The first of the images under way, which is under way no more."""
        self._first += 1
        return self._under_way.popleft()

    def _second_look(self) -> _PendingImage:
        """Decode with Pillow what TensorFlow refused: for its reason, or for its pixels.

        Both refuse the same files, as far as is known, but for the largest: TensorFlow
        takes no JPEG of more than 2**29 bytes unpacked. Pillow has the last word.
        """
        ref = self._taken().ref
        try:
            data = file.read_image(ref, self._spec.max_bytes)
            return _PendingImage(ref, pixels=decode.load(data, self._spec))
        except ImageError as error:
            return _PendingImage(ref, reason=str(error))


def _split_batch(batch: Batch, size: int) -> Iterator[Batch]:
    """The batch in parts of `size`: it is larger where images fell out of the graph."""
    if len(batch.paths) <= size:
        yield batch
        return
    row = 0
    for start in range(0, len(batch.paths), size):
        some = slice(start, start + size)
        end = row + batch.reasons[some].count("")
        yield Batch(batch.paths[some], batch.reasons[some], batch.pixels[row:end])
        row = end


def _decode_jpeg(data: Any, ratio: Any, orientation: Any, frame: list[Any], size: int) -> Any:
    """Pixels float32 [size, size, 3] of a JPEG's bytes, in TensorFlow's ops."""
    import tensorflow as tf

    def decoder(r: int) -> Any:
        # INTEGER_ACCURATE is the method that Pillow uses; the default's bits differ.
        return lambda: tf.io.decode_jpeg(data, channels=3, ratio=r, dct_method="INTEGER_ACCURATE")

    halvings = tf.cast(tf.equal(ratio, 2), tf.int32) + 2 * tf.cast(tf.equal(ratio, 4), tf.int32)
    halvings += 3 * tf.cast(tf.equal(ratio, 8), tf.int32)
    rgb = tf.switch_case(halvings, [decoder(r) for r in (1, 2, 4, 8)])
    rgb = tf.cond(tf.equal(orientation, 1), lambda: rgb, lambda: _turn(rgb, orientation))
    y, x, h, w, target_h, target_w, offset_y, offset_x = frame
    crop = rgb[y : y + h, x : x + w]
    target = tf.cast(tf.stack([target_h, target_w]), tf.int32)
    image = tf.raw_ops.ResizeBilinear(images=crop[None], size=target)[0] * SCALE

    def padded() -> Any:
        below, right = size - target_h - offset_y, size - target_w - offset_x
        margins = [[offset_y, below], [offset_x, right], [0, 0]]
        return tf.pad(image, margins, constant_values=0.5)

    whole = tf.logical_and(tf.equal(target_h, size), tf.equal(target_w, size))
    return tf.cond(whole, lambda: image, padded)


def _turn(rgb: Any, orientation: Any) -> Any:
    """Apply an EXIF orientation, 2 to 8, to [h, w, c]."""
    import tensorflow as tf

    axes = {2: [1], 3: [0, 1], 4: [0], 5: [], 6: [1], 7: [0, 1], 8: [0]}

    def turned(turn: int) -> Any:
        def turn_it() -> Any:
            image = tf.transpose(rgb, [1, 0, 2]) if turn >= 5 else rgb
            return tf.reverse(image, axes[turn]) if axes[turn] else image

        return turn_it

    return tf.switch_case(tf.cast(orientation, tf.int32) - 2, [turned(turn) for turn in axes])
