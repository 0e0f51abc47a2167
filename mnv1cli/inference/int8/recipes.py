"""The recipes for a module in int8: their names, and the engines that run what they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnv1cli.modules.artifacts import STATIC

if TYPE_CHECKING:
    from mnv1cli.types import Engine


@dataclass(frozen=True, slots=True)
class Recipe:
    """A way to make an int8 model: its name, the engine that runs it, and what it does."""

    name: str
    engine: Engine
    summary: str


UNCALIBRATED = Recipe("dynamic", "litert", "convolutions in int8, made without images")
CALIBRATED = Recipe("dynamic-calibrated", "litert", "convolutions in int8, corrected on images")
ALL_STATIC = Recipe(STATIC, "litert", "all layers in int8")
# Without the first depthwise layer, whose channels differ most in range, 97 % of labels are the
# same instead of 95 %.
NNCF = Recipe("nncf", "openvino", "all layers in int8 but the first depthwise one")
NNCF_FLOAT = Recipe("nncf-depthwise-float", "openvino", "all layers in int8 but depthwise ones")

RECIPES = (UNCALIBRATED, CALIBRATED, ALL_STATIC, NNCF, NNCF_FLOAT)
RECIPE_NAMES = tuple(recipe.name for recipe in RECIPES)
