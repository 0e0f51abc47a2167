"""`mnv1 finetune`: train a module for other classes."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.options import (
    AS_JSON,
    DAMAGED,
    EXIF,
    IMAGE_SIZE,
    INPUT_RANGE,
    MODULE,
    PREPROCESS,
    QUIET,
    THREADS,
    VERBOSE,
    fetch_options,
    with_progress,
)
from mnv1cli.cli.param_types import FILE
from mnv1cli.errors import OptionError
from mnv1cli.training.options import FinetuneOptions
from mnv1cli.types import MAX_BATCH

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.training.finetune import FinetuneResult
    from mnv1cli.types import FetchOptions, InputRange

_DEFAULTS = FinetuneOptions()


@click.command(cls=GroupedCommand)
@click.argument("folder", metavar="DIR", type=FILE)
@option(
    Group.INPUT,
    "--held-out",
    metavar="FRACTION",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=_DEFAULTS.held_out,
    show_default=True,
    help="Fraction of each class that is held out of the training to test the result.",
)
@option(
    Group.INPUT,
    "--seed",
    metavar="S",
    type=click.IntRange(0, 2**32 - 1),
    default=_DEFAULTS.seed,
    show_default=True,
    help="Seed of all random choices: the images held out, their order, the crops.",
)
@MODULE
@fetch_options
@IMAGE_SIZE
@INPUT_RANGE
@PREPROCESS
@EXIF
@DAMAGED
@option(Group.RUN, "--full", is_flag=True, help="Train all layers, not only the last one.")
@option(
    Group.RUN,
    "--epochs",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=_DEFAULTS.epochs,
    show_default=True,
    help="With --full: maximum number of passes over the images.",
)
@option(
    Group.RUN,
    "--learning-rate",
    metavar="RATE",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULTS.learning_rate,
    show_default=True,
    help="With --full: highest learning rate; it rises to RATE, then falls as a cosine.",
)
@option(
    Group.RUN,
    "--batch-size",
    metavar="N",
    type=click.IntRange(2, MAX_BATCH),
    default=_DEFAULTS.batch_size,
    show_default=True,
    help="With --full: images per training step.",
)
@THREADS
@QUIET
@VERBOSE
@option(
    Group.OUTPUT,
    "-o",
    "--output",
    metavar="MODULE",
    type=FILE,
    required=True,
    help="Write the new module to the folder MODULE.",
)
@option(Group.OUTPUT, "--force", is_flag=True, help="Replace an existing module.")
@option(
    Group.OUTPUT, "--resume", is_flag=True, help="With --full: continue an interrupted training."
)
@AS_JSON
def finetune(
    folder: Path,
    output: Path,
    module: str | None,
    fetch: FetchOptions,
    image_size: int | None,
    input_range: InputRange,
    preprocess: Any,
    exif: bool,
    damaged: Any,
    threads: int | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a module for your own classes: the folders in DIR.

    The result is a module like any other; its labels are the names of the folders. Its
    accuracy is measured on images that were held out, which MODULE.split.csv lists.
    """
    with console.session(quiet, verbose) as stream:
        _check(options)
        from mnv1cli.inference.reopen import open_predictor
        from mnv1cli.inference.settings import Settings
        from mnv1cli.runs.tally import SOME_FAILED
        from mnv1cli.training.files import find_begun_module
        from mnv1cli.training.finetune import finetune as train_module

        fetch = with_progress(fetch, stream, quiet)
        settings = Settings(
            preprocess=preprocess,
            exif=exif,
            damaged=damaged,
            image_size=image_size,
            input_range=input_range,
            threads=threads,
            fetch=fetch,
        )
        training = FinetuneOptions(**options)
        made_with = find_begun_module(output) if training.resume else None
        predictor = open_predictor(module, settings, made_with)
        result = train_module(predictor, folder, output, training, fetch.bar)
        _print(result, as_json)
        if result.failed:
            raise SystemExit(SOME_FAILED)


def _check(options: dict[str, Any]) -> None:
    """Refuse options that would have no effect, and numbers that are not finite."""
    context = click.get_current_context()
    for name in ("epochs", "learning_rate", "batch_size", "resume"):
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and not options["full"]:
            raise OptionError(
                f"{_flag(name)} can only be used with --full",
                "without it only the last layer is trained",
            )
    for name in ("held_out", "learning_rate"):
        if not math.isfinite(options[name]):
            raise OptionError(f"{_flag(name)} {options[name]} is not a finite number")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _print(result: FinetuneResult, as_json: bool) -> None:
    """Print what a module was trained with, and its accuracy."""
    if as_json:
        from mnv1cli.cli.show import print_json

        facts = dataclasses.asdict(result)
        del facts["faults"]
        if result.damaged is None:
            del facts["damaged"]
        print_json(facts)
        return
    held = result.held_out
    failed = f", {result.failed:,} could not be read" if result.failed else ""
    if result.damaged:
        failed += f", {result.damaged:,} damaged and accepted"
    low, high = (100 * end for end in held.interval)
    trained = ""
    if result.epochs is not None:
        best = f"epoch {result.epochs} was the best" if result.epochs else "no epoch was better"
        trained = f"; of all layers {best}"
    click.echo(
        f"{result.path}: {result.classes:,} classes from {result.images:,} images{failed}"
        f"{trained}\n"
        f"of {held.n:,} images held out {100 * held.accuracy:.1f} % are right "
        f"(95 % interval {low:.1f} to {high:.1f} %); always naming their largest class would "
        f"give {100 * held.majority:.1f} %"
    )
