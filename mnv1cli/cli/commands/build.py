"""`mnv1 module build`: write a TF1 Hub module."""

from __future__ import annotations

from pathlib import Path

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.options import AS_JSON, QUIET, VERBOSE
from mnv1cli.errors import OptionError

_PATH = click.Path(path_type=Path)


@click.command(cls=GroupedCommand)
@option(
    Group.INPUT,
    "--checkpoint",
    metavar="PATH",
    type=_PATH,
    help="A TF-Slim checkpoint: its prefix, any of its files, its folder, or an archive of it.",
)
@option(
    Group.INPUT,
    "--weights",
    metavar="NPZ",
    type=_PATH,
    help="An .npz file of variables by their TF-Slim names.",
)
@option(
    Group.MODULE,
    "--depth-multiplier",
    metavar="M",
    type=click.FloatRange(min=0, min_open=True),
    help="Default: computed from the shapes of the variables.",
)
@option(
    Group.MODULE,
    "--image-size",
    metavar="N",
    type=click.IntRange(min=32),
    help="Image size in pixels. Default: from the checkpoint's name, else 128.",
)
@option(
    Group.OUTPUT,
    "-o",
    "--output",
    metavar="DIR",
    type=_PATH,
    required=True,
    help="Write the module to the directory DIR, or with --tar to the archive DIR.",
)
@option(Group.OUTPUT, "--tar", "as_tar", is_flag=True, help="Write a .tar.gz as the hub serves it.")
@QUIET
@VERBOSE
@AS_JSON
def build(
    checkpoint: Path | None,
    weights: Path | None,
    depth_multiplier: float | None,
    image_size: int | None,
    output: Path,
    as_tar: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Write a TF1 Hub module from a checkpoint or from weights."""
    with console.session(quiet, verbose):
        from mnv1cli.cli.show import print_facts
        from mnv1cli.modules.build import build_module

        if (checkpoint is None) == (weights is None):
            raise OptionError("give either --checkpoint or --weights")
        fingerprint = build_module(
            checkpoint, weights, depth_multiplier, image_size, output, as_tar
        )
        facts = {"path": str(output), "fingerprint": fingerprint}
        print_facts(facts, as_json, f"{output}: fingerprint {fingerprint}")
