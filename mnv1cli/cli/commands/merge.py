"""`mnv1 merge`: join the results of several runs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.options import FORCE, QUIET, VERBOSE
from mnv1cli.cli.param_types import FILE, LOCATION
from mnv1cli.errors import OptionError
from mnv1cli.storage.location import Location
from mnv1cli.storage.sources import to_result_source


@click.command(cls=GroupedCommand)
@click.argument("parts", metavar="PART...", nargs=-1, required=True, type=LOCATION)
@option(
    Group.OUTPUT,
    "-o",
    "--output",
    metavar="FILE",
    type=FILE,
    required=True,
    help="Write to FILE, and its metadata to FILE.meta.json.",
)
@option(
    Group.OUTPUT,
    "-f",
    "--format",
    "form",
    type=click.Choice(("csv", "tsv", "jsonl", "npy", "npz", "parquet")),
    help="Default: by FILE's suffix.",
)
@FORCE
@QUIET
@VERBOSE
def merge(
    parts: tuple[Location, ...],
    output: Path,
    form: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Join the results of the shards of a run, or of several runs.

    PART is a file that classify, logits or embed wrote, in any format. Shards, made with
    --shard, are joined into the result that one run would have written; all of them are
    needed, in any order. Other results are put one after the other.
    """
    with console.session(quiet, verbose):
        from mnv1cli.results.merge.merge import merge as merge_results

        if output == Path("-"):
            raise OptionError("merge cannot write to stdout", "name a file with -o")
        _allow_many_files()
        files = []
        for part in parts:
            file = to_result_source(part) if part.is_remote else part.path
            if isinstance(file, Location):
                raise OptionError(
                    f"{file} is a dataset in a store, which merge does not read",
                    "copy it here first",
                )
            files.append(file)
        console.log.info("%s", merge_results(files, output, form, force).summary())


def _allow_many_files() -> None:
    """Let the process have as many files open as it may: there can be a thousand shards."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
