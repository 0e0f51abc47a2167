"""Calibration of a module for int8 on a user's own images: recipes are tried, the best is kept."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mnv1cli.errors import NoImagesError, OutputError
from mnv1cli.images import loader
from mnv1cli.inference.compiled import keep_int8
from mnv1cli.inference.int8 import trials
from mnv1cli.inference.int8.trials import Calibration, Trial
from mnv1cli.modules import cache
from mnv1cli.path_text import count
from mnv1cli.types import DEFAULT_BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.types import Engine, FloatArray, ImageRef, PixelSpec


@dataclass(frozen=True, slots=True)
class Price:
    """The cost and the gain of int8, on images that it was not calibrated with.

    `agreement`, `similarity`, `recipe` and `engine` are those of the trial whose model was kept,
    `sha256` that of the model. `speed` is how many times faster it is than float32 with LiteRT,
    whose CPU time for an image is `float_milliseconds`, without decoding.
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
    recipe: str
    engine: Engine
    float_milliseconds: float
    trials: tuple[Trial, ...]


def quantize(
    predictor: Predictor,
    refs: Iterable[ImageRef],
    samples: int = 200,
    seed: int = 0,
    endpoint: str = "",
    engine: Engine | None = None,
    recipe: str | None = None,
) -> Price:
    """Calibrate a module for int8 on some of the images, and keep the best model in the cache.

    The model gives the layer `endpoint`; without one, logits and feature vector. It serves from
    then on, in place of an earlier one for the same engine, and where no engine is named.

    At most `samples` images are drawn, by `seed`, to calibrate with, and as many others are
    held back to compare with float32. The recipes that the installed packages have are tried, or
    those of `engine`, or `recipe`. Of those that keep 95 % of labels, and lose at most 2 % of
    labels and 0.01 of the cosine against the best one, the fastest is kept.

    Raises:
        NoImagesError: there are fewer than two images that can be read.
        OptionError: there is no such recipe, or the engine does not have it.
        EngineError: the packages that the recipe needs are not installed.
        ModuleError: the module cannot be compiled, or no recipe works for it.
        OutputError: the cache cannot be written.
    """
    chosen = trials.choose_recipes(engine, recipe)
    module, spec = predictor.module, predictor.spec
    outputs = [module.endpoint(endpoint)] if endpoint else module.main_outputs()
    pixels, failed = _load_pixels(draw_sample(refs, 2 * samples, seed), spec, predictor.threads)
    number = min(samples, (len(pixels) + 1) // 2)
    record = {"images": number, "seed": seed, "preprocess": spec.preprocess}
    keeps_softmax = outputs[0].name == "logits" and predictor.gives_probabilities()
    calibration = Calibration(module, outputs, pixels[:number], record, keeps_softmax)
    float_milliseconds, tried, made = trials.try_recipes(calibration, chosen, pixels[number:])
    best = trials.choose_best(tried)
    if not keep_int8(module, outputs, made[best.recipe]):
        raise OutputError(
            f"the cache {cache.cache_root()} cannot be written, so the model is not kept",
            "set MNV1_CACHE_DIR to another directory",
        )
    return Price(
        module=module.handle,
        fingerprint=module.fingerprint,
        outputs=made[best.recipe].outputs,
        sha256=made[best.recipe].sha256,
        calibrated_on=number,
        held_back=len(pixels) - number,
        failed=failed,
        agreement=best.agreement,
        similarity=best.similarity,
        speed=float_milliseconds / best.milliseconds,
        recipe=best.recipe,
        engine=best.engine,
        float_milliseconds=float_milliseconds,
        trials=tuple(tried),
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
    """Return the pixels of the images that can be read, and the number of those that cannot.

    Raises:
        NoImagesError: there are fewer than two images that can be read.
    """
    batches = list(loader.load_batches(refs, spec, DEFAULT_BATCH, threads))
    failed = sum(bool(reason) for batch in batches for reason in batch.reasons)
    empty = np.empty((0, spec.size, spec.size, 3), np.float32)
    pixels = np.concatenate([empty, *(batch.pixels for batch in batches)])
    if len(pixels) < 2:
        raise NoImagesError(
            f"only {count(len(pixels), 'image')} can be read, which is too few to calibrate with",
            "two are needed, some hundreds like those to be classified are good",
        )
    return pixels, failed
