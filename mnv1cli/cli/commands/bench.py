"""The commands that measure: how fast, and at what price."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from mnv1cli.cli import console
from mnv1cli.cli.commands.module import module as module_group
from mnv1cli.cli.commands.module import with_bar
from mnv1cli.cli.options import (
    AS_JSON,
    BATCH_SIZE,
    IMAGE_SIZE,
    MODULE,
    PREPROCESS,
    QUIET,
    THREADS,
    VERBOSE,
    fetch_options,
)
from mnv1cli.cli.param_types import complete_files

if TYPE_CHECKING:
    from mnv1cli.types import FetchOptions


@click.command()
@click.argument("inputs", metavar="[INPUT]...", nargs=-1, shell_complete=complete_files)
@click.option(
    "--images",
    metavar="N",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Images a round; those of INPUT are taken over and over.",
)
@MODULE
@fetch_options
@IMAGE_SIZE
@PREPROCESS
@THREADS
@BATCH_SIZE
@QUIET
@VERBOSE
@AS_JSON
def bench(
    inputs: tuple[str, ...],
    images: int,
    module: str | None,
    fetch: FetchOptions,
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
        from mnv1cli.analysis.benchmark import bench as measure
        from mnv1cli.api import Classifier
        from mnv1cli.cli import reports

        def make(engine: Any, precision: Any) -> Classifier:
            return Classifier(
                module,
                preprocess=preprocess,
                image_size=image_size,
                engine=engine,
                precision=precision,
                threads=threads,
                batch_size=batch_size,
                fetch=fetch,
            )

        results = measure([os.fsencode(name) for name in inputs], images, make)
        reports.print_bench(results, as_json)


@module_group.command()
@click.argument(
    "inputs", metavar="INPUT...", nargs=-1, required=True, shell_complete=complete_files
)
@click.option(
    "--samples",
    metavar="N",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Images to calibrate with, at most; as many others are held back to compare on.",
)
@click.option(
    "--seed", metavar="S", type=int, default=0, show_default=True, help="Which images are drawn."
)
@click.option(
    "--endpoint", metavar="NAME", default="", help="Calibrate for this layer, not for the results."
)
@MODULE
@fetch_options
@IMAGE_SIZE
@PREPROCESS
@QUIET
@VERBOSE
@AS_JSON
def quantize(
    inputs: tuple[str, ...],
    samples: int,
    seed: int,
    endpoint: str,
    module: str | None,
    fetch: FetchOptions,
    image_size: int | None,
    preprocess: Any,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Prepare a module for --precision int8, calibrated on your own images.

    INPUT is a file, a folder or a quoted glob. It reports what int8 costs on
    images of INPUT that were held back.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.api import Classifier
        from mnv1cli.cli import reports
        from mnv1cli.inputs.listing import Listing

        listing = Listing([os.fsencode(name) for name in inputs])
        listing.require_images()
        classifier = Classifier(
            module,
            preprocess=preprocess,
            image_size=image_size,
            fetch=with_bar(fetch, stream, quiet),
        )
        price = classifier.quantize(listing, samples, seed, endpoint)
        reports.print_price(price, as_json)
