"""`mnv1 report`: a page to look at instead of rows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mnv1cli.cli import console
from mnv1cli.cli.options import FORCE, LABELS, QUIET, VERBOSE
from mnv1cli.cli.param_types import FILE, PLACE

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.storage.location import Location


@click.command()
@click.argument("results", metavar="RESULTS", type=PLACE)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=FILE,
    required=True,
    help="Write the page to FILE, an .html; '-' is stdout.",
)
@click.option(
    "--truth",
    metavar="FILE",
    type=FILE,
    help="Evaluate the labels; FILE says what the images show: CSV with path and label.",
)
@click.option(
    "--truth-folders", is_flag=True, help="The same; the names of the images' folders say it."
)
@LABELS
@click.option(
    "--base",
    metavar="DIR",
    type=FILE,
    help="Where relative paths begin. Default: the current folder, else that of RESULTS.",
)
@click.option(
    "--sort",
    type=click.Choice(("results", "certain", "uncertain", "label", "name", "mistakes")),
    help="The order, at first. Default: mistakes where the truth is known, else results.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Images on the page, the first ones in the order.",
)
@click.option("--title", metavar="TEXT", default="", help="Default: the name of RESULTS.")
@FORCE
@QUIET
@VERBOSE
def report(
    results: Location,
    output: Path,
    truth: Path | None,
    truth_folders: bool,
    labels: Path | None,
    base: Path | None,
    sort: str | None,
    limit: int,
    title: str,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """A page of pictures with their labels, all in one file, to open in a browser.

    RESULTS is what classify, logits or similar wrote to a file, in any format, or a dataset.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.report.gallery import SORTS
        from mnv1cli.report.report import ReportOptions, write_report

        options = ReportOptions(
            title=title,
            sort=next((known for known in SORTS if known == sort), None),
            limit=limit,
            truth=truth,
            truth_folders=truth_folders,
            labels=labels,
            base=base,
        )
        stdout = sys.stdout.buffer if sys.stdout else None
        progress = console.progress(stream, quiet)
        console.log.info("%s", write_report(str(results), output, options, force, stdout, progress))
