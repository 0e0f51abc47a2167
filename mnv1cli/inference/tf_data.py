"""Images as batches of pixels through tf.data, which calls the same chain in its own threads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mnv1cli.images import loader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.types import Batch, FloatArray, ImageRef, PixelSpec

# Decoded batches that wait for the model: enough to bridge the time of a slow file.
_WAITING_BATCHES = 2


def load_batches(
    refs: Iterable[ImageRef],
    spec: PixelSpec,
    batch_size: int,
    workers: int,
    with_info: bool = False,
) -> Iterator[Batch]:
    """Do the same as `loader.load_batches`, with tf.data for the threads and the batches ahead."""
    import tensorflow as tf

    chunks = loader.split_refs(refs, spec, batch_size, workers)
    # What TensorFlow cannot carry: the refs on their way to it, and the batches without pixels.
    waiting: dict[int, list[ImageRef]] = {}
    loaded: dict[int, Batch] = {}
    failures: list[BaseException] = []
    closed = False

    def feed() -> Iterator[int]:
        try:
            for number, waiting[number] in enumerate(chunks):
                if closed:
                    return
                yield number
        except BaseException as error:  # noqa: BLE001 - raised again below, in its turn
            failures.append(error)

    def load(number: Any) -> FloatArray:
        batch = loader.load_batch(waiting.pop(int(number)), spec, with_info)
        loaded[int(number)] = replace(batch, pixels=batch.pixels[:0])
        return batch.pixels

    def decode(number: Any) -> tuple[Any, Any]:
        return number, tf.numpy_function(load, [number], tf.float32)

    data = tf.data.Dataset.from_generator(feed, output_signature=tf.TensorSpec([], tf.int64))
    # Converting functions for tf.data leaves files behind; there is nothing to convert.
    decode = tf.autograph.experimental.do_not_convert(decode)
    data = data.map(decode, num_parallel_calls=workers, deterministic=True)
    options = tf.data.Options()
    # A fixed number of workers: tf.data's own tuning takes longer than most runs, and
    # sometimes settles on half the speed. Two threads more, to feed them and to wait.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers + 2
    try:
        for number, pixels in (
            data.prefetch(_WAITING_BATCHES).with_options(options).as_numpy_iterator()
        ):
            yield replace(loaded.pop(int(number)), pixels=pixels)
    finally:
        closed = True
    if failures:
        raise failures[0]
