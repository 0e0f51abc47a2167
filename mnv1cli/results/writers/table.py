"""A table for people, printed batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from mnv1cli.path_text import display_path
from mnv1cli.results.files import wrap_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mnv1cli.results.files import ResultFiles
    from mnv1cli.types import Layout, Table

_RANK, _LABEL, _GAP = 4, 26, 2
_NARROW = 72


class PipeConsole(Console):
    """A console that raises an error for a closed pipe, where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Raise the error that rich has caught."""
        raise BrokenPipeError


class TableWriter:
    """Writes image, rank, label and probability in columns that fit the terminal."""

    def __init__(
        self,
        outputs: ResultFiles,
        layout: Layout,  # noqa: ARG002 - every writer gets it
        state: Mapping[str, Any] | None = None,  # noqa: ARG002 - a table is not resumed
    ) -> None:
        self._text = wrap_text(outputs.open_main())
        self._console = PipeConsole(file=self._text, highlight=False)
        narrow = self._console.width < _NARROW
        self._probability = "prob." if narrow else "probability"
        self._probability_width = max(len(self._probability), len("100.0 %"))
        room = self._console.width - _RANK - self._probability_width - 3 * _GAP
        self._label_width = min(_LABEL, room // 2)
        self._path_width = max(room - self._label_width, 1)
        self._needs_header = True

    def write(self, table: Table) -> None:
        """Write the results of consecutive images."""
        grid = self._make_grid()
        entries = zip(
            table.paths, table.errors, table.get_warnings(), table.predictions, strict=True
        )
        for path, error, warning, predictions in entries:
            name = Text(display_path(path))
            if not predictions:
                grid.add_row(name, "", Text(error or "none this probable", style="red"), "")
            for rank, _, _, label, probability in predictions:
                style = "bold" if rank == 1 else "dim"
                shown = Text(f"{100 * probability:.1f} %", style=style)
                grid.add_row(name, str(rank), Text(label, style=style), shown)
                name = Text()
            if warning:
                grid.add_row(Text(), "", Text(warning, style="yellow"), "")
        self._console.print(grid)

    def state(self) -> Mapping[str, Any]:
        """Return nothing: a table is not resumed."""
        return {}

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Print the header where there was no image, and leave the stream to its owner."""
        if self._needs_header:
            self._console.print(self._make_grid())
        self._text.detach()

    def _make_grid(self) -> RichTable:
        """Make an empty table; the first one has a header."""
        grid = RichTable(
            box=None,
            show_header=self._needs_header,
            header_style="underline",
            padding=(0, _GAP, 0, 0),
            pad_edge=False,
        )
        # Fixed widths: the rows of later tables are not known yet.
        grid.add_column("image", width=self._path_width, overflow="fold")
        grid.add_column("rank", width=_RANK, justify="right")
        grid.add_column("label", width=self._label_width, overflow="fold")
        grid.add_column(self._probability, width=self._probability_width, justify="right")
        self._needs_header = False
        return grid
