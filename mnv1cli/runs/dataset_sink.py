"""A run into a dataset on this machine: tables gathered into parts."""

from __future__ import annotations

import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import BadImageError, OutputError
from mnv1cli.path_text import display_path
from mnv1cli.results import dataset as datasets
from mnv1cli.results.writers.arrow import ArrowRows
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mnv1cli.inference.job import Job
    from mnv1cli.results.dataset import Dataset
    from mnv1cli.runs.tally import Tally
    from mnv1cli.types import OnError, Table

log = logging.getLogger(__name__)

# How large a part grows. Readers like large ones; a run that is killed loses the last one.
PART_IMAGES = 10_000
PART_BYTES = 64 << 20
PART_SECONDS = 300.0


class _Parts:
    """Rows on their way into parts; `images` counts those that have arrived there."""

    def __init__(self, job: Job, dataset: Dataset) -> None:
        layout = datasets.layout(job.task, job.shape)
        self.images = 0
        self.are_complete = False
        self._rows = ArrowRows(layout)
        self._schema = dataset.schema(layout, job.metadata())
        self._dataset = dataset
        self._empty()

    def add(self, table: Table) -> None:
        """Take a table, and write a part where it is large enough or old enough."""
        table = table.without_unread()
        batch = self._rows.batch(table)
        self._batches.append(batch)
        self._waiting += len(table.paths)
        self._bytes += batch.nbytes
        aged = time.monotonic() - self._since > PART_SECONDS
        if self._waiting >= PART_IMAGES or self._bytes >= PART_BYTES or aged:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        import pyarrow

        batches, images = self._batches, self._waiting
        # Before it is written: whatever stops that, no row comes twice.
        self._empty()
        if images:
            arrow: Any = pyarrow
            table = arrow.Table.from_batches(batches, self._rows.schema)
            self._dataset.write(table.replace_schema_metadata(self._schema.metadata))
            self.images += images

    def _empty(self) -> None:
        self._batches: list[Any] = []
        self._waiting = 0
        self._bytes = 0
        self._since = time.monotonic()


def export_dataset(
    job: Job, refs: Iterable[Any], dataset: Dataset, tally: Tally, on_error: OnError = "skip"
) -> None:
    """Run a job over the images that a dataset lacks, and write their rows.

    Bad images have rows, too; those whose bytes could not be got have none. With
    `on_error` "fail" the first fault ends the run; it has no row, so that the next run
    meets it again.

    Raises:
        BadImageError: an image failed and `on_error` is "fail".
        OutputError: the dataset cannot be written.
        ResultError: it was made with other settings.
    """
    rest = dataset.missing(refs, job.metadata())
    first = next(rest, None)
    if first is None:
        tally.join(0, 0, dataset.again)
        tally.close()
        return
    dataset.begin()
    parts = _Parts(job, dataset)
    try:
        for table in job.tables(itertools.chain([first], rest)):
            with signals.held():
                _take(table, parts, tally, on_error)
        with signals.held():
            parts.flush()
            tally.join(0, 0, dataset.again)
            tally.close()
            dataset.finish(tally.complete(job.metadata()))
            parts.are_complete = True
    except BaseException as error:
        _leave(parts, dataset, error)
        raise
    finally:
        tally.close()


def _take(table: Table, parts: _Parts, tally: Tally, on_error: OnError) -> None:
    """Count one table and put it with the others."""
    if on_error != "fail":
        tally.add(table)
        with tally.hidden():
            parts.add(table)
        return
    faults = tally.add(table.until_fault())
    parts.add(table.until_fault().without_faults())
    if faults:
        path = display_path(faults[0].path)
        raise BadImageError(f"stopped at {path}", "--on-error skip goes on after it")


def _leave(parts: _Parts, dataset: Dataset, error: BaseException) -> None:
    """Keep what is done, and tell of it."""
    if parts.are_complete:
        # A signal that came at the very end: nothing is left to do.
        return
    if not isinstance(error, OutputError):
        try:
            with signals.held():
                parts.flush()
        except OutputError as failure:
            log.error("%s", failure)
    if parts.images:
        images = f"{parts.images:,} image{'' if parts.images == 1 else 's'}"
        log.error("done so far: %s, in %s; the same command goes on", images, dataset.name)
