"""`mnv1 classify`: the most probable labels of images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from mnv1cli.cli.help import EXIT_CODES, Group, GroupedCommand, option
from mnv1cli.cli.options import LABELS
from mnv1cli.cli.run import ImageRun, image_command
from mnv1cli.types import Task

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=GroupedCommand, epilog=EXIT_CODES)
@option(
    Group.OUTPUT,
    "--top",
    metavar="K",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Labels per image.",
)
@option(
    Group.OUTPUT,
    "--min-probability",
    metavar="P",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Write only labels with at least probability P, from 0 to 1.",
)
@option(Group.OUTPUT, "--wide", is_flag=True, help="CSV and TSV: one row per image.")
@option(
    Group.OUTPUT,
    "--with-meta",
    "meta",
    is_flag=True,
    help="Add width, height, mtime and exif_datetime of each image.",
)
@image_command
@LABELS
def classify(
    run: ImageRun, top: int, min_probability: float, wide: bool, labels: Path | None, meta: bool
) -> None:
    """Write the most probable labels of each image.

    INPUT is a file, a folder, a quoted glob, a URI, or '-' for paths on stdin.
    """
    if math.isnan(min_probability):
        raise click.BadParameter("nan is not a probability", param_hint="--min-probability")
    task = Task("classify", top=top, min_probability=min_probability, meta=meta)
    run.start(task, wide, labels)
