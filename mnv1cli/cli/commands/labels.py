"""`mnv1 labels`: search the names of classes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, GroupedCommand, option
from mnv1cli.cli.param_types import FILE
from mnv1cli.errors import LabelsError

if TYPE_CHECKING:
    from pathlib import Path


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
@option(
    Group.OUTPUT,
    "-f",
    "--format",
    "form",
    type=click.Choice(("table", "csv", "tsv", "jsonl")),
    help="Default: a table on a terminal, else csv.",
)
def labels(pattern: str | None, own: Path | None, form: str | None) -> None:
    """List the classes that match PATTERN.

    PATTERN is a class id, a WordNet id, or part of a label or a synonym. Default: all classes.
    """
    with console.session():
        terminal = bool(sys.stdout and sys.stdout.isatty())
        _print_labels(pattern, own, form or ("table" if terminal else "csv"))


def _print_labels(pattern: str | None, own: Path | None, form: str) -> None:
    """Print the classes that match `pattern`; all without one.

    Raises:
        LabelsError: no class matches, or the file `own` cannot be read.
    """
    import json

    from mnv1cli.labels.names import FIELDS, imagenet, read_labels, search_classes

    names = imagenet() if own is None else read_labels(own)
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
