"""`mnv1 report`: a page of pictures with their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.options import FORCE, LABELS, QUIET, VERBOSE
from mnv1cli.cli.param_types import FILE, LOCATION, complete_files

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.storage.location import Location


@click.command(cls=GroupedCommand)
@click.argument("results", metavar="RESULTS", type=LOCATION)
@option(
    Group.INPUT,
    "--truth",
    metavar="FILE",
    type=FILE,
    help="Evaluate the labels; FILE says what the images show: CSV with path and label.",
)
@option(
    Group.INPUT,
    "--truth-folders",
    is_flag=True,
    help="Evaluate the labels; the names of the images' folders say what they show.",
)
@LABELS
@option(
    Group.INPUT,
    "--base",
    metavar="DIR",
    type=FILE,
    help="Folder that relative paths start from. Default: the current folder, else that of "
    "RESULTS.",
)
@option(
    Group.INPUT,
    "--remote",
    is_flag=True,
    help="Show images in stores and on web servers, too. Without it no URI in RESULTS is opened.",
)
@option(
    Group.MODULE,
    "--module",
    metavar="MODULE",
    shell_complete=complete_files,
    help="The module that RESULTS was made with, for its class names. Default: where its metadata "
    "says.",
)
@option(
    Group.OUTPUT,
    "-o",
    "--output",
    metavar="FILE",
    type=FILE,
    required=True,
    help="Write the page to FILE, whose name ends with .html; '-' is stdout.",
)
@option(
    Group.OUTPUT,
    "--sort",
    type=click.Choice(("results", "certain", "uncertain", "label", "name", "mistakes")),
    help="Order of the images at first. Default: mistakes if the labels are evaluated, else "
    "results.",
)
@option(
    Group.OUTPUT,
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Show the first N images of that order.",
)
@option(
    Group.OUTPUT,
    "--title",
    metavar="TEXT",
    default="",
    help="Title of the page. Default: the name of RESULTS.",
)
@FORCE
@QUIET
@VERBOSE
def report(
    results: Location,
    output: Path,
    truth: Path | None,
    truth_folders: bool,
    labels: Path | None,
    module: str | None,
    base: Path | None,
    remote: bool,
    sort: str | None,
    limit: int,
    title: str,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write a web page of pictures with their labels.

    The page is a single file to open in a browser. RESULTS is a file that classify, logits or
    similar wrote, in any format, or a dataset.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.report.gallery import SORTS
        from mnv1cli.report.report import ReportOptions, write_report

        options = ReportOptions(
            title=title,
            sort=next((name for name in SORTS if name == sort), None),
            limit=limit,
            truth=truth,
            truth_folders=truth_folders,
            labels=labels,
            module=module,
            base=base,
            remote=remote,
        )
        progress = console.progress(stream, quiet)
        stdout = console.binary_stdout()
        console.log.info("%s", write_report(str(results), output, options, force, stdout, progress))
