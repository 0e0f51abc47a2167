"""What a Python user gets for each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from mnv1cli.records import Prediction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.records import FloatArray, Table


@dataclass(frozen=True, slots=True)
class Classified(Sequence[Prediction]):
    """The labels of one image, best first; a sequence of them.

    `error` says why there are none; `path` is empty for images from memory.
    """

    path: str
    predictions: tuple[Prediction, ...]
    error: str = ""

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
    """The values of one image, float32, NaN with an `error` that says why."""

    path: str
    values: FloatArray
    error: str = ""


def classified(tables: Iterable[Table]) -> Iterator[Classified]:
    """The labels of each image in tables of predictions."""
    for table in tables:
        for path, error, found in zip(table.paths, table.errors, table.predictions, strict=True):
            yield Classified(os.fsdecode(path), found, error)


def vectors(tables: Iterable[Table]) -> Iterator[Vector]:
    """The values of each image in tables of values."""
    for table in tables:
        assert table.values is not None
        for path, error, values in zip(table.paths, table.errors, table.values, strict=True):
            yield Vector(os.fsdecode(path), values, error)
