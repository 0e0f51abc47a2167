"""Calibration of a module for int8 on a user's own images, and the price of it."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mnv1cli.errors import NoImagesError, OutputError
from mnv1cli.images import loader
from mnv1cli.inference import convert, models
from mnv1cli.modules import artifacts, cache
from mnv1cli.path_text import count
from mnv1cli.types import DEFAULT_BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mnv1cli.inference.models import Model
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

# Rounds in which both precisions are timed, in turn.
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Price:
    """The cost and the gain of int8, on images that it was not calibrated with.

    `agreement` is the share of images whose best class is that of float32, None for a module
    without classes; `similarity` is the mean cosine between the results of both; `speed` is
    how many times faster the model is, without decoding.
    """

    module: str
    fingerprint: str
    outputs: tuple[str, ...]
    sha256: str
    calibrated_on: int
    held_back: int
    failed: int
    agreement: float | None
    similarity: float
    speed: float


def quantize(
    predictor: Predictor,
    refs: Iterable[ImageRef],
    samples: int = 200,
    seed: int = 0,
    endpoint: str = "",
) -> Price:
    """Calibrate a module for int8 on some of the images, and keep the model in the cache.

    The model gives the layer `endpoint`; without one, logits and feature vector.

    At most `samples` images are drawn, by `seed`, to calibrate with, and as many others are
    held back to compare both precisions on.

    Raises:
        NoImagesError: there are fewer than two images that can be read.
        ModuleError: the module cannot be compiled.
        OutputError: the cache cannot be written.
    """
    module, spec = predictor.module, predictor.spec
    outputs = [module.endpoint(endpoint)] if endpoint else module.main_outputs()
    pixels, failed = _load_pixels(draw_sample(refs, 2 * samples, seed), spec, predictor.threads)
    if len(pixels) < 2:
        raise NoImagesError(
            f"only {count(len(pixels), 'image')} can be read, which is too few to calibrate with",
            "two are needed, some hundreds like those to be classified are good",
        )
    calibrated_on = min(samples, (len(pixels) + 1) // 2)
    calibrating, held_back = pixels[:calibrated_on], pixels[calibrated_on:]
    record = {"images": calibrated_on, "seed": seed, "preprocess": spec.preprocess}
    images = [pixels[i : i + 1] for i in range(len(calibrating))]
    keeps_softmax = outputs[0].name == "logits" and predictor.gives_probabilities()
    compiled = convert.quantize_module(module, outputs, images, record, keeps_softmax)
    if not artifacts.save_model(module.fingerprint, compiled):
        raise OutputError(
            f"the cache {cache.cache_root()} cannot be written, so the model is not kept",
            "set MNV1_CACHE_DIR to another directory",
        )
    integers = models.open_model(module, outputs[:1], 1, "litert", "int8")
    floats = models.open_model(module, outputs[:1], 1, "litert")
    name = outputs[0].name
    expected, computed = _run(floats, held_back, name), _run(integers, held_back, name)
    classifies = module.classes() is not None and name == module.logits().name
    return Price(
        module=module.handle,
        fingerprint=module.fingerprint,
        outputs=compiled.outputs,
        sha256=compiled.sha256,
        calibrated_on=calibrated_on,
        held_back=len(held_back),
        failed=failed,
        agreement=_measure_agreement(expected, computed) if classifies else None,
        similarity=_measure_similarity(expected, computed),
        speed=_measure_speed(floats, integers, held_back),
    )


def draw_sample(refs: Iterable[ImageRef], number: int, seed: int) -> list[ImageRef]:
    """Draw `number` images at random, all with the same chance, in constant memory."""
    # Algorithm R of Vitter, "Random sampling with a reservoir" (1985).
    chance = random.Random(seed)  # noqa: S311 - a sample, not a secret
    drawn: list[ImageRef] = []
    for seen, ref in enumerate(refs):
        if seen < number:
            drawn.append(ref)
        elif (place := chance.randrange(seen + 1)) < number:
            drawn[place] = ref
    chance.shuffle(drawn)
    return drawn


def _load_pixels(refs: Sequence[ImageRef], spec: PixelSpec, threads: int) -> tuple[FloatArray, int]:
    """Return the pixels of the images that can be read, and the number of those that cannot."""
    batches = list(loader.load_batches(refs, spec, DEFAULT_BATCH, threads))
    failed = sum(bool(reason) for batch in batches for reason in batch.reasons)
    empty = np.empty((0, spec.size, spec.size, 3), np.float32)
    return np.concatenate([empty, *(batch.pixels for batch in batches)]), failed


def _run(model: Model, pixels: FloatArray, name: str) -> FloatArray:
    """Return the model's output, flattened to [n, values]."""
    parts = [model(pixels[i : i + DEFAULT_BATCH])[name] for i in _starts(pixels)]
    return np.concatenate(parts).reshape(len(pixels), -1)


def _starts(pixels: FloatArray) -> range:
    return range(0, len(pixels), DEFAULT_BATCH)


def _measure_agreement(expected: FloatArray, computed: FloatArray) -> float:
    """Return the share of rows with the same best class."""
    return float((expected.argmax(axis=1) == computed.argmax(axis=1)).mean())


def _measure_similarity(expected: FloatArray, computed: FloatArray) -> float:
    """Return the mean cosine of the angle between the rows of both."""
    a, b = expected.astype(np.float64), computed.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # A row of zeros has no direction: its similarity is 0.
    return float((np.einsum("ij,ij->i", a, b) / np.where(lengths > 0, lengths, 1)).mean())


def _measure_speed(floats: Model, integers: Model, pixels: FloatArray) -> float:
    """Return how many times faster the second model is: the median of rounds in turn."""
    batch = np.resize(pixels, (DEFAULT_BATCH, *pixels.shape[1:]))

    def time_batch(model: Model) -> float:
        start = time.perf_counter()
        model(batch)
        return time.perf_counter() - start

    # The first round only makes the interpreters ready.
    ratios = [time_batch(floats) / time_batch(integers) for _ in range(_ROUNDS + 1)]
    return statistics.median(ratios[1:])
