"""Calibrating a module for int8 on a user's own images, and what that costs in agreement."""

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
from mnv1cli.types import DEFAULT_BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mnv1cli.inference.models import Model
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

# Batches that each precision is timed with, in alternation.
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Price:
    """What int8 costs and gains, on images that it was not calibrated with.

    `agreement` is the share of images whose best class is that of float32, None
    for a module without classes; `similarity` is the mean cosine of the results
    of both; `speed` is how many times faster the model alone is.
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

    At most `samples` images are drawn, by `seed`, to calibrate with, and as
    many others to be held back and compared on.

    Raises:
        NoImagesError: there are fewer than two images that can be read.
        ModuleError: the module cannot be compiled.
        OutputError: the cache cannot be written.
    """
    module, spec = predictor.module, predictor.spec
    outputs = [module.endpoint(endpoint)] if endpoint else module.main_outputs()
    pixels, failed = _read(_drawn(refs, 2 * samples, seed), spec, predictor.threads)
    if len(pixels) < 2:
        raise NoImagesError(
            f"{len(pixels)} images can be read, which is too few to calibrate with",
            "two is the least, some hundreds like those to come are good",
        )
    count = min(samples, (len(pixels) + 1) // 2)
    calibrating, held_back = pixels[:count], pixels[count:]
    facts = {"images": count, "seed": seed, "preprocess": spec.preprocess}
    images = [pixels[i : i + 1] for i in range(len(calibrating))]
    made = convert.quantize_module(module, outputs, images, facts)
    if not artifacts.save_model(module.fingerprint, made):
        raise OutputError(
            f"the cache {cache.cache_root()} cannot be written, so the model lies nowhere",
            "name another in MNV1_CACHE_DIR",
        )
    integers = models.open_model(module, outputs[:1], 1, "litert", "int8")
    floats = models.open_model(module, outputs[:1], 1, "litert")
    name = outputs[0].name
    wanted, found = _results(floats, held_back, name), _results(integers, held_back, name)
    classifies = module.classes() is not None and name == module.logits().name
    return Price(
        module=module.handle,
        fingerprint=module.fingerprint,
        outputs=made.outputs,
        sha256=made.sha256,
        calibrated_on=count,
        held_back=len(held_back),
        failed=failed,
        agreement=_agreement(wanted, found) if classifies else None,
        similarity=_similarity(wanted, found),
        speed=_speed(floats, integers, held_back),
    )


def _drawn(refs: Iterable[ImageRef], count: int, seed: int) -> list[ImageRef]:
    """`count` images at random, each as likely as any other, without keeping them all."""
    # Algorithm R of Vitter, "Random sampling with a reservoir" (1985).
    chance = random.Random(seed)  # noqa: S311 - a sample, not a secret
    drawn: list[ImageRef] = []
    for seen, ref in enumerate(refs):
        if seen < count:
            drawn.append(ref)
        elif (place := chance.randrange(seen + 1)) < count:
            drawn[place] = ref
    chance.shuffle(drawn)
    return drawn


def _read(refs: Sequence[ImageRef], spec: PixelSpec, threads: int) -> tuple[FloatArray, int]:
    """The pixels of the images that can be read, and how many cannot."""
    batches = list(loader.load_batches(refs, spec, DEFAULT_BATCH, threads))
    failed = sum(bool(reason) for batch in batches for reason in batch.reasons)
    none = np.empty((0, spec.size, spec.size, 3), np.float32)
    return np.concatenate([none, *(batch.pixels for batch in batches)]), failed


def _results(model: Model, pixels: FloatArray, name: str) -> FloatArray:
    """The model's output, flat, [n, ...]."""
    parts = [model(pixels[i : i + DEFAULT_BATCH])[name] for i in _starts(pixels)]
    return np.concatenate(parts).reshape(len(pixels), -1)


def _starts(pixels: FloatArray) -> range:
    return range(0, len(pixels), DEFAULT_BATCH)


def _agreement(wanted: FloatArray, found: FloatArray) -> float:
    return float((wanted.argmax(axis=1) == found.argmax(axis=1)).mean())


def _similarity(wanted: FloatArray, found: FloatArray) -> float:
    """The mean cosine of the angle between the results."""
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # Nothing has no direction, and is like nothing.
    return float((np.einsum("ij,ij->i", a, b) / np.where(lengths > 0, lengths, 1)).mean())


def _speed(floats: Model, integers: Model, pixels: FloatArray) -> float:
    """How many times faster the second model is: the median of rounds in alternation."""
    batch = np.resize(pixels, (DEFAULT_BATCH, *pixels.shape[1:]))

    def seconds(model: Model) -> float:
        start = time.perf_counter()
        model(batch)
        return time.perf_counter() - start

    # The first round makes the interpreters ready.
    ratios = [seconds(floats) / seconds(integers) for _ in range(_ROUNDS + 1)]
    return statistics.median(ratios[1:])
