"""Options for training a module."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """Options for training a module for other classes.

    Attributes:
        held_out: the share of the images of each class that only tests the result.
        seed: what everything that is drawn depends on.
        full: train all layers, not only the last one.
        epochs: passes over the images with `full`, at most.
        learning_rate: the highest learning rate with `full`.
        batch_size: images per step with `full`.
        force: replace an existing module.
        resume: continue a run with `full` that was stopped.
    """

    held_out: float = 0.2
    seed: int = 0
    full: bool = False
    epochs: int = 10
    learning_rate: float = 0.001
    batch_size: int = 32
    force: bool = False
    resume: bool = False
