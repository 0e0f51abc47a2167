"""Result formats: one protocol, one registry.

A writer gets a `Layout` when it is made, then one `Table` after the other. It
can be taken up again: from its `state`, with its files as they were then. The
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
    """What the loop writes to."""

    def write(self, table: Table) -> None:
        """Write consecutive images' results."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What a writer that goes on from here has to know beside its files; for JSON."""
        ...

    def close(self, metadata: Mapping[str, Any] | None = None) -> None:
        """Complete what was written; the files stay open for `ResultFiles` to commit.

        A format that holds the run's metadata gets it here, None where the run
        was stopped.
        """
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """One format: where its writer is, and what it is able to hold."""

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
        """Suffixes that take the place of the result's own for files beside it."""
        return (".index.csv",) if self.name == "npy" else ()

    def has_all(self, wide: bool) -> bool:
        """Whether an image that keeps no label has its place all the same."""
        return wide or self.name in ("jsonl", "table")

    def create(
        self, outputs: ResultFiles, layout: Layout, state: Mapping[str, Any] | None = None
    ) -> Writer:
        """A writer of this format into the main file of `outputs`.

        With the `state` of another one it goes on where that one stood.
        """
        module, _, name = self.writer.partition(":")
        maker = getattr(import_module(module), name)
        return cast("Writer", maker(outputs, layout, state))


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
    """The format of a run: `name`, else the file's suffix, else what suits stdout.

    Raises:
        OptionError: an unknown suffix, or a format that cannot hold the results.
    """
    labels = task.command == "classify"
    if name is not None:
        chosen = FORMATS[name]
    elif file is not None:
        chosen = _by_suffix(file)
    else:
        chosen = FORMATS["table" if labels and terminal else "csv"]
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
    if chosen.needs_file and file is None:
        raise OptionError(f"{chosen.name} needs a file", "name it with -o")
    return chosen


def by_suffix(suffix: str) -> Format | None:
    """The format of files whose names end so, in any case of letters; None for others."""
    return next((item for item in FORMATS.values() if suffix.lower() in item.suffixes), None)


def _by_suffix(file: Path) -> Format:
    if found := by_suffix(file.suffix):
        return found
    known = ", ".join(suffix for item in FORMATS.values() for suffix in item.suffixes)
    raise OptionError(f"the name {file} tells no format", f"end it with {known}, or say it with -f")
