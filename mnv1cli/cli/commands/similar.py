"""`mnv1 similar`: the images of an index that are most similar to others."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.image_options import warn_of_empty
from mnv1cli.cli.options import FORCE, QUIET, THREADS, VERBOSE, fetch_options
from mnv1cli.cli.param_types import FILE, LOCATION, complete_files
from mnv1cli.errors import OptionError
from mnv1cli.storage.sources import to_result_source

if TYPE_CHECKING:
    from mnv1cli.storage.location import Location
    from mnv1cli.types import FetchOptions


@click.command(cls=GroupedCommand)
@click.argument("index", metavar="INDEX", type=LOCATION)
@click.argument("queries", metavar="[QUERY]...", nargs=-1, shell_complete=complete_files)
@option(
    Group.INPUT,
    "--from",
    "saved",
    metavar="FILE",
    type=LOCATION,
    help="Take the features of the queries from FILE, another result of embed.",
)
@option(
    Group.INPUT,
    "--all-pairs",
    is_flag=True,
    help="Compare the images of INDEX with one another, and write groups of similar ones.",
)
@option(
    Group.OUTPUT,
    "--top",
    metavar="K",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Images of INDEX per query.",
)
@option(
    Group.OUTPUT,
    "--threshold",
    metavar="T",
    type=click.FloatRange(-1, 1),
    default=0.95,
    show_default=True,
    help="With --all-pairs: smallest similarity within a group, from -1 to 1.",
)
@option(
    Group.OUTPUT,
    "-o",
    "--output",
    metavar="FILE",
    type=FILE,
    help="Write to FILE. Default: stdout.",
)
@option(
    Group.OUTPUT,
    "-f",
    "--format",
    "form",
    type=click.Choice(("csv", "tsv", "jsonl", "parquet", "table")),
    help="Default: by FILE's suffix, else a table on a terminal and csv in a pipe.",
)
@FORCE
@option(
    Group.MODULE,
    "--module",
    metavar="MODULE",
    shell_complete=complete_files,
    help="The module that INDEX was made with. Default: where its metadata says.",
)
@fetch_options
@THREADS
@QUIET
@VERBOSE
def similar(
    index: Location,
    queries: tuple[str, ...],
    saved: Location | None,
    top: int,
    all_pairs: bool,
    threshold: float,
    output: Path | None,
    form: str | None,
    force: bool,
    module: str | None,
    fetch: FetchOptions,
    threads: int | None,
    quiet: bool,
    verbose: bool,
) -> NoReturn:
    """Find the images of INDEX that are most similar to each QUERY.

    INDEX is what 'mnv1 embed -o' wrote: a file (npy, npz, parquet, csv, tsv, jsonl) or a
    dataset. QUERY is a file, a folder or a quoted glob; its images are embedded as those of
    INDEX were. Similarity is the cosine of two feature vectors.
    """
    with console.session(quiet, verbose) as stream:
        _check(bool(queries), saved is not None, all_pairs, threshold)
        from mnv1cli.analysis.search import Search
        from mnv1cli.analysis.search_index import Index, list_index_files
        from mnv1cli.inputs.listing import InputOptions, Listing
        from mnv1cli.results.files import ResultFiles
        from mnv1cli.results.formats import choose_rows_format
        from mnv1cli.results.protection import refuse_to_replace
        from mnv1cli.results.rows import write_rows

        file = None if output == Path("-") else output
        chosen = choose_rows_format(form, file, console.stdout_is_terminal())
        with_meta = not chosen.holds_metadata
        outputs = ResultFiles(file, console.binary_stdout(), force=force, with_meta=with_meta)
        for read in (index, saved):
            refuse_to_replace(outputs.paths, list_index_files(read) if read else ())
        search = Search(Index(to_result_source(index)), console.progress(stream, quiet))
        stdin = sys.stdin.buffer if sys.stdin else None
        listing = Listing([os.fsencode(name) for name in queries], (), InputOptions(stdin=stdin))
        if all_pairs:
            rows: Any = search.groups(threshold)
        elif saved is not None:
            rows = search.of_features(Index(to_result_source(saved)), top)
        else:
            rows = search.of_images(listing, top, module, fetch, threads)
        write_rows(outputs, chosen.name, search.columns, rows, search.metadata)
        warn_of_empty(listing)
        console.log.info("%s%s", search.summary(), f", in {outputs.name}" if file else "")
        raise SystemExit(search.tally.exit_code)


def _check(queries: bool, saved: bool, all_pairs: bool, threshold: float) -> None:
    """Refuse options that contradict each other, or have no effect."""
    if queries + saved + all_pairs != 1:
        raise OptionError("give exactly one of QUERY, --from and --all-pairs")
    if math.isnan(threshold):
        raise OptionError("--threshold nan is not a number")
    origin = click.get_current_context().get_parameter_source
    for name, fits in (("threshold", all_pairs), ("top", not all_pairs)):
        if origin(name) is ParameterSource.COMMANDLINE and not fits:
            use = "cannot be used with" if all_pairs else "can only be used with"
            raise OptionError(f"--{name} {use} --all-pairs")
