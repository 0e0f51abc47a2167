"""Evaluations: predictions compared with what the images show."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from mnv1cli.analysis.evaluation import TOP, Evaluation
from mnv1cli.analysis.saved_predictions import SavedPredictions
from mnv1cli.analysis.truth import ListTruth, ResolvedTruth
from mnv1cli.errors import LabelsError
from mnv1cli.path_text import count
from mnv1cli.runs.tally import Tally
from mnv1cli.types import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import TextIO

    from mnv1cli.analysis.truth import Truth
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.labels.names import ClassName
    from mnv1cli.storage.location import ResultSource
    from mnv1cli.types import ImageRef, Table


def evaluate_tables(
    tables: Iterable[Table], truth: ResolvedTruth, names: Sequence[ClassName], failed: int = 0
) -> Evaluation:
    """Evaluate predictions; `failed` images have failed that are not in the tables.

    Raises:
        LabelsError: the truth of no image is known.
    """
    evaluation = Evaluation(names)
    evaluation.failed = failed
    for table in tables:
        evaluation.add(table, truth)
    if not evaluation.n:
        remarks = [f"{count(evaluation.failed, 'image')} failed"] if evaluation.failed else []
        why = "; ".join([*remarks, *truth.remarks()]) or "there is no image"
        raise LabelsError(f"nothing can be evaluated: {why}")
    return evaluation


def evaluate_images(
    predictor: Predictor,
    images: Iterable[ImageRef],
    truth: Truth,
    progress: TextIO | None = None,
) -> tuple[Evaluation, ResolvedTruth]:
    """Classify images and evaluate their labels; return the evaluation, and its truth.

    Images that cannot be read are logged and counted. A bar on the stream `progress` shows
    how many images are done.

    Raises:
        LabelsError: the truth of no image is known.
    """
    job = predictor.make_job(Task("classify", top=TOP))
    resolved = ResolvedTruth(truth, job.names)
    with contextlib.closing(Tally(progress)) as tally:
        tables = map(tally.counted, job.compute_tables(images))
        return evaluate_tables(tables, resolved, job.names), resolved


def evaluate_result(
    file: ResultSource,
    truth: Path | None = None,
    labels: Path | None = None,
    module: str | None = None,
) -> tuple[Evaluation, ResolvedTruth]:
    """Evaluate a result of classify or logits; return the evaluation, and its truth.

    `truth` is a list of what the images show; without it the names of their folders are the
    truth. `labels` has the names of classes where they are neither ImageNet's nor those of the
    result's module, and `module` says where that is now.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or is no result of classify or logits.
        LabelsError: names or truth do not fit, or the truth of no image is known.
    """
    saved = SavedPredictions(file, module)
    names = saved.names(labels)
    resolved = ResolvedTruth(saved.folder_truth() if truth is None else ListTruth(truth), names)
    evaluation = evaluate_tables(saved.tables(names), resolved, names, saved.failed)
    # What has failed is known only after the last table.
    evaluation.failed = saved.failed
    return evaluation, resolved
