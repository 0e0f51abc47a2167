"""An evaluation: the figures of predictions that were compared with what the images show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnv1cli.analysis.metrics import Calibration, wilson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mnv1cli.analysis.truth import ResolvedTruth
    from mnv1cli.labels.names import ClassName
    from mnv1cli.types import Prediction, Table

# The number of labels per image that an evaluation takes into account.
TOP = 5


class Mistake(NamedTuple):
    """An image whose best label is wrong; `probability` is that label's."""

    path: bytes
    truth: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The score of a class: of its `n` images, how many have it as first or among five labels."""

    name: ClassName
    n: int
    top1: int
    top5: int


class Evaluation:
    """The comparison of predictions with the truth, image by image.

    Attributes:
        n: the number of images that were compared.
        failed: the number of images that could not be read.
        damaged: the number of damaged images that were accepted; None where such are refused.
    """

    def __init__(self, names: Sequence[ClassName]) -> None:
        self.n = 0
        self.failed = 0
        self.damaged: int | None = None
        self._names = names
        self._calibration = Calibration()
        self._images: Counter[int] = Counter()
        self._first: Counter[int] = Counter()
        self._among: Counter[int] = Counter()
        self._confused: Counter[tuple[int, int]] = Counter()
        self._mistakes: list[Mistake] = []

    def add(self, table: Table, truth: ResolvedTruth) -> None:
        """Add the images of a table, which has the first five labels of each."""
        if table.warnings:
            self.damaged = (self.damaged or 0) + sum(map(bool, table.warnings))
        for path, error, predictions in zip(
            table.paths, table.errors, table.predictions, strict=True
        ):
            # Without a label, the scores of the image are no numbers.
            if error or not predictions:
                self.failed += 1
                truth.note_failed(path)
            elif (class_id := truth.find_class(path)) is not None:
                self._score(path, class_id, predictions)

    def _score(self, path: bytes, class_id: int, predictions: Sequence[Prediction]) -> None:
        best = predictions[0]
        right = best.class_id == class_id
        self.n += 1
        self._images[class_id] += 1
        self._first[class_id] += right
        self._among[class_id] += any(p.class_id == class_id for p in predictions[:TOP])
        self._confused[class_id, best.class_id] += 1
        # As float32, so that digits in a text count as the number in memory does.
        self._calibration.add(float(np.float32(best.probability)), right)
        if not right:
            truth = self._names[class_id].label
            self._mistakes.append(Mistake(path, truth, best.label, best.probability))

    def figures(self) -> dict[str, Any]:
        """Return the figures as fractions of 1, with 95 % Wilson intervals.

        `mean_per_class` is the mean of the accuracies of the classes, `ece` the expected
        calibration error.
        """
        first, among = self._first.total(), self._among.total()
        return {
            "n": self.n,
            "top1": first / self.n,
            "top5": among / self.n,
            "top1_interval": list(wilson(first, self.n)),
            "top5_interval": list(wilson(among, self.n)),
            "mean_per_class": float(np.mean([s.top1 / s.n for s in self.per_class()])),
            "ece": self._calibration.error(),
            "failed": self.failed,
            **({} if self.damaged is None else {"damaged": self.damaged}),
        }

    def per_class(self) -> list[ClassScore]:
        """Return the score of each class that has images, ordered by class id."""
        return [
            ClassScore(self._names[i], self._images[i], self._first[i], self._among[i])
            for i in sorted(self._images)
        ]

    def confusion(self) -> Iterator[tuple[ClassName, ClassName, int]]:
        """Yield each true class with a predicted one, and how many images have this pair."""
        for (truth, predicted), images in sorted(self._confused.items()):
            yield self._names[truth], self._names[predicted], images

    def mistakes(self) -> list[Mistake]:
        """Return the images whose best label is wrong, the most probable labels first."""
        return sorted(self._mistakes, key=lambda mistake: (-mistake.probability, mistake.path))
