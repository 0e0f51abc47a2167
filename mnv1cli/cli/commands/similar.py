"""`mnv1 similar`: which images of an index are like others."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from mnv1cli.cli import console
from mnv1cli.cli.options import FORCE, QUIET, THREADS, VERBOSE, fetch_options
from mnv1cli.cli.param_types import FILE, PLACE, complete_files
from mnv1cli.errors import OptionError
from mnv1cli.path_text import display_path
from mnv1cli.storage.location import Location, source

if TYPE_CHECKING:
    from mnv1cli.types import FetchOptions


@click.command()
@click.argument("index", metavar="INDEX", type=PLACE)
@click.argument("queries", metavar="[QUERY]...", nargs=-1, shell_complete=complete_files)
@click.option(
    "--from",
    "saved",
    metavar="FILE",
    type=PLACE,
    help="Take the queries' features from FILE, another result of embed.",
)
@click.option(
    "--top",
    metavar="K",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Images of INDEX for each query.",
)
@click.option(
    "--all-pairs", is_flag=True, help="No queries: groups of images of INDEX that are alike."
)
@click.option(
    "--threshold",
    metavar="T",
    type=click.FloatRange(-1, 1),
    default=0.95,
    show_default=True,
    help="With --all-pairs: how similar is alike.",
)
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write to FILE. Default: stdout.")
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(("csv", "tsv", "jsonl", "parquet", "table")),
    help="Default: FILE's suffix, else a table on a terminal and csv in a pipe.",
)
@FORCE
@click.option(
    "--module",
    metavar="MODULE",
    shell_complete=complete_files,
    help="Where the module of INDEX is now. Default: where it was.",
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
    """The images of INDEX that are most like each QUERY, by the cosine of their features.

    INDEX is what 'mnv1 embed -o' wrote (npy, npz, parquet, csv, jsonl, a dataset). QUERY is
    a file, a folder or a quoted glob; they are embedded as INDEX was.
    """
    with console.session(quiet, verbose) as stream:
        _check(bool(queries), saved is not None, all_pairs, threshold)
        from mnv1cli.analysis.search import Search
        from mnv1cli.analysis.search_index import Index
        from mnv1cli.inputs.listing import InputOptions, Listing
        from mnv1cli.results.files import ResultFiles, refuse_to_replace
        from mnv1cli.results.formats import choose_rows_format
        from mnv1cli.results.rows import write_rows

        file = None if output == Path("-") else output
        chosen = choose_rows_format(form, file, bool(sys.stdout and sys.stdout.isatty()))
        stdout = sys.stdout.buffer if sys.stdout else None
        outputs = ResultFiles(file, stdout, force=force, with_meta=not chosen.holds_metadata)
        refuse_to_replace(outputs, [*_files(index), *(_files(saved) if saved else ())])
        search = Search(Index(source(index)), console.progress(stream, quiet))
        stdin = sys.stdin.buffer if sys.stdin else None
        listing = Listing([os.fsencode(name) for name in queries], (), InputOptions(stdin=stdin))
        if all_pairs:
            rows: Any = search.groups(threshold)
        elif saved is not None:
            rows = search.of_features(Index(source(saved)), top)
        else:
            rows = search.of_images(listing, top, module, fetch, threads)
        write_rows(outputs, chosen.name, search.columns, rows, search.told)
        for folder in listing.empty:
            console.log.warning("no images in %s", display_path(folder))
        console.log.info("%s%s", search.summary(), f", in {outputs.name}" if file else "")
        raise SystemExit(search.tally.exit_code)


def _check(queries: bool, saved: bool, all_pairs: bool, threshold: float) -> None:
    if queries + saved + all_pairs != 1:
        raise OptionError("one of QUERY, --from and --all-pairs says what to look for")
    if math.isnan(threshold):
        raise OptionError("nan is no threshold")
    source = click.get_current_context().get_parameter_source
    for name, fits in (("threshold", all_pairs), ("top", not all_pairs)):
        if source(name) is ParameterSource.COMMANDLINE and not fits:
            raise OptionError(f"--{name} goes {'without' if all_pairs else 'with'} --all-pairs")


def _files(place: Location) -> list[Path]:
    """The files on this machine that are read with an index."""
    from mnv1cli.results.files import META

    index = source(place)
    if isinstance(index, Location):
        return []
    if not index.name:
        return [index]
    return [index, index.with_suffix(".index.csv"), index.with_name(index.name + META)]
