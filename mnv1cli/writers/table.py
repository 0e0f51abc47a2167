"""A table for people, printed batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mnv1cli.records import display_path
from mnv1cli.writers.outputs import text_stream

if TYPE_CHECKING:
    from mnv1cli.records import Layout, Table
    from mnv1cli.writers.outputs import Outputs

_RANK, _LABEL, _PROBABILITY, _GAP = 4, 26, 11, 2
_MIN_PATH = 20


class TableWriter:
    """Image, rank, label and probability, in columns that fit the terminal."""

    def __init__(self, outputs: Outputs, layout: Layout) -> None:  # noqa: ARG002 - as every writer
        self._text = text_stream(outputs.stream())
        self._console = Console(file=self._text, highlight=False)
        fixed = _RANK + _LABEL + _PROBABILITY + 3 * _GAP
        self._path_width = max(self._console.width - fixed, _MIN_PATH)
        self._header = True

    def write(self, table: Table) -> None:
        """Write consecutive images' results."""
        grid = self._grid()
        entries = zip(table.paths, table.errors, table.predictions, strict=True)
        for path, error, predictions in entries:
            name = Text(display_path(path))
            if not predictions:
                grid.add_row(name, "", Text(error or "none this probable", style="red"), "")
            for rank, _, _, label, probability in predictions:
                style = "bold" if rank == 1 else "dim"
                shown = Text(f"{100 * probability:.1f} %", style=style)
                grid.add_row(name, str(rank), Text(label, style=style), shown)
                name = Text()
        self._console.print(grid)

    def close(self) -> None:
        """Leave the stream below to its owner."""
        if self._header:
            self._console.print(self._grid())
        self._text.detach()

    def _grid(self) -> RichTable:
        """An empty table; the first one has a header."""
        grid = RichTable(
            box=None, show_header=self._header, header_style="underline", padding=(0, _GAP, 0, 0),
            pad_edge=False,
        )  # fmt: skip
        # Fixed widths: the rows that are yet to come are not known.
        grid.add_column("image", width=self._path_width, overflow="fold")
        grid.add_column("rank", width=_RANK, justify="right")
        grid.add_column("label", width=_LABEL, overflow="fold")
        grid.add_column("probability", width=_PROBABILITY, justify="right")
        self._header = False
        return grid
