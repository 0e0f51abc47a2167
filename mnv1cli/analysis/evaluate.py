"""How good predictions are, held against what the images show."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnv1cli.analysis.metrics import Calibration, wilson
from mnv1cli.analysis.truth import ListTruth, Resolved, SavedTruth
from mnv1cli.errors import LabelsError, ResultError
from mnv1cli.inference import ranking
from mnv1cli.labels import names as labels
from mnv1cli.path_text import display_path
from mnv1cli.results.readers import open_result
from mnv1cli.runs.tally import Tally
from mnv1cli.types import Layout, Table, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    from mnv1cli.analysis.truth import Truth
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.labels.names import ClassName
    from mnv1cli.storage.location import Source
    from mnv1cli.types import FloatArray, ImageRef, Prediction

TOP = 5
_ENOUGH = f"make it with --top {TOP} and without --min-probability, or give logits"


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
                truth.passed(path)
            elif (wanted := truth.of(path)) is not None:
                self._score(path, wanted, found)

    def _score(self, path: bytes, wanted: int, found: Sequence[Prediction]) -> None:
        best = found[0]
        right = best.class_id == wanted
        self.n += 1
        self._images[wanted] += 1
        self._first[wanted] += right
        self._among[wanted] += any(p.class_id == wanted for p in found[:TOP])
        self._confused[wanted, best.class_id] += 1
        # Of the digits in a text as in memory.
        self._calibration.add(float(np.float32(best.probability)), right)
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

    def __init__(self, file: Source) -> None:
        self._file = file
        self._result = open_result(file)
        self._metadata = self._result.metadata
        self._layout = self._result.layout or Layout((0,), labels=True)
        self.failed = len(self._metadata.failures or ()) if self._metadata else 0
        self._refuse()

    def names(self, own: Path | None) -> tuple[ClassName, ...]:
        """The names of the result's classes: those of the file `own`, else ImageNet's.

        Raises:
            LabelsError: they are not those that the result was made with.
        """
        if not self._layout.labels:
            return self._names_of_scores(own)
        names = labels.imagenet() if own is None else labels.read_labels(own)
        digest = (self._metadata and self._metadata.labels) or labels.digest(labels.imagenet())
        if digest != labels.digest(names):
            raise LabelsError(
                f"{self._file} was made with other class names", "give them with --labels FILE"
            )
        return names

    def tables(self, names: tuple[ClassName, ...]) -> Iterator[Table]:
        """Predictions of the images that did not fail."""
        for table in self._result.tables():
            good = table.without_faults()
            if self._metadata is None:
                self.failed += len(table.paths) - len(good.paths)
            yield self._checked(good, names) if self._layout.labels else self._ranked(good, names)

    def folders(self) -> SavedTruth:
        """What the images show, by the names of their folders."""
        return SavedTruth(self._result.paths())

    def _names_of_scores(self, own: Path | None) -> tuple[ClassName, ...]:
        names = labels.imagenet() if own is None else labels.read_labels(own)
        if self._layout.shape != (len(names),):
            numbers = " x ".join(map(str, self._layout.shape))
            raise LabelsError(
                f"{self._file} has {numbers} numbers an image, and there are {len(names)} names",
                "give scores of the classes, and names of your own with --labels FILE",
            )
        return names

    def _ranked(self, table: Table, names: tuple[ClassName, ...]) -> Table:
        output = self._metadata.output if self._metadata else None
        found = ranked(table, names, output)
        self.failed += len(table.paths) - len(found.paths)
        return found

    def _checked(self, table: Table, names: Sequence[ClassName]) -> Table:
        """The same table, if it has the first labels of every image, of classes that there are."""
        wanted = list(range(1, min(TOP, len(names)) + 1))
        for path, found in zip(table.paths, table.predictions, strict=True):
            if [p.rank for p in found[:TOP]] != wanted:
                raise ResultError(
                    f"{self._file} has not the first {len(wanted)} labels of {display_path(path)}",
                    _ENOUGH,
                )
            if not all(_is_sound(p, len(names)) for p in found[:TOP]):
                raise ResultError(
                    f"{self._file} is damaged: it has no class and probability for a label of "
                    f"{display_path(path)}"
                )
        return table

    def _refuse(self) -> None:
        metadata, file = self._metadata, self._file
        output = (metadata and metadata.output) or "logits"
        if self._layout.wide:
            raise ResultError(
                f"{file} was made with --wide and has no class ids",
                "give one that was made without, or logits",
            )
        if not self._layout.labels and output not in ("logits", "probabilities"):
            raise ResultError(f"{file} holds {output}, no labels and no logits")
        if metadata and metadata.min_probability:
            raise ResultError(f"{file} has not the first labels of every image", _ENOUGH)


def _is_sound(found: Prediction, classes: int) -> bool:
    """Whether a label out of a file is one of a module with so many classes."""
    numbers = isinstance(found.class_id, int) and isinstance(found.probability, int | float)
    return numbers and 0 <= found.class_id < classes and 0 <= found.probability <= 1


def _sum_to_one(values: FloatArray) -> bool:
    """Whether these are probabilities; no network's scores are."""
    sums = values.sum(axis=1, dtype=np.float64)
    return bool((values >= 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-3))


def ranked(table: Table, names: tuple[ClassName, ...], output: str | None = None) -> Table:
    """The first five labels of each image for its scores.

    `output` says that they are probabilities; without it these are known by
    their sum. Rows that are no numbers are those of images that failed, and
    are left out.
    """
    values = table.values
    assert values is not None
    good = np.isfinite(values.max(axis=1))
    paths, values = tuple(itertools.compress(table.paths, good)), values[good]
    found = ranking.top_k(values, names, min(TOP, len(names)))
    if output == "probabilities" or (output is None and _sum_to_one(values)):
        found = [
            tuple(p._replace(probability=float(row[p.class_id])) for p in image)
            for row, image in zip(values, found, strict=True)
        ]
    return Table(paths, ("",) * len(paths), predictions=tuple(found))


def evaluated(
    tables: Iterable[Table], truth: Resolved, names: Sequence[ClassName], failed: int = 0
) -> Evaluation:
    """The evaluation of predictions; so many images have `failed` that do not come.

    Raises:
        LabelsError: of no image it is known what it shows.
    """
    evaluation = Evaluation(names)
    evaluation.failed = failed
    for table in tables:
        evaluation.add(table, truth)
    if not evaluation.n:
        images = "1 image" if evaluation.failed == 1 else f"{evaluation.failed:,} images"
        remarks = [f"{images} failed"] if evaluation.failed else []
        why = "; ".join([*remarks, *truth.remarks()]) or "there is no image"
        raise LabelsError(f"nothing can be evaluated: {why}")
    return evaluation


def evaluate_images(
    predictor: Predictor,
    images: Iterable[ImageRef],
    truth: Truth,
    progress: TextIO | None = None,
) -> tuple[Evaluation, Resolved]:
    """Classify images and evaluate their labels; return the evaluation, and its truth.

    Images that cannot be read are logged and counted. A bar on the stream `progress` shows
    how many images are done.

    Raises:
        LabelsError: the truth of no image is known.
    """
    job = predictor.make_job(Task("classify", top=TOP))
    resolved = Resolved(truth, job.names)
    with contextlib.closing(Tally(progress)) as tally:
        tables = map(tally.counted, job.tables(images))
        return evaluated(tables, resolved, job.names), resolved


def evaluate_result(
    file: Source, truth: Path | None = None, labels: Path | None = None
) -> tuple[Evaluation, Resolved]:
    """Evaluate a result of classify or logits; return the evaluation, and its truth.

    `truth` is a list of what the images show; without it the names of their folders are the
    truth. `labels` has the names of classes where they are not ImageNet's.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or is no result of classify or logits.
        LabelsError: names or truth do not fit, or the truth of no image is known.
    """
    saved = SavedPredictions(file)
    names = saved.names(labels)
    resolved = Resolved(saved.folders() if truth is None else ListTruth(truth), names)
    evaluation = evaluated(saved.tables(names), resolved, names, saved.failed)
    # What has failed is known only after the last table.
    evaluation.failed = saved.failed
    return evaluation, resolved
