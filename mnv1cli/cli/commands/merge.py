"""`mnv1 merge`: the results of many runs made one."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from mnv1cli.cli import console
from mnv1cli.cli.options import FORCE, QUIET, VERBOSE
from mnv1cli.cli.param_types import FILE
from mnv1cli.errors import OptionError


@click.command()
@click.argument("parts", metavar="PART...", nargs=-1, required=True, type=FILE)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=FILE,
    required=True,
    help="Write to FILE, and its metadata to FILE.meta.json.",
)
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(("csv", "tsv", "jsonl", "npy", "npz", "parquet")),
    help="Default: FILE's suffix.",
)
@FORCE
@QUIET
@VERBOSE
def merge(
    parts: tuple[Path, ...],
    output: Path,
    form: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Put the shards of a run together to what one run would have written.

    PART is what classify, logits or embed wrote to a file with --shard, in any
    format; all shards are needed, in any order. Results of different folders,
    made without --shard, come one behind the other.
    """
    with console.session(quiet, verbose):
        from mnv1cli.results.merge import merge as merging

        if output == Path("-"):
            raise OptionError("merge needs a file, for its metadata", "name it with -o")
        _allow_many_files()
        done = merging.merge(parts, output, form, force)
        console.log.info("%s", done.summary())


def _allow_many_files() -> None:
    """Let the process have as many files open as it may: shards may be a thousand."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
