"""The command that trains a module for other classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mnv1cli.cli import console
from mnv1cli.cli.commands.module import with_bar
from mnv1cli.cli.options import (
    AS_JSON,
    IMAGE_SIZE,
    MODULE,
    PREPROCESS,
    QUIET,
    THREADS,
    VERBOSE,
    fetch_options,
)
from mnv1cli.cli.param_types import FILE
from mnv1cli.errors import OptionError
from mnv1cli.training.options import FinetuneOptions
from mnv1cli.types import MAX_BATCH

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.types import FetchOptions

_DEFAULTS = FinetuneOptions()


@click.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.option(
    "-o", "--output", metavar="MODULE", type=FILE, required=True, help="The new module's folder."
)
@click.option(
    "--held-out",
    metavar="FRACTION",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=_DEFAULTS.held_out,
    show_default=True,
    help="How much of each class is not trained with, and tests the result.",
)
@click.option(
    "--seed",
    metavar="S",
    type=click.IntRange(0, 2**32 - 1),
    default=_DEFAULTS.seed,
    show_default=True,
    help="What is drawn: the part held out, the order, the crops.",
)
@click.option("--full", is_flag=True, help="Train all layers, not the last one alone.")
@click.option(
    "--epochs",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=_DEFAULTS.epochs,
    show_default=True,
    help="With --full: passes over the images, at most.",
)
@click.option(
    "--learning-rate",
    metavar="RATE",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULTS.learning_rate,
    show_default=True,
    help="With --full: the highest one; it rises, then falls as a cosine.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(2, MAX_BATCH),
    default=_DEFAULTS.batch_size,
    show_default=True,
    help="With --full: images a step.",
)
@click.option("--force", is_flag=True, help="Replace a module that exists.")
@click.option("--resume", is_flag=True, help="With --full: go on with a run that was cut.")
@MODULE
@fetch_options
@IMAGE_SIZE
@PREPROCESS
@click.option("--exif/--no-exif", default=True, help="Apply the EXIF orientation (default).")
@THREADS
@QUIET
@VERBOSE
@AS_JSON
def finetune(
    folder: Path,
    output: Path,
    module: str | None,
    fetch: FetchOptions,
    image_size: int | None,
    preprocess: Any,
    exif: bool,
    threads: int | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a module for your own classes: the folders in DIR.

    The result is a module as any other, with the names of the folders for
    labels. It says how good it is on images that were held back, which
    MODULE.split.csv names.
    """
    with console.session(quiet, verbose) as stream:
        _check(options)
        from mnv1cli.api import Classifier
        from mnv1cli.cli import reports
        from mnv1cli.runs.tally import SOME_FAILED

        bar = with_bar(fetch, stream, quiet)
        classifier = Classifier(
            module,
            preprocess=preprocess,
            exif=exif,
            image_size=image_size,
            threads=threads,
            fetch=bar,
        )
        tuned = classifier.finetune(folder, output, progress=bar.bar, **options)
        reports.print_tuned(tuned, as_json)
        if tuned.failed:
            raise SystemExit(SOME_FAILED)


def _check(options: dict[str, Any]) -> None:
    """Refuse options that would have no say, and numbers that are none."""
    context = click.get_current_context()
    for name in ("epochs", "learning_rate", "batch_size", "resume"):
        told = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if told and not options["full"]:
            flag = "--" + name.replace("_", "-")
            raise OptionError(f"{flag} is for --full", "without it the last layer alone is fitted")
    for name in ("held_out", "learning_rate"):
        if not math.isfinite(options[name]):
            flag = "--" + name.replace("_", "-")
            raise OptionError(f"{flag} {options[name]} makes no sense", "name a number")
