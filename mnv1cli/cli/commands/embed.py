"""`mnv1 embed`: the features of images."""

from __future__ import annotations

import click

from mnv1cli.cli.help import EXIT_CODES, Group, GroupedCommand, option
from mnv1cli.cli.run import ImageRun, image_command
from mnv1cli.types import Task


@click.command(cls=GroupedCommand, epilog=EXIT_CODES)
@option(
    Group.OUTPUT,
    "--endpoint",
    metavar="NAME",
    default="",
    help="Write the values of this layer instead; 'mnv1 module show' lists the names.",
)
@option(
    Group.OUTPUT,
    "--pool/--no-pool",
    default=True,
    help="Average a layer over height and width (default), or keep all of its values as "
    "[n, h, w, c] (npy, npz).",
)
@image_command
def embed(run: ImageRun, endpoint: str, pool: bool) -> None:
    """Write the feature vector or another layer of each image.

    INPUT is a file, a folder, a quoted glob, a URI, or '-' for paths on stdin.
    """
    run.start(Task("embed", endpoint=endpoint, pool=pool))
