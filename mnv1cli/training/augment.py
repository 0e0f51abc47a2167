"""Images for training, another view of each in every epoch: tf.data, the same for one seed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import ImageError
from mnv1cli.images import loader
from mnv1cli.path_text import display_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

# A crop has this share of the area, and is this many times as wide as it is high.
_AREA = (0.6, 1.0)
_ASPECT = (3 / 4, 4 / 3)


class Views:
    """Random crops and mirror images of the images `refs`, in batches of `batch_size`.

    Attributes:
        batch_size: images per batch.
        steps: batches per epoch; the images that would fill a part of one are left out.
    """

    def __init__(
        self, refs: Sequence[ImageRef], spec: PixelSpec, batch_size: int, seed: int, threads: int
    ) -> None:
        self._refs = refs
        self._size = spec.size
        self._canvas = _canvas_spec(spec)
        self.batch_size = batch_size
        self._seed = seed
        self._threads = threads
        self._failure: ImageError | None = None
        # A last batch of few images would have batch statistics of its own.
        self.steps = len(refs) // batch_size

    def read_epoch(self, epoch: int, steps_done: int = 0) -> Iterator[tuple[Any, Any]]:
        """Read an epoch: batches of pixels and of the images' positions in `refs`.

        Pixels are float32 [n, size, size, 3] in [0, 1], positions int64 [n]. The
        first `steps_done` batches are left out.

        Raises:
            ImageError: an image cannot be read any more.
        """
        import tensorflow as tf

        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._refs))
        order = order[steps_done * self.batch_size : self.steps * self.batch_size]
        first = epoch * len(self._refs) + steps_done * self.batch_size
        numbers = np.arange(first, first + len(order))
        data = tf.data.Dataset.from_tensor_slices((order, numbers))
        # Converting functions for tf.data leaves files behind; there is nothing to convert.
        read_view = tf.autograph.experimental.do_not_convert(self._read_view)
        data = data.map(read_view, num_parallel_calls=self._threads, deterministic=True)
        try:
            yield from data.batch(self.batch_size, drop_remainder=True).prefetch(2)
        except tf.errors.OpError:
            if self._failure is None:
                raise
            # TensorFlow makes something else of what Python raises.
            raise self._failure from None

    def _read_view(self, position: Any, number: Any) -> tuple[Any, Any]:
        """Read the image at a position in `refs`, and draw a view of it."""
        import tensorflow as tf

        side = self._canvas.size
        pixels = tf.numpy_function(self._load, [position], tf.float32)
        return self._draw_view(tf.ensure_shape(pixels, [side, side, 3]), position, number)

    def _load(self, position: Any) -> FloatArray:
        """Load the canvas of an image; what fails is kept for `read_epoch`."""
        ref = self._refs[int(position)]
        pixels = np.empty((self._canvas.size, self._canvas.size, 3), np.float32)
        try:
            loader.load_image(ref, self._canvas, pixels)
        except ImageError as error:
            self._failure = ImageError(f"{display_path(ref.path)}: {error}")
            raise self._failure from error
        return pixels

    def _draw_view(self, pixels: Any, position: Any, number: Any) -> tuple[Any, Any]:
        """Cut a random crop out of an image, which may be mirrored; `number` decides both."""
        import tensorflow as tf

        seed = tf.stack([tf.constant(self._seed, tf.int64), number])
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(pixels),
            bounding_boxes=tf.zeros([1, 0, 4]),
            seed=seed,
            area_range=_AREA,
            aspect_ratio_range=_ASPECT,
            min_object_covered=0.0,
            use_image_if_no_bounding_boxes=True,
        )
        crop = tf.slice(pixels, begin, extent)
        view = tf.raw_ops.ResizeBilinear(images=crop[None], size=[self._size, self._size])[0]
        mirror_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        view = tf.image.stateless_random_flip_left_right(view, mirror_seed)
        view.set_shape([self._size, self._size, 3])
        return view, position


def _canvas_spec(spec: PixelSpec) -> PixelSpec:
    """Return the spec of what crops are cut from: at the scale of `spec`, with slim's margin."""
    size = round(spec.size * 8 / 7)
    whole = "squash" if spec.preprocess == "slim" else spec.preprocess
    return dataclasses.replace(spec, size=size, preprocess=whole)
