"""`mnv1 evaluate`: the accuracy of labels, compared with what the images show."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.image_options import Reading, reading_command, warn_of_empty
from mnv1cli.cli.options import AS_JSON, FORCE, LABELS, QUIET, VERBOSE
from mnv1cli.cli.param_types import FILE, LOCATION
from mnv1cli.errors import OptionError
from mnv1cli.storage.location import Location
from mnv1cli.storage.sources import to_result_source

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.analysis.evaluation import Evaluation
    from mnv1cli.analysis.truth import ResolvedTruth


@click.command(cls=GroupedCommand)
@option(
    Group.INPUT,
    "--truth",
    metavar="FILE",
    type=FILE,
    help="What the images show: CSV with path and label. Default: the names of their folders.",
)
@option(
    Group.INPUT,
    "--from",
    "saved",
    metavar="FILE",
    type=LOCATION,
    help="Evaluate FILE, a result or a dataset of classify or logits. No image is read.",
)
@reading_command
@LABELS
@option(
    Group.OUTPUT,
    "--per-class",
    metavar="FILE",
    type=FILE,
    help="Write the accuracy of each class to FILE, as CSV.",
)
@option(
    Group.OUTPUT,
    "--confusion",
    metavar="FILE",
    type=FILE,
    help="Write the confusion matrix to FILE: CSV with a count per pair of classes.",
)
@option(
    Group.OUTPUT,
    "--mistakes",
    metavar="FILE",
    type=FILE,
    help="Write the images with a wrong label to FILE, as CSV, the most certain ones first.",
)
@FORCE
@AS_JSON
@QUIET
@VERBOSE
def evaluate(
    reading: Reading,
    labels: Path | None,
    truth: Path | None,
    saved: Location | None,
    per_class: Path | None,
    confusion: Path | None,
    mistakes: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> NoReturn:
    """Measure how often the labels of images are right.

    It reports the share of images whose first label is right (top-1), and of those with the
    right label among the first five (top-5).

    INPUT holds one folder per class, named by WordNet id, class id or label. With --truth
    the folders may have any names; without INPUT all images of its FILE are evaluated.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.analysis.evaluate import evaluate_result
        from mnv1cli.analysis.evaluation_files import EvaluationFiles

        if saved is not None and not reading.is_empty:
            raise OptionError("--from evaluates an existing result", "give it without INPUT")
        if saved is not None and reading.shard is not None:
            raise OptionError("--shard cannot be used with --from, which takes the whole result")
        result = None if saved is None else to_result_source(saved)
        read = result if not isinstance(result, Location) else None
        files = EvaluationFiles(per_class, confusion, mistakes, (truth, read, labels), force)
        if result is not None:
            evaluation, resolved = evaluate_result(result, truth, labels, reading.module)
        else:
            progress = console.progress(stream, quiet)
            evaluation, resolved = _evaluate_images(reading, truth, labels, progress)
        for remark in resolved.remarks():
            console.log.warning("%s", remark)
        files.write(evaluation)
        _print(evaluation, as_json)
        raise SystemExit(3 if evaluation.failed else 0)


def _evaluate_images(
    reading: Reading, file: Path | None, own: Path | None, progress: Any
) -> tuple[Evaluation, ResolvedTruth]:
    from mnv1cli.analysis.evaluate import evaluate_images
    from mnv1cli.analysis.truth import FolderTruth, ListTruth
    from mnv1cli.inputs.from_python import make_refs

    roots = [os.fsencode(name) for name in reading.inputs]
    truth = FolderTruth(roots) if file is None else ListTruth(file, roots)
    if reading.is_empty and isinstance(truth, ListTruth):
        shard = reading.shard
        images = [path for path in truth.images() if shard is None or shard.contains(path)]
        return evaluate_images(reading.predictor(own, progress), make_refs(images), truth, progress)
    with contextlib.closing(reading.listing()) as listing:
        listing.require_images()
        results = evaluate_images(reading.predictor(own, progress), listing, truth, progress)
        warn_of_empty(listing)
        return results


def _print(evaluation: Evaluation, as_json: bool) -> None:
    """Print the figures of an evaluation."""
    from mnv1cli.cli.show import print_json, print_table

    figures = evaluation.figures()
    if as_json:
        print_json(figures)
        return
    rows = [("images", f"{figures['n']:,}", "")]
    for name, key in (("top-1", "top1"), ("top-5", "top5")):
        low, high = figures[f"{key}_interval"]
        rows.append((name, _percent(figures[key]), f"{_percent(low)} to {_percent(high)}"))
    rows += [
        ("mean per class", _percent(figures["mean_per_class"]), ""),
        ("expected calibration error", _percent(figures["ece"]), ""),
    ]
    if evaluation.failed:
        rows.append(("could not be read", f"{evaluation.failed:,}", ""))
    if evaluation.damaged:
        rows.append(("damaged and accepted", f"{evaluation.damaged:,}", ""))
    print_table(("", "", "95 % interval"), rows)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
