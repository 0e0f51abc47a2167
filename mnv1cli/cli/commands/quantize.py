"""`mnv1 module quantize`: prepare a module for int8, and measure what it costs."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.options import (
    AS_JSON,
    IMAGE_SIZE,
    INPUT_RANGE,
    MODULE,
    PREPROCESS,
    QUIET,
    VERBOSE,
    fetch_options,
    with_progress,
)
from mnv1cli.cli.param_types import complete_files

if TYPE_CHECKING:
    from mnv1cli.inference.quantize import Price
    from mnv1cli.types import FetchOptions, InputRange


@click.command(cls=GroupedCommand)
@click.argument(
    "inputs", metavar="INPUT...", nargs=-1, required=True, shell_complete=complete_files
)
@option(
    Group.INPUT,
    "--samples",
    metavar="N",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Calibrate with at most N images. As many others are held back for the comparison.",
)
@option(
    Group.INPUT,
    "--seed",
    metavar="S",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the random choice of images.",
)
@option(
    Group.MODULE,
    "--endpoint",
    metavar="NAME",
    default="",
    help="Calibrate for the values of this layer instead of the results.",
)
@MODULE
@fetch_options
@IMAGE_SIZE
@INPUT_RANGE
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
    input_range: InputRange,
    preprocess: Any,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Prepare a module for --precision int8 with your own images.

    INPUT is a file, a folder or a quoted glob. Some of its images are held back; on them
    int8 is compared with float32.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.inference.predictor import Predictor
        from mnv1cli.inference.quantize import quantize as quantize_module
        from mnv1cli.inference.settings import Settings
        from mnv1cli.inputs.listing import Listing

        listing = Listing([os.fsencode(name) for name in inputs])
        listing.require_images()
        settings = Settings(
            preprocess=preprocess,
            image_size=image_size,
            input_range=input_range,
            fetch=with_progress(fetch, stream, quiet),
        )
        predictor = Predictor(module, settings)
        _print(quantize_module(predictor, listing, samples, seed, endpoint), as_json)


def _print(price: Price, as_json: bool) -> None:
    """Print what int8 costs and gains."""
    if as_json:
        from mnv1cli.cli.show import print_json

        print_json(dataclasses.asdict(price))
        return
    agreement = ""
    if price.agreement is not None:
        agreement = f"the best label is the same for {100 * price.agreement:.1f} %, "
    failed = f" ({price.failed} could not be read)" if price.failed else ""
    click.echo(
        f"{price.module} is calibrated on {price.calibrated_on} images{failed}. On "
        f"{price.held_back} others {agreement}the cosine of the results is "
        f"{price.similarity:.3f}, and the network without decoding is {price.speed:.1f} times "
        "as fast as with float32"
    )
