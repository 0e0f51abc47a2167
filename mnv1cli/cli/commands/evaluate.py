"""`mnv1 evaluate`: how good the labels are, held against what the images show."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mnv1cli.cli import console
from mnv1cli.cli.image_options import Reading, reading_command
from mnv1cli.cli.options import AS_JSON, FORCE, LABELS, QUIET, VERBOSE
from mnv1cli.cli.param_types import FILE, PLACE
from mnv1cli.errors import OptionError
from mnv1cli.path_text import display_path
from mnv1cli.storage.location import Location, source

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.analysis.evaluate import Evaluation
    from mnv1cli.analysis.truth import Resolved
    from mnv1cli.storage.location import Source


@click.command()
@reading_command
@LABELS
@click.option(
    "--truth",
    metavar="FILE",
    type=FILE,
    help="What the images show: CSV with path and label. Default: the names of their folders.",
)
@click.option(
    "--from",
    "saved",
    metavar="FILE",
    type=PLACE,
    help="Evaluate a result of classify or logits, a file or a dataset, and read no image.",
)
@click.option("--per-class", metavar="FILE", type=FILE, help="Write each class's accuracy to FILE.")
@click.option(
    "--confusion", metavar="FILE", type=FILE, help="Write which class was taken for which to FILE."
)
@click.option(
    "--mistakes",
    metavar="FILE",
    type=FILE,
    help="Write the wrong labels to FILE, worst first.",
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
    """How often the first label is right, and one of the first five.

    INPUT holds a folder for each class, named by WordNet id, class id or label;
    or --truth says what the images show, and may then name them, too.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.cli import reports

        if saved is not None and not reading.is_empty:
            raise OptionError("--from takes results that are there, and reads no images")
        if saved is not None and reading.shard is not None:
            raise OptionError("--shard is for images, and --from takes all of a result")
        files = (per_class, confusion, mistakes)
        result = None if saved is None else source(saved)
        read = result if not isinstance(result, Location) else None
        outputs = reports.evaluation_outputs(files, (truth, read, labels), force)
        if result is not None:
            evaluation, resolved = _of_saved(result, truth, labels)
        else:
            progress = console.progress(stream, quiet)
            evaluation, resolved = _of_images(reading, truth, labels, progress)
        for remark in resolved.remarks():
            console.log.warning("%s", remark)
        reports.write_evaluation(outputs, evaluation, per_class, confusion, mistakes)
        reports.print_evaluation(evaluation, as_json)
        raise SystemExit(3 if evaluation.failed else 0)


def _of_saved(file: Source, truth: Path | None, own: Path | None) -> tuple[Evaluation, Resolved]:
    from mnv1cli.analysis.evaluate import SavedPredictions, evaluated
    from mnv1cli.analysis.truth import ListTruth, Resolved

    saved = SavedPredictions(file)
    names = saved.names(own)
    resolved = Resolved(saved.folders() if truth is None else ListTruth(truth), names)
    evaluation = evaluated(saved.tables(names), resolved, names, saved.failed)
    evaluation.failed = saved.failed
    return evaluation, resolved


def _of_images(
    reading: Reading, file: Path | None, own: Path | None, progress: Any
) -> tuple[Evaluation, Resolved]:
    from mnv1cli.analysis.truth import FolderTruth, ListTruth

    roots = [os.fsencode(name) for name in reading.inputs]
    truth = FolderTruth(roots) if file is None else ListTruth(file, roots)
    if reading.is_empty and isinstance(truth, ListTruth):
        shard = reading.shard
        images = [path for path in truth.images() if shard is None or shard.has(path)]
        return reading.classifier(own, progress).evaluate(images, truth, progress)
    with contextlib.closing(reading.listing()) as listing:
        listing.require_images()
        found = reading.classifier(own, progress).evaluate(listing, truth, progress)
        for folder in listing.empty:
            console.log.warning("no images in %s", display_path(folder))
        return found
