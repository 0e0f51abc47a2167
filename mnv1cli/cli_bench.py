"""The command that measures."""

from __future__ import annotations

import os
from typing import Any

import click

from mnv1cli import console
from mnv1cli.cli_images import BATCH_SIZE, IMAGE_SIZE, MODULE, OFFLINE, PREPROCESS, THREADS


@click.command()
@click.argument("inputs", metavar="[INPUT]...", nargs=-1)
@click.option(
    "--images",
    metavar="N",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Images a round; those of INPUT are taken over and over.",
)
@MODULE
@OFFLINE
@IMAGE_SIZE
@PREPROCESS
@THREADS
@BATCH_SIZE
@click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
@click.option("-q", "--quiet", is_flag=True, help="Show errors alone.")
@click.option("-v", "--verbose", is_flag=True, help="Show what TensorFlow says.")
def bench(
    inputs: tuple[str, ...],
    images: int,
    module: str | None,
    offline: bool,
    image_size: int | None,
    preprocess: Any,
    threads: int | None,
    batch_size: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Images a second on this machine, stage by stage.

    INPUT is a file, a folder or a quoted glob; without it the photos are made
    up, of 500x375 and 4000x3000.
    """
    with console.session(quiet, verbose):
        from mnv1cli import listings
        from mnv1cli.api import Classifier
        from mnv1cli.bench import bench as measure

        def make(engine: Any, precision: Any) -> Classifier:
            return Classifier(
                module,
                preprocess=preprocess,
                image_size=image_size,
                engine=engine,
                precision=precision,
                threads=threads,
                batch_size=batch_size,
                offline=offline,
            )

        results = measure([os.fsencode(name) for name in inputs], images, make)
        listings.print_bench(results, as_json)
