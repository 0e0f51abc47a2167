"""Result formats: one protocol for writers, and one registry of formats.

A writer gets a `Layout` when it is made, then one `Table` after the other. It
can be continued: from its `state`, with its files as they were then. The
modules are imported when a format is used, so that nobody pays for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from mnv1cli.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mnv1cli.results.files import ResultFiles
    from mnv1cli.types import Layout, Table, Task


class Writer(Protocol):
    """Writes the results of a run in one format."""

    def write(self, table: Table) -> None:
        """Write the results of consecutive images."""
        ...

    def state(self) -> Mapping[str, Any]:
        """Return what another writer needs beside the files to continue from here, as JSON."""
        ...

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Complete what was written; the files stay open for `ResultFiles` to commit.

        A format that holds the metadata of the run gets them here, None where
        the run was stopped.
        """
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the name of its writer's class, and what it can hold."""

    name: str
    suffixes: tuple[str, ...]
    writer: str
    labels: bool = True
    vectors: bool = True
    needs_file: bool = False
    holds_metadata: bool = False
    resumable: bool = True

    @property
    def sidecars(self) -> tuple[str, ...]:
        """The suffixes of files beside the result, which replace the result's own suffix."""
        return (".index.csv",) if self.name == "npy" else ()

    def has_all(self, wide: bool) -> bool:
        """Return whether an image that keeps no label has a row all the same."""
        return wide or self.name in ("jsonl", "table")

    def create(
        self, outputs: ResultFiles, layout: Layout, state: Mapping[str, Any] | None = None
    ) -> Writer:
        """Make a writer of this format for the main file of `outputs`.

        With the `state` of another writer it continues where that one stopped.
        """
        module, _, name = self.writer.partition(":")
        writer_class = getattr(import_module(module), name)
        return cast("Writer", writer_class(outputs, layout, state))


FORMATS = {
    item.name: item
    for item in (
        Format("csv", (".csv",), "mnv1cli.results.writers.delimited:CsvWriter"),
        Format("tsv", (".tsv",), "mnv1cli.results.writers.delimited:TsvWriter"),
        Format("jsonl", (".jsonl", ".ndjson"), "mnv1cli.results.writers.jsonl:JsonLinesWriter"),
        Format(
            "npy", (".npy",), "mnv1cli.results.writers.npy:NpyWriter", labels=False, needs_file=True
        ),
        Format(
            "npz",
            (".npz",),
            "mnv1cli.results.writers.npz:NpzWriter",
            labels=False,
            needs_file=True,
            holds_metadata=True,
        ),
        Format(
            "parquet",
            (".parquet", ".pq"),
            "mnv1cli.results.writers.parquet:ParquetWriter",
            needs_file=True,
            holds_metadata=True,
        ),
        Format(
            "table", (), "mnv1cli.results.writers.table:TableWriter", vectors=False, resumable=False
        ),
    )
}


def choose_format(name: str | None, file: Path | None, task: Task, terminal: bool) -> Format:
    """Choose the format of a run: `name`, else the suffix of `file`, else what suits stdout.

    Raises:
        OptionError: the suffix is unknown, or the format cannot hold the results.
    """
    labels = task.command == "classify"
    chosen = _select(name, file, "table" if labels and terminal else "csv")
    if labels and not chosen.labels:
        raise OptionError(
            f"{chosen.name} holds numbers, and classify gives labels",
            "use csv, tsv, jsonl or parquet, or 'mnv1 logits' for the scores",
        )
    if not labels and not chosen.vectors:
        raise OptionError(
            f"{chosen.name} is for labels", "use csv, tsv, jsonl, npy, npz or parquet"
        )
    if not task.pool and chosen.name not in ("npy", "npz"):
        raise OptionError(f"--no-pool keeps arrays, which {chosen.name} cannot hold", "use npy")
    _require_file(chosen, file)
    return chosen


def choose_rows_format(name: str | None, file: Path | None, terminal: bool) -> Format:
    """Choose the format of rows with named columns, as `choose_format` does.

    Raises:
        OptionError: the suffix is unknown, or the format holds no such rows.
    """
    chosen = _select(name, file, "table" if terminal else "csv")
    if not chosen.labels:
        raise OptionError(f"{chosen.name} holds no rows of names", "use csv, tsv, jsonl or parquet")
    _require_file(chosen, file)
    return chosen


def find_format(suffix: str) -> Format | None:
    """Return the format of files with this suffix, in any case of letters; None for others."""
    return next((item for item in FORMATS.values() if suffix.lower() in item.suffixes), None)


def _select(name: str | None, file: Path | None, default: str) -> Format:
    """Look up the format called `name`, else that of the suffix of `file`, else the default."""
    if name is not None:
        return FORMATS[name]
    if file is None:
        return FORMATS[default]
    chosen = find_format(file.suffix)
    if chosen is None:
        suffixes = ", ".join(suffix for item in FORMATS.values() for suffix in item.suffixes)
        raise OptionError(
            f"the name {file} tells no format",
            f"end it with {suffixes}, or name the format with -f",
        )
    return chosen


def _require_file(chosen: Format, file: Path | None) -> None:
    if chosen.needs_file and file is None:
        raise OptionError(f"{chosen.name} needs a file", "name it with -o")
