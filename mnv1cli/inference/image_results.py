"""The results of each image for Python programs, out of tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from mnv1cli.types import Prediction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.types import FloatArray, Table


@dataclass(frozen=True, slots=True)
class Classified(Sequence[Prediction]):
    """The labels of an image, best first; a sequence of `Prediction`.

    `error` is the reason why there are none; `path` is empty for images from memory. `warning`
    is the damage of an image that was accepted.
    """

    path: str
    predictions: tuple[Prediction, ...]
    error: str = ""
    warning: str = ""

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.predictions[index]

    def __len__(self) -> int:
        return len(self.predictions)


@dataclass(frozen=True, slots=True)
class Vector:
    """The values of an image, float32; NaN where it failed, with the reason as `error`.

    `warning` is the damage of an image that was accepted.
    """

    path: str
    values: FloatArray
    error: str = ""
    warning: str = ""


def iterate_classified(tables: Iterator[Table]) -> Iterator[Classified]:
    """Yield the labels of each image."""
    for table in tables:
        for path, error, warning, predictions in zip(
            table.paths, table.errors, table.get_warnings(), table.predictions, strict=True
        ):
            yield Classified(os.fsdecode(path), predictions, error, warning)


def iterate_vectors(tables: Iterator[Table]) -> Iterator[Vector]:
    """Yield the values of each image."""
    for table in tables:
        assert table.values is not None
        for path, error, warning, values in zip(
            table.paths, table.errors, table.get_warnings(), table.values, strict=True
        ):
            yield Vector(os.fsdecode(path), values, error, warning)
