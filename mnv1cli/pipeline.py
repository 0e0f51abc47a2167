"""Many images through tf.data, by the same chain as `pixels.py`.

JPEG of 1 or 3 components, nearly all there is, is decoded and resized by
TensorFlow's own ops. Everything else is decoded by `pixels.py` inside the
pipeline, because TensorFlow's decoders differ from Pillow's on CMYK JPEG,
16-bit PNG and palette BMP, and know neither TIFF nor WebP.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli import pixels
from mnv1cli.errors import ImageError
from mnv1cli.records import Batch, ImageRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.records import FloatArray, PixelSpec

# Decoded batches that wait for the model: enough to bridge a slow file.
_WAITING_BATCHES = 2
_POLL_SECONDS = 0.2

_READY, _JPEG, _BAD = 0, 1, 2
_JPEG_END = b"\xff\xd9"


def batches(refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int) -> Iterator[Batch]:
    """Read, decode and batch images, in the order of `refs`, ahead of the consumer.

    An image that cannot be read stands in its batch with a reason. What the
    iterator over `refs` raises is raised here, in its turn.
    """
    stream = _Stream(refs, spec)
    waiting: queue.Queue[Batch | BaseException | None] = queue.Queue(_WAITING_BATCHES)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for batch in stream.batches(batch_size):
                if not put(batch):
                    return
            put(stream.failure)
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            put(error)

    # A thread of its own, so that the consumer waits where Ctrl-C can reach it:
    # TensorFlow's iterator blocks until there is a batch, signals or not.
    threading.Thread(target=produce, name="mnv1-pipeline", daemon=True).start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        stream.stop()


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the Python half of the pipeline hands to TensorFlow for one image.

    A JPEG is decoded there at 1/2^`halvings`; `pixels` are those of the others.
    """

    state: int
    data: bytes
    halvings: int
    orientation: int
    frame: pixels.Frame
    pixels: FloatArray


class _Stream:
    """One pass over the images: the tf.data graph and the refs that are under way in it."""

    def __init__(self, refs: Iterable[ImageRef], spec: PixelSpec) -> None:
        self.failure: BaseException | None = None
        self._refs = refs
        self._spec = spec
        self._under_way: deque[int] = deque()
        self._by_index: dict[int, ImageRef] = {}
        self._reasons: dict[int, str] = {}
        self._stopped = False
        blank = np.zeros((spec.size, spec.size, 3), np.float32)
        self._blank = _Opened(_BAD, b"", 0, 1, pixels.frame(1, 1, spec), blank)

    def stop(self) -> None:
        """Feed no more images."""
        self._stopped = True

    def batches(self, batch_size: int) -> Iterator[Batch]:
        for indices, states, images in self._dataset(batch_size).as_numpy_iterator():
            yield self._batch(indices, states, images)
        if self._under_way:
            nothing = np.empty(0, np.int64)
            yield self._batch(nothing, nothing, self._blank.pixels[None][:0], drain=True)

    def _dataset(self, batch_size: int) -> Any:
        import tensorflow as tf

        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        data = tf.data.Dataset.from_generator(
            self._indices, output_signature=tf.TensorSpec((), tf.int64)
        )
        # There is no Python in `_image` to convert, and converting leaves files behind.
        # A fixed number of workers: tf.data's autotuning needs longer than most runs take.
        image = tf.autograph.experimental.do_not_convert(self._image)
        data = data.map(image, num_parallel_calls=workers or os.cpu_count() or 1)
        # What TensorFlow's JPEG decoder refuses falls out here; `_batch` sees the gap.
        data = data.ignore_errors().batch(batch_size)
        return data.prefetch(_WAITING_BATCHES)

    def _indices(self) -> Iterator[int]:
        """Feed the refs by their index, and keep what they raise for the consumer."""
        try:
            for index, ref in enumerate(self._refs):
                if self._stopped:
                    return
                self._by_index[index] = ref
                self._under_way.append(index)
                yield index
        except BaseException as error:  # noqa: BLE001 - raised again by `batches`
            self.failure = error

    def _image(self, index: Any) -> tuple[Any, Any, Any]:
        """The tf.data half: state and pixels of one image."""
        import tensorflow as tf

        types = [tf.int64, tf.string, tf.int64, tf.int64, tf.int64, tf.float32]
        state, data, halvings, orientation, frame, ready = tf.numpy_function(
            self._open, [index], types
        )
        state.set_shape([])
        frame.set_shape([8])
        size = self._spec.size
        image = tf.cond(
            tf.equal(state, _JPEG),
            lambda: _jpeg_pixels(data, halvings, orientation, frame, size),
            lambda: ready,
        )
        image.set_shape([size, size, 3])
        return index, state, image

    def _open(self, index: Any) -> tuple[Any, ...]:
        """The Python half: read the file and its header, and decode what TensorFlow cannot."""
        ref = self._by_index[int(index)]
        try:
            opened = self._opened(ref)
        except ImageError as error:
            self._reasons[int(index)] = str(error)
            opened = self._blank
        return (
            np.int64(opened.state),
            opened.data,
            np.int64(opened.halvings),
            np.int64(opened.orientation),
            np.array(astuple(opened.frame), np.int64),
            opened.pixels,
        )

    def _opened(self, ref: ImageRef) -> _Opened:
        frame = self._blank.frame
        if ref.problem:
            raise ImageError(ref.problem)
        if ref.source is not None:
            return _Opened(_READY, b"", 0, 1, frame, pixels.from_memory(ref.source, self._spec))
        data = pixels.read_file(ref.path)
        header = pixels.header(data, self._spec)
        # Without an end it is cut off, and what TensorFlow refuses leaves a gap that
        # is only seen when the next image comes: Pillow says at once what is wrong.
        if not header.plain_jpeg or data.rfind(_JPEG_END) < len(data) // 2:
            return _Opened(_READY, b"", 0, 1, frame, pixels.load(data, self._spec))
        ratio = pixels.reduction(header.height, header.width, self._spec)
        # libjpeg rounds the reduced size up.
        h, w = -(-header.height // ratio), -(-header.width // ratio)
        if header.orientation >= 5:
            h, w = w, h
        frame = pixels.frame(h, w, self._spec)
        halvings = ratio.bit_length() - 1
        return _Opened(_JPEG, data, halvings, header.orientation, frame, self._blank.pixels)

    def _batch(self, indices: Any, states: Any, images: FloatArray, drain: bool = False) -> Batch:
        """Put a batch's images back beside their refs, those that fell out included."""
        refs: list[ImageRef] = []
        reasons: list[str] = []
        rows: list[FloatArray] = []

        def add(ref: ImageRef, row: FloatArray | None, reason: str) -> None:
            refs.append(ref)
            reasons.append(reason)
            if row is not None:
                rows.append(row)

        for index, state, image in zip(indices.tolist(), states.tolist(), images, strict=True):
            while self._under_way[0] != index:
                add(*self._second_look())
            ref = self._taken()
            bad = state == _BAD
            add(ref, None if bad else image, self._reasons.pop(index) if bad else "")
        while drain and self._under_way:
            add(*self._second_look())
        complete = len(rows) == len(images) == len(refs)
        stacked = images if complete else np.stack(rows) if rows else self._blank.pixels[None][:0]
        return Batch(tuple(ref.path for ref in refs), tuple(reasons), stacked)

    def _taken(self) -> ImageRef:
        """The first of the refs under way, which is under way no more."""
        return self._by_index.pop(self._under_way.popleft())

    def _second_look(self) -> tuple[ImageRef, FloatArray | None, str]:
        """Decode with Pillow what TensorFlow refused: for its reason, or for its pixels.

        Pillow has the last word, so that both paths accept the same files.
        """
        ref = self._taken()
        try:
            if ref.source is not None:
                return ref, pixels.from_memory(ref.source, self._spec), ""
            return ref, pixels.load(pixels.read_file(ref.path), self._spec), ""
        except ImageError as error:
            return ref, None, str(error)


def _jpeg_pixels(data: Any, halvings: Any, orientation: Any, frame: Any, size: int) -> Any:
    """Pixels float32 [size, size, 3] of a JPEG's bytes, in TensorFlow's ops."""
    import tensorflow as tf

    def decoder(r: int) -> Any:
        # INTEGER_ACCURATE is the method that Pillow uses; the default's bits differ.
        return lambda: tf.io.decode_jpeg(data, channels=3, ratio=r, dct_method="INTEGER_ACCURATE")

    rgb = tf.switch_case(tf.cast(halvings, tf.int32), [decoder(r) for r in (1, 2, 4, 8)])
    rgb = tf.switch_case(
        tf.cast(orientation, tf.int32) - 1, [_turned(rgb, turn) for turn in range(1, 9)]
    )
    y, x, h, w, target_h, target_w, offset_y, offset_x = tf.unstack(frame)
    crop = rgb[y : y + h, x : x + w]
    target = tf.cast(tf.stack([target_h, target_w]), tf.int32)
    image = tf.raw_ops.ResizeBilinear(images=crop[None], size=target)[0] * pixels.SCALE

    def padded() -> Any:
        below, right = size - target_h - offset_y, size - target_w - offset_x
        margins = [[offset_y, below], [offset_x, right], [0, 0]]
        return tf.pad(image, margins, constant_values=0.5)

    return tf.cond(tf.reduce_all(tf.equal(target, size)), lambda: image, padded)


def _turned(rgb: Any, orientation: int) -> Any:
    """A function that applies one EXIF orientation, 1 to 8, to [h, w, c]."""
    import tensorflow as tf

    axes = {2: [1], 3: [0, 1], 4: [0], 5: [], 6: [1], 7: [0, 1], 8: [0]}

    def turn() -> Any:
        if orientation == 1:
            return rgb
        turned = tf.transpose(rgb, [1, 0, 2]) if orientation >= 5 else rgb
        return tf.reverse(turned, axes[orientation]) if axes[orientation] else turned

    return turn
