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
from mnv1cli.inference.int8.recipes import RECIPE_NAMES
from mnv1cli.path_text import count

if TYPE_CHECKING:
    from mnv1cli.inference.int8.quantize import Price
    from mnv1cli.types import Engine, FetchOptions, InputRange


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
@option(
    Group.RUN,
    "--engine",
    type=click.Choice(("litert", "openvino")),
    help="Try the recipes of this engine only. Default: of all that are installed.",
)
@option(
    Group.RUN,
    "--recipe",
    type=click.Choice(RECIPE_NAMES),
    help="Keep the model of this recipe, without trying others.",
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
    engine: Engine | None,
    recipe: str | None,
    module: str | None,
    fetch: FetchOptions,
    image_size: int | None,
    input_range: InputRange,
    preprocess: Any,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Make --precision int8 agree better, with your own images.

    INPUT is a file, a folder or a quoted glob. Recipes are tried on some of its images, and
    compared with float32 on others. Kept is the fastest of those that keep 95 % of labels, and
    lose at most 2 % of labels and 0.01 of the cosine against the best.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.inference.int8.quantize import quantize as quantize_module
        from mnv1cli.inference.predictor import Predictor
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
        price = quantize_module(predictor, listing, samples, seed, endpoint, engine, recipe)
        _print(price, as_json)


def _print(price: Price, as_json: bool) -> None:
    """Print the recipes that were tried, and what the one that was kept costs and gains."""
    from mnv1cli.cli.show import print_json, print_table

    if as_json:
        print_json(dataclasses.asdict(price))
        return
    same = None if price.agreement is None else 1.0
    rows = [("float32", "litert", _percent(same), "1.000", f"{price.float_milliseconds:.2f}", "")]
    for trial in price.trials:
        figures = _percent(trial.agreement), f"{trial.similarity:.3f}", f"{trial.milliseconds:.2f}"
        rows.append((trial.recipe, trial.engine, *figures, trial.summary))
    print_table(("recipe", "engine", "same label", "cosine", "CPU ms", "summary"), rows)
    agreement = ""
    if price.agreement is not None:
        agreement = f"the best label is the same for {_percent(price.agreement)}, "
    failed = f" ({price.failed} could not be read)" if price.failed else ""
    click.echo(
        f"{price.module} is calibrated on {count(price.calibrated_on, 'image')}{failed}, and "
        f"{price.recipe} is kept for {price.engine}. On {price.held_back} others {agreement}the "
        f"cosine of the results is {price.similarity:.3f}, and the network without decoding is "
        f"{price.speed:.1f} times as fast as with float32"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
