"""`mnv1 labels`: search the names of classes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.options import (
    IMAGE_SIZE,
    MODULE,
    QUIET,
    VERBOSE,
    fetch_options,
    with_progress,
)
from mnv1cli.cli.param_types import FILE
from mnv1cli.errors import LabelsError

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.labels.names import ClassName
    from mnv1cli.types import FetchOptions


@click.command(cls=GroupedCommand)
@click.argument("pattern", required=False)
@option(
    Group.INPUT,
    "--labels",
    "own",
    metavar="FILE",
    type=FILE,
    help="Search your own class names: one per line, or CSV with a column 'label'.",
)
@MODULE
@fetch_options
@IMAGE_SIZE
@option(
    Group.OUTPUT,
    "-f",
    "--format",
    "form",
    type=click.Choice(("table", "csv", "tsv", "jsonl")),
    help="Default: a table on a terminal, else csv.",
)
@QUIET
@VERBOSE
def labels(
    pattern: str | None,
    own: Path | None,
    module: str | None,
    fetch: FetchOptions,
    image_size: int | None,
    form: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """List the classes that match PATTERN.

    PATTERN is a class id, a WordNet id, or part of a label or a synonym. Default: all classes.
    They are those of the module, or ImageNet's where no module is named.
    """
    with console.session(quiet, verbose) as stream:
        terminal = bool(sys.stdout and sys.stdout.isatty())
        names = _read_names(own, module, with_progress(fetch, stream, quiet), image_size)
        _print_labels(pattern, names, form or ("table" if terminal else "csv"))


def _read_names(
    own: Path | None, module: str | None, fetch: FetchOptions, image_size: int | None
) -> tuple[ClassName, ...]:
    """Read the names in the file `own`, else those of a module, else ImageNet's.

    Raises:
        LabelsError: a file cannot be read, or does not fit the module.
        ModuleError: there is no such module, or it has no classes.
    """
    from mnv1cli.labels.names import choose_labels, imagenet, read_labels
    from mnv1cli.modules.bundled import BUNDLED
    from mnv1cli.modules.catalog import parse_family_name
    from mnv1cli.modules.inspection import inspect_module
    from mnv1cli.modules.locate import resolve_handle

    if own is not None:
        return read_labels(own)
    # The classes of these are known: nothing is fetched or built for them.
    if module is None or module == BUNDLED or parse_family_name(resolve_handle(module) or ""):
        return imagenet()
    inspected = inspect_module(module, fetch, image_size)
    return choose_labels(inspected.logits().result.shape[-1], None, inspected.labels_path)


def _print_labels(pattern: str | None, names: tuple[ClassName, ...], form: str) -> None:
    """Print the classes that match `pattern`; all without one.

    Raises:
        LabelsError: no class matches.
    """
    import json

    from mnv1cli.labels.names import FIELDS, search_classes

    matches = names if pattern is None else search_classes(pattern, names)
    if not matches:
        raise LabelsError(f"no class matches {pattern!r}")
    rows = [(str(name.class_id), name.wnid, name.label, name.synonyms) for name in matches]
    if form == "table":
        from mnv1cli.cli.show import print_table

        print_table(FIELDS, rows)
    elif form == "jsonl":
        for row in rows:
            record = {**dict(zip(FIELDS, row, strict=True)), "class_id": int(row[0])}
            click.echo(json.dumps(record, ensure_ascii=False))
    else:
        from mnv1cli.results.writers.delimited import encode_rows

        click.echo(encode_rows([FIELDS, *rows], "\t" if form == "tsv" else ","), nl=False)
