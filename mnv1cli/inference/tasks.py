"""Tasks of what Python programs pass: each argument is checked, and refused by name."""

from __future__ import annotations

from mnv1cli.inference.arguments import check_text, take_flag, take_integer, take_number
from mnv1cli.types import Task


def make_classify_task(top: int, min_probability: float) -> Task:
    """Make the task of the `top` labels; raises `OptionError`."""
    lowest = take_number("min_probability", min_probability, 0, 1)
    return Task("classify", top=take_integer("top", top, 1), min_probability=lowest)


def make_logits_task(probabilities: bool) -> Task:
    """Make the task of the scores; raises `OptionError`."""
    return Task("logits", probabilities=take_flag("probabilities", probabilities))


def make_embed_task(endpoint: str, pool: bool) -> Task:
    """Make the task of the features, or of the layer `endpoint`; raises `OptionError`."""
    check_text("endpoint", endpoint)
    return Task("embed", endpoint=endpoint, pool=take_flag("pool", pool))
