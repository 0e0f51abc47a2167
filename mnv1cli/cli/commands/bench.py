"""`mnv1 bench`: the speed of each stage on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from mnv1cli._version import __version__
from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.options import (
    AS_JSON,
    BATCH_SIZE,
    IMAGE_SIZE,
    INPUT_RANGE,
    MODULE,
    PREPROCESS,
    QUIET,
    THREADS,
    VERBOSE,
    fetch_options,
)
from mnv1cli.cli.param_types import complete_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnv1cli.analysis.benchmark import Bench, Timed
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.types import FetchOptions, InputRange


@click.command(cls=GroupedCommand)
@click.argument("inputs", metavar="[INPUT]...", nargs=-1, shell_complete=complete_files)
@option(
    Group.INPUT,
    "--images",
    metavar="N",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Images per round. The images of INPUT are repeated as often as needed.",
)
@MODULE
@fetch_options
@IMAGE_SIZE
@INPUT_RANGE
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
    input_range: InputRange,
    preprocess: Any,
    threads: int | None,
    batch_size: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure the speed of each stage on this machine.

    INPUT is a file, a folder or a quoted glob. Without it two sets of made-up photos are
    used, of 500x375 and of 4000x3000 pixels.
    """
    with console.session(quiet, verbose):
        from mnv1cli.analysis.benchmark import bench as measure
        from mnv1cli.inference.predictor import Predictor
        from mnv1cli.inference.settings import Settings

        def make(engine: Any, precision: Any) -> Predictor:
            settings = Settings(
                preprocess=preprocess,
                image_size=image_size,
                input_range=input_range,
                engine=engine,
                precision=precision,
                threads=threads,
                batch_size=batch_size,
                fetch=fetch,
            )
            return Predictor(module, settings)

        results = measure([os.fsencode(name) for name in inputs], images, make)
        if as_json:
            _print_json(results)
        else:
            _print_tables(results)


def _print_json(results: Sequence[Bench]) -> None:
    from mnv1cli.cli.show import print_json

    sets = [_describe(result) for result in results]
    # The bound is that of the default engine over the first photos.
    bound = sets[0]["runs"][0]["bound"]
    print_json({"version": __version__, "bound": bound, "sets": sets})


def _describe(result: Bench) -> dict[str, Any]:
    """Return the measurements over one set of photos for JSON."""
    return {
        "name": result.name,
        "images": result.images,
        "threads": result.threads,
        "listing": result.listing._asdict(),
        "decoding": result.decoding._asdict(),
        "runs": [
            {
                "engine": run.engine,
                "precision": run.precision,
                "inference": run.inference._asdict(),
                "end_to_end": run.end_to_end._asdict(),
                "bound": run.bound,
                "share": run.end_to_end.rate / run.bound,
            }
            for run in result.runs
        ],
    }


def _print_tables(results: Sequence[Bench]) -> None:
    """Print a table for each set of photos."""
    from mnv1cli.cli.show import print_table

    for i, result in enumerate(results):
        click.echo(
            f"{chr(10) if i else ''}{result.name}: {result.images} images per round, "
            f"{result.threads} threads, medians"
        )
        rows = [("listing", _format_rate(result.listing), "")]
        rows += [("decoding", _format_rate(result.decoding), _format_cpu(result.decoding))]
        for run in result.runs:
            name = f"{run.engine} {run.precision}"
            share = f"{100 * run.end_to_end.rate / run.bound:.0f} % of {run.bound:.0f}"
            cpu = f"{_format_cpu(run.end_to_end)}, {share}"
            rows += [
                (f"{name}, inference", _format_rate(run.inference), _format_cpu(run.inference)),
                (f"{name}, end to end", _format_rate(run.end_to_end), cpu),
            ]
        print_table(("", "images/s", "CPU time per image, share of the bound"), rows)


def _format_rate(timed: Timed) -> str:
    return f"{timed.rate:,.0f}"


def _format_cpu(timed: Timed) -> str:
    return f"{1000 * timed.cpu:.2f} ms"
