"""How a module is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """How a module is trained for other classes.

    About `held_out` of the images, drawn by `seed`, only test the result. With
    `full` all layers are trained, for `epochs` at most.
    """

    held_out: float = 0.2
    seed: int = 0
    full: bool = False
    epochs: int = 10
    learning_rate: float = 0.001
    batch_size: int = 32
    force: bool = False
    resume: bool = False
