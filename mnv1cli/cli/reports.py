"""What the commands print that measure: `bench`, `module quantize`, `evaluate`, `finetune`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from mnv1cli._version import __version__
from mnv1cli.cli.show import print_table
from mnv1cli.path_text import text
from mnv1cli.results.files import ResultFiles, refuse_to_replace
from mnv1cli.results.writers.delimited import FLOAT_FORMAT, encode_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mnv1cli.analysis.benchmark import Bench, Timed
    from mnv1cli.analysis.evaluate import Evaluation
    from mnv1cli.inference.quantize import Price
    from mnv1cli.training.finetune import FinetuneResult


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


def print_tuned(tuned: FinetuneResult, as_json: bool) -> None:
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


def evaluation_outputs(
    files: Sequence[Path | None], read: Sequence[Path | None], force: bool
) -> ResultFiles:
    """The files of an evaluation, checked before any work; none of them is one that is `read`."""
    outputs = ResultFiles(None, None, other_files=files, force=force)
    refuse_to_replace(outputs, read)
    return outputs


def write_evaluation(
    outputs: ResultFiles,
    evaluation: Evaluation,
    per_class: Path | None,
    confusion: Path | None,
    mistakes: Path | None,
) -> None:
    """The parts of an evaluation that have a row for each class or image, as CSV."""
    try:
        _write_parts(outputs, evaluation, per_class, confusion, mistakes)
        outputs.commit()
    except BaseException:
        outputs.abandon(keep=False)
        raise


def _write_parts(
    outputs: ResultFiles,
    evaluation: Evaluation,
    per_class: Path | None,
    confusion: Path | None,
    mistakes: Path | None,
) -> None:
    rows: Iterable[Iterable[Any]]
    if per_class is not None:
        rows = (
            (s.name.class_id, s.name.wnid, s.name.label, s.n, s.top1 / s.n, s.top5 / s.n)
            for s in evaluation.per_class()
        )
        _write(outputs, per_class, ("class_id", "wnid", "label", "n", "top1", "top5"), rows)
    if confusion is not None:
        rows = (
            (truth.class_id, truth.label, found.class_id, found.label, count)
            for truth, found, count in evaluation.confusion()
        )
        header = ("truth_id", "truth", "predicted_id", "predicted", "count")
        _write(outputs, confusion, header, rows)
    if mistakes is not None:
        rows = (
            (text(m.path), m.truth, m.predicted, FLOAT_FORMAT % m.probability)
            for m in evaluation.mistakes()
        )
        _write(outputs, mistakes, ("path", "truth", "predicted", "probability"), rows)


def _write(
    outputs: ResultFiles, file: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]
) -> None:
    outputs.open(file).write(encode_rows([header, *rows]))


def print_evaluation(evaluation: Evaluation, as_json: bool) -> None:
    """The figures of an evaluation."""
    figures = evaluation.figures()
    if as_json:
        click.echo(json.dumps(figures, indent=2))
        return
    rows = [("images", f"{figures['n']:,}", "")]
    for name, key in (("top-1", "top1"), ("top-5", "top5")):
        low, high = figures[f"{key}_interval"]
        rows.append((name, _percent(figures[key]), f"{_percent(low)} to {_percent(high)}"))
    rows += [
        ("mean per class", _percent(figures["mean_per_class"]), ""),
        ("expected calibration error", _percent(figures["ece"]), ""),
    ]
    if evaluation.failed:
        rows.append(("could not be read", f"{evaluation.failed:,}", ""))
    print_table(("", "", "95 % interval"), rows)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


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
