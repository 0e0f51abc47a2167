"""What the commands print that measure: `bench`, `module quantize` and `finetune`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from mnv1cli import __version__
from mnv1cli.listings import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnv1cli.bench import Bench, Timed
    from mnv1cli.finetune import Tuned
    from mnv1cli.quantize import Price


def print_price(price: Price, as_json: bool) -> None:
    """What int8 costs and gains."""
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(price), indent=2))
        return
    agreement = ""
    if price.agreement is not None:
        agreement = f"the best label is the same for {100 * price.agreement:.1f} %, "
    failed = f" ({price.failed} could not be read)" if price.failed else ""
    click.echo(
        f"{price.module} is calibrated on {price.calibrated_on} images{failed}. On "
        f"{price.held_back} others {agreement}the results' cosine is {price.similarity:.3f}, and "
        f"the network alone is {price.speed:.1f} times as fast as float32"
    )


def print_tuned(tuned: Tuned, as_json: bool) -> None:
    """What a module was trained on, and how good it is."""
    if as_json:
        facts = dataclasses.asdict(tuned)
        del facts["faults"]
        click.echo(json.dumps(facts, indent=2))
        return
    held = tuned.held_out
    failed = f", {tuned.failed:,} could not be read" if tuned.failed else ""
    low, high = (100 * end for end in held.interval)
    trained = ""
    if tuned.epochs is not None:
        best = f"epoch {tuned.epochs} was the best" if tuned.epochs else "no epoch was better"
        trained = f"; of all layers {best}"
    click.echo(
        f"{tuned.path}: {tuned.classes:,} classes from {tuned.images:,} images{failed}{trained}\n"
        f"of {held.n:,} images held out {100 * held.accuracy:.1f} % are right "
        f"(95 % interval {low:.1f} to {high:.1f} %); their largest class alone would be "
        f"{100 * held.majority:.1f} %"
    )


def print_bench(results: Sequence[Bench], as_json: bool) -> None:
    """What was measured, a table for each set of photos."""
    if as_json:
        sets = [_bench_facts(result) for result in results]
        facts = {
            "version": __version__,
            # Of the default engine over the first photos.
            "bound": sets[0]["runs"][0]["bound"],
            "sets": sets,
        }
        click.echo(json.dumps(facts, indent=2))
        return
    for i, result in enumerate(results):
        click.echo(
            f"{chr(10) if i else ''}{result.name}: {result.images} images a round, "
            f"{result.threads} threads, medians"
        )
        rows = [("listing", _rate(result.listing), "")]
        rows += [("decoding", _rate(result.decoding), _cpu(result.decoding))]
        for run in result.runs:
            name = f"{run.engine} {run.precision}"
            share = f"{100 * run.end_to_end.rate / run.bound:.0f} % of {run.bound:.0f}"
            rows += [
                (f"{name}, inference", _rate(run.inference), _cpu(run.inference)),
                (f"{name}, end to end", _rate(run.end_to_end), f"{_cpu(run.end_to_end)}, {share}"),
            ]
        print_table(("", "images/s", "CPU time an image, share of the bound"), rows)


def _rate(timed: Timed) -> str:
    return f"{timed.rate:,.0f}"


def _cpu(timed: Timed) -> str:
    return f"{1000 * timed.cpu:.2f} ms"


def _bench_facts(result: Bench) -> dict[str, Any]:
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
