"""Recipes for int8 tried on a module: their models, and what these cost and gain."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from mnv1cli.errors import EngineError, ModuleError, OptionError
from mnv1cli.inference import compiled, convert
from mnv1cli.inference.arguments import check_choice
from mnv1cli.inference.int8 import dynamic, nncf, recipes
from mnv1cli.inference.models import load_model
from mnv1cli.types import DEFAULT_BATCH, Engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.inference.int8.recipes import Recipe
    from mnv1cli.inference.models import Model
    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import FloatArray

log = logging.getLogger(__name__)

# Rounds in which all models are timed, in turn.
_ROUNDS = 5
# What a faster recipe may lose against the one that agrees best: labels, which are coarse where
# few images are held back, and cosine, which is not.
_LABELS_LOST, _COSINE_LOST = 0.02, 0.01
# The share of labels that a recipe must keep, if any does.
_LABELS_WANTED = 0.95
# Times of recipes that differ by less count as the same: of these the best cosine decides.
_SAME_TIME = 1.1


class Calibration(NamedTuple):
    """A module that is calibrated, and the images for that.

    Attributes:
        module: the module.
        outputs: those that the model shall have; the first one is compared.
        images: pixels float32 [n, size, size, 3].
        description: what the record of the model says of the images.
        keeps_softmax: the module ends in a softmax, which must stay in float32.
    """

    module: HubModule
    outputs: Sequence[Output]
    images: FloatArray
    description: Mapping[str, Any]
    keeps_softmax: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """A recipe that was tried, on images that it was not calibrated with.

    `agreement` is the share of images whose best class is that of float32, None for a module
    without classes; `similarity` is the mean cosine between the results of both; `milliseconds`
    is the CPU time of an image, without decoding.
    """

    recipe: str
    engine: Engine
    summary: str
    agreement: float | None
    similarity: float
    milliseconds: float


def choose_recipes(engine: Engine | None, name: str | None) -> list[Recipe]:
    """Choose the recipes to try: those of the installed packages, of an engine, or one by name.

    Raises:
        OptionError: there is no such recipe, or the engine does not have it.
        EngineError: the packages that the recipe needs are not installed.
    """
    if name is not None:
        check_choice("recipe", name, recipes.RECIPE_NAMES)
    if engine is not None:
        check_choice("engine", engine, get_args(Engine))
    chosen = [
        recipe
        for recipe in recipes.RECIPES
        if engine in (None, recipe.engine) and name in (None, recipe.name)
    ]
    if not chosen:
        lacking = f"recipe {name}" if name else "int8"
        raise OptionError(f"the engine {engine} has no {lacking}", "leave out --engine")
    if nncf.is_available():
        return chosen
    usable = [recipe for recipe in chosen if recipe.engine == "litert"]
    if not usable:
        raise EngineError("NNCF is not installed", "pip install 'mnv1cli[quantize]'")
    if len(usable) < len(chosen):
        log.info("pip install 'mnv1cli[quantize]' adds recipes for OpenVINO, which may be faster")
    return usable


def try_recipes(
    calibration: Calibration, chosen: Sequence[Recipe], held_back: FloatArray
) -> tuple[float, list[Trial], dict[str, CompiledModel]]:
    """Make a model by each recipe, and compare it with float32 on images that it did not see.

    Returns the milliseconds of float32, as a trial has them, the trials, and their models by
    the names of the recipes.

    Raises:
        ModuleError: the module cannot be compiled, or no recipe works for it.
    """
    module, output = calibration.module, calibration.outputs[0]
    floats = compiled.compile_once(module, calibration.outputs)
    made = _make_models(calibration, floats, chosen)
    tried = [recipe for recipe in chosen if recipe.name in made]
    ready = [load_model(floats, 1, "litert", "float32")]
    ready += [load_model(made[recipe.name], 1, recipe.engine, "int8") for recipe in tried]
    float_milliseconds, *milliseconds = _time_models(ready, held_back)
    expected, *results = (_run(model, held_back, output.name) for model in ready)
    classifies = module.classes() is not None and output.name == module.logits().name
    trials = [
        Trial(
            recipe.name,
            recipe.engine,
            recipe.summary,
            _measure_agreement(expected, computed) if classifies else None,
            _measure_similarity(expected, computed),
            spent,
        )
        for recipe, computed, spent in zip(tried, results, milliseconds, strict=True)
    ]
    return float_milliseconds, trials, made


def choose_best(trials: Sequence[Trial]) -> Trial:
    """Choose the fastest of the trials that agree nearly as well as the best one.

    Of those that are about as fast it is the one with the best cosine.
    """
    best = max(trial.agreement or 0 for trial in trials)
    wanted = _LABELS_WANTED if best >= _LABELS_WANTED else 0
    labels = max(best - _LABELS_LOST, wanted)
    cosine = max(trial.similarity for trial in trials) - _COSINE_LOST
    good = [t for t in trials if (t.agreement or 0) >= labels and t.similarity >= cosine]
    # There may be none: the best in labels need not be the best in the cosine.
    good = good or [trial for trial in trials if (trial.agreement or 0) >= labels]
    longest = _SAME_TIME * min(trial.milliseconds for trial in good)
    fast = [trial for trial in good if trial.milliseconds <= longest]
    return max(fast, key=lambda trial: trial.similarity)


def _make_models(
    calibration: Calibration, floats: CompiledModel, chosen: Sequence[Recipe]
) -> dict[str, CompiledModel]:
    """Return the models of the recipes that work for a module.

    Raises:
        ModuleError: none of them works for it.
    """
    made: dict[str, CompiledModel] = {}
    failures: list[ModuleError] = []
    for recipe in chosen:
        log.info("trying %s: %s", recipe.name, recipe.summary)
        try:
            made[recipe.name] = _make_model(recipe, calibration, floats)
        except ModuleError as error:
            failures.append(error)
            log.info("%s: %s", recipe.name, error.what)
    if not made:
        raise failures[0]
    return made


def _make_model(recipe: Recipe, calibration: Calibration, floats: CompiledModel) -> CompiledModel:
    module, outputs, images, description, keeps_softmax = calibration
    if recipe == recipes.UNCALIBRATED:
        return compiled.find_uncalibrated(module, outputs[0])
    if recipe == recipes.CALIBRATED:
        return dynamic.calibrate(floats, images, description, module.handle)
    if recipe == recipes.ALL_STATIC:
        samples = (images[i : i + 1] for i in range(len(images)))
        return convert.quantize_module(module, outputs, samples, description, keeps_softmax)
    return nncf.calibrate(nncf.Task(floats, recipe, images, description, module.handle))


def _run(model: Model, pixels: FloatArray, name: str) -> FloatArray:
    """Return the model's output, flattened to [n, values]."""
    starts = range(0, len(pixels), DEFAULT_BATCH)
    parts = [model(pixels[i : i + DEFAULT_BATCH])[name] for i in starts]
    return np.concatenate(parts).reshape(len(pixels), -1)


def _measure_agreement(expected: FloatArray, computed: FloatArray) -> float:
    """Return the share of rows with the same best class."""
    return float((expected.argmax(axis=1) == computed.argmax(axis=1)).mean())


def _measure_similarity(expected: FloatArray, computed: FloatArray) -> float:
    """Return the mean cosine of the angle between the rows of both."""
    a, b = expected.astype(np.float64), computed.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # A row of zeros has no direction: its similarity is 0.
    return float((np.einsum("ij,ij->i", a, b) / np.where(lengths > 0, lengths, 1)).mean())


def _time_models(ready: Sequence[Model], pixels: FloatArray) -> list[float]:
    """Return the CPU time of an image with each model, in milliseconds: medians of rounds in turn.

    CPU time, because it hardly depends on what else runs on the machine.
    """
    batch = np.resize(pixels, (DEFAULT_BATCH, *pixels.shape[1:]))

    def time_batch(model: Model) -> float:
        start = time.process_time()
        model(batch)
        return (time.process_time() - start) * 1000 / len(batch)

    # The first round only makes the interpreters ready.
    rounds = [[time_batch(model) for model in ready] for _ in range(_ROUNDS + 1)]
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]
