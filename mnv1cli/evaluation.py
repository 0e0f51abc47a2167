"""How good predictions are, held against what the images show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnv1cli import labels
from mnv1cli.errors import LabelsError, ResultError
from mnv1cli.metrics import Calibration, wilson
from mnv1cli.readers import open_result
from mnv1cli.records import Layout, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mnv1cli.labels import ClassName
    from mnv1cli.records import Prediction
    from mnv1cli.truth import Resolved

TOP = 5


class Mistake(NamedTuple):
    """An image whose best label is wrong; `probability` is that label's."""

    path: bytes
    truth: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How many of `n` images of a class have it as their first label, or among the first five."""

    name: ClassName
    n: int
    top1: int
    top5: int


class Evaluation:
    """Scores of predictions against truth, an image after the other.

    `failed` counts the images that could not be read.
    """

    def __init__(self, names: Sequence[ClassName]) -> None:
        self.n = 0
        self.failed = 0
        self._names = names
        self._calibration = Calibration()
        self._images: Counter[int] = Counter()
        self._first: Counter[int] = Counter()
        self._among: Counter[int] = Counter()
        self._confused: Counter[tuple[int, int]] = Counter()
        self._mistakes: list[Mistake] = []

    def add(self, table: Table, truth: Resolved) -> None:
        """Take the images of a table with the first five labels of each."""
        for path, error, found in zip(table.paths, table.errors, table.predictions, strict=True):
            if error:
                self.failed += 1
            elif (wanted := truth.of(path)) is not None:
                self._score(path, wanted, found)

    def _score(self, path: bytes, wanted: int, found: Sequence[Prediction]) -> None:
        if not found:
            raise ResultError(
                "an image has no label", "give results without --min-probability, or logits"
            )
        best = found[0]
        right = best.class_id == wanted
        self.n += 1
        self._images[wanted] += 1
        self._first[wanted] += right
        self._among[wanted] += any(p.class_id == wanted for p in found[:TOP])
        self._confused[wanted, best.class_id] += 1
        self._calibration.add(best.probability, right)
        if not right:
            truth = self._names[wanted].label
            self._mistakes.append(Mistake(path, truth, best.label, best.probability))

    def figures(self) -> dict[str, Any]:
        """The figures as fractions of 1, with 95 % Wilson intervals.

        `mean_per_class` is the mean of the classes' own accuracies, `ece` the
        expected calibration error.
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
        }

    def per_class(self) -> list[ClassScore]:
        """Each class that an image is of, by its id."""
        return [
            ClassScore(self._names[i], self._images[i], self._first[i], self._among[i])
            for i in sorted(self._images)
        ]

    def confusion(self) -> Iterator[tuple[ClassName, ClassName, int]]:
        """How often one class was taken for another, or for itself, where it ever was."""
        for (wanted, found), count in sorted(self._confused.items()):
            yield self._names[wanted], self._names[found], count

    def mistakes(self) -> list[Mistake]:
        """The images whose best label is wrong, those first that are surest of it."""
        return sorted(self._mistakes, key=lambda mistake: (-mistake.probability, mistake.path))


class SavedPredictions:
    """The first five labels of each image out of a result that is there.

    `failed` counts the images that failed, those that were passed among them.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or holds something else.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._result = open_result(file)
        self._told = self._result.metadata or {}
        self._layout = self._result.layout or Layout((0,), labels=True)
        self.failed = len(self._told.get("failures", ()))
        self._refuse()

    def names(self, own: Path | None) -> tuple[ClassName, ...]:
        """The names of the result's classes: those of the file `own`, else ImageNet's.

        Raises:
            LabelsError: they are not those that the result was made with.
        """
        if not self._layout.labels:
            return labels.labels_for(self._layout.shape[-1], own)
        names = labels.imagenet() if own is None else labels.read_labels(own)
        usual = labels.digest(labels.imagenet())
        if self._told.get("labels", usual) != labels.digest(names):
            raise LabelsError(
                f"{self._file} was made with other class names", "give them with --labels FILE"
            )
        return names

    def tables(self, names: tuple[ClassName, ...]) -> Iterator[Table]:
        """Predictions of the images that did not fail."""
        for table in self._result.tables():
            good = table.without_faults()
            if not self._told:
                self.failed += len(table.paths) - len(good.paths)
            yield good if self._layout.labels else ranked(good, names, self._told.get("output"))

    def _refuse(self) -> None:
        told, file = self._told, self._file
        output = told.get("output", "logits")
        if self._layout.wide:
            raise ResultError(
                f"{file} was made with --wide and has no class ids",
                "give one that was made without, or logits",
            )
        if not self._layout.labels and output not in ("logits", "probabilities"):
            raise ResultError(f"{file} holds {output}, no labels and no logits")
        if told.get("top", TOP) < TOP or "min_probability" in told:
            raise ResultError(
                f"{file} has not the first {TOP} labels of every image",
                f"make it with --top {TOP} and without --min-probability, or give logits",
            )


def ranked(table: Table, names: tuple[ClassName, ...], output: str | None = None) -> Table:
    """The first five labels of each image for its logits, or its `output`, "probabilities"."""
    values = table.values
    assert values is not None
    if output == "probabilities":
        # The softmax of their logarithms is what they are.
        with np.errstate(divide="ignore"):
            values = np.log(values)
    found = labels.top_k(values, names, min(TOP, len(names)))
    return Table(table.paths, table.errors, predictions=tuple(found))


def evaluated(tables: Iterable[Table], truth: Resolved, names: Sequence[ClassName]) -> Evaluation:
    """The evaluation of predictions.

    Raises:
        LabelsError: of no image it is known what it shows.
    """
    evaluation = Evaluation(names)
    for table in tables:
        evaluation.add(table, truth)
    if not evaluation.n:
        failed = [f"{evaluation.failed:,} images failed"] if evaluation.failed else []
        why = "; ".join([*failed, *truth.remarks()]) or "there is no image"
        raise LabelsError(f"nothing can be evaluated: {why}")
    return evaluation
