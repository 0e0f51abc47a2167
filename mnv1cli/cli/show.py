"""Tables, JSON and numbers as several commands print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The width of a table in a pipe, where no terminal limits it: lines are left whole.
_PIPE_WIDTH = 400


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    import json

    click.echo(json.dumps(value, indent=2))


def print_facts(facts: dict[str, Any], as_json: bool, line: str) -> None:
    """Print facts as JSON, or the line that tells of them."""
    if as_json:
        print_json(facts)
    else:
        click.echo(line)


def format_megabytes(size: int) -> str:
    """Return a size in bytes as megabytes, such as `12.3 MB`."""
    return f"{size / 1e6:.1f} MB"


def format_size(size: int) -> str:
    """Return a size in bytes as megabytes, or as kilobytes where it is a small one."""
    return format_megabytes(size) if size >= 100_000 else f"{size / 1e3:.1f} kB"


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a plain table; without a header the first column names the rows."""
    from rich.table import Table
    from rich.text import Text

    from mnv1cli.results.writers.table import PipeConsole

    table = Table(box=None, show_header=bool(header), header_style="underline", pad_edge=False)
    for i in range(max(len(header), 2)):
        name = header[i] if header else ""
        table.add_column(name, overflow="fold", style="" if header or i else "bold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = PipeConsole(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table)
