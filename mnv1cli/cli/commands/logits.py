"""`mnv1 logits`: the scores of all classes for images."""

from __future__ import annotations

import click

from mnv1cli.cli.help import EXIT_CODES, Group, GroupedCommand, option
from mnv1cli.cli.run import ImageRun, image_command
from mnv1cli.types import Task


@click.command(cls=GroupedCommand, epilog=EXIT_CODES)
@option(
    Group.OUTPUT,
    "--probabilities",
    is_flag=True,
    help="Write probabilities: the softmax of the scores, or what a module with a softmax gives.",
)
@image_command
def logits(run: ImageRun, probabilities: bool) -> None:
    """Write the scores of all classes for each image.

    INPUT is a file, a folder, a quoted glob, a URI, or '-' for paths on stdin.
    """
    run.start(Task("logits", probabilities=probabilities))
