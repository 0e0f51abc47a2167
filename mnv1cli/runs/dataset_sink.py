"""The output of a run in a dataset: rows gathered into parts, and the files beside it."""

from __future__ import annotations

import itertools
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OptionError, OutputError
from mnv1cli.path_text import count, decode_path
from mnv1cli.results.dataset import Dataset, dataset_layout
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.protection import refuse_image_name
from mnv1cli.results.writers.arrow import ArrowRows
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.runs.existing import (
    ExistingResult,
    describe_skipped,
    find_result_module,
    require_equal,
)
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.inference.job import Job
    from mnv1cli.inference.result_module import ResultModule
    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.runs.tally import Tally
    from mnv1cli.storage.location import Location
    from mnv1cli.types import Engine, Fault, ImageRef, OnError, Table, Task

log = logging.getLogger(__name__)

# How large a part grows. Readers like large ones; a run that is killed loses the last one.
PART_IMAGES = 10_000
PART_BYTES = 64 << 20
PART_SECONDS = 300.0


class DatasetSink:
    """A dataset that a run adds to, with the files for faults and metadata; checked at once.

    Images that fail have rows, too; those whose bytes could not be read from a store have
    none. With --on-error fail the image that ends the run has none, so that the next run
    meets it again.

    Raises:
        OptionError: the options do not suit a dataset.
        OutputError: it or a file exists as something else, or cannot be written.
        MissingInputError: the result to skip does not exist.
        ResultError: it or the dataset is damaged, or the two were made with different settings.
    """

    def __init__(self, location: Location, task: Task, options: OutputOptions) -> None:
        _check(location, task, options)
        self.options = options
        for path in filter(None, (options.errors, options.manifest)):
            refuse_image_name(path)
            # --force is about the rows: nobody should lose them for the sake of a list.
            if os.path.lexists(path) and not options.force:
                raise OutputError(f"{path} exists", "name another file, or remove it")
        self.files = ResultFiles(
            None, None, other_files=(options.errors, options.manifest), force=options.force
        )
        self.dataset = Dataset(location, options.force, options.retry)
        skip = options.skip_existing
        self._to_skip: ExistingResult | None = None
        if skip is not None and str(skip).rstrip("/") != self.name.rstrip("/"):
            self._to_skip = ExistingResult(skip, options.force)
            require_equal(self._to_skip, self.name, self.dataset.metadata)
        self._buffer: PartBuffer | None = None
        self._is_finished = False

    @property
    def name(self) -> str:
        """The name of the dataset in messages."""
        return self.dataset.name

    @property
    def on_error(self) -> OnError:
        """The option --on-error; both "skip" and "row" give images that fail a row."""
        return self.options.on_error

    @property
    def skipped(self) -> int:
        """The number of images that were not done again."""
        return self.dataset.skipped + (self._to_skip.skipped if self._to_skip else 0)

    def describe_skipped(self) -> str:
        """Return the end of a summary, which says how many images were skipped."""
        if self.skipped or self.dataset.metadata is None:
            return describe_skipped(self.skipped)
        # Users who give other paths to the same images should see it.
        return ", none was there already"

    def earlier_engine(self) -> Engine | None:
        """Return the engine that the dataset was begun with, None where it has no rows."""
        return self.dataset.metadata.engine if self.dataset.metadata else None

    def earlier_module(self) -> ResultModule | None:
        """Return the module of the dataset's rows, else that of the result to skip."""
        if self.dataset.metadata is not None:
            return find_result_module(self.dataset.location, self.dataset.metadata)
        return self._to_skip.module if self._to_skip else None

    def select(
        self, job: Job, images: Iterable[ImageRef], tally: Tally
    ) -> Iterator[ImageRef] | None:
        """Return the images that the dataset and the result to skip lack; None where it is none.

        Raises:
            ResultError: the dataset or the result to skip was made with other settings.
        """
        metadata = job.metadata()
        if self._to_skip is not None:
            self._to_skip.require_same(metadata)
            images = self._to_skip.select_missing(images)
        missing = self.dataset.select_missing(images, metadata)
        first = next(missing, None)
        if first is None:
            tally.join(0, 0, self.dataset.unlisted)
            return None
        return itertools.chain([first], missing)

    def begin(self, job: Job) -> None:
        """Make the folder, and remove the rows that are to be replaced."""
        self.dataset.begin()
        self._buffer = PartBuffer(job, self.dataset)

    def write(self, table: Table, tally: Tally) -> Sequence[Fault]:
        """Count a table, keep its rows for the next part, and return the images that failed."""
        assert self._buffer is not None
        faults = tally.add(table)
        self._buffer.add(table.without_faults() if self.on_error == "fail" else table)
        return faults

    def commit(self, tally: Tally) -> None:  # noqa: ARG002 - the parts are the only state
        """Write a part, where there are enough rows for one."""
        assert self._buffer is not None
        if self._buffer.is_full:
            self._buffer.flush()

    def finish(self, job: Job, tally: Tally) -> None:
        """Write the last part and the metadata of the run."""
        if self._buffer is not None:
            self._buffer.flush()
        tally.join(0, 0, self.dataset.unlisted)
        tally.close()
        self.dataset.finish(tally.complete(job.metadata()))
        self._is_finished = True

    def abandon(self, tally: Tally, error: BaseException) -> None:  # noqa: ARG002
        """Write the rows that wait as a part, and report how many images are done."""
        if self._is_finished or self._buffer is None:
            # Where a signal came at the very end, nothing is left to do.
            return
        if not isinstance(error, OutputError):
            try:
                with signals.defer_stop(f"the last rows are in {self.name}"):
                    self._buffer.flush()
            except OutputError as failure:
                log.error("%s", failure)
        if self._buffer.written:
            self.report_kept(count(self._buffer.written, "image"))

    def report_kept(self, images: str) -> None:
        """Report what a run that was stopped leaves in the dataset."""
        log.error("done so far: %s, in %s; the same command goes on", images, self.name)

    def write_files_beside(self, metadata: RunMetadata) -> None:
        """Write the list of faults and the manifest, where they are wanted."""
        options = self.options
        try:
            if options.errors is not None:
                file = self.files.open(options.errors)
                file.write(encode_rows([("path", "reason")]))
                faults = metadata.failures or ()
                file.write(encode_rows([decode_path(fault.path), fault.reason] for fault in faults))
            if options.manifest is not None:
                self.files.write_json(options.manifest, metadata.to_json())
            self.files.commit()
        except BaseException:
            self.files.abandon(keep=False)
            raise


class PartBuffer:
    """Rows that wait to become a part; `written` counts the images in parts."""

    def __init__(self, job: Job, dataset: Dataset) -> None:
        layout = dataset_layout(job.task, job.shape, job.spec.accepts_damaged)
        self.written = 0
        self._rows = ArrowRows(layout)
        self._schema = dataset.make_schema(layout, job.metadata())
        self._dataset = dataset
        self._empty()

    @property
    def is_full(self) -> bool:
        """True where the rows are many, large or old enough for a part."""
        is_old = time.monotonic() - self._since > PART_SECONDS
        return self._images >= PART_IMAGES or self._bytes >= PART_BYTES or is_old

    def add(self, table: Table) -> None:
        """Take the rows of a table, but for images whose bytes could not be read."""
        table = table.without_unread()
        batch = self._rows.batch(table)
        self._batches.append(batch)
        self._images += len(table.paths)
        self._bytes += batch.nbytes

    def flush(self) -> None:
        """Write the rows that wait as a part."""
        import pyarrow

        batches, images = self._batches, self._images
        # Before it is written: whatever stops that, no row comes twice.
        self._empty()
        if images:
            arrow: Any = pyarrow
            table = arrow.Table.from_batches(batches, self._rows.schema)
            self._dataset.write(table.replace_schema_metadata(self._schema.metadata))
            self.written += images

    def _empty(self) -> None:
        self._batches: list[Any] = []
        self._images = 0
        self._bytes = 0
        self._since = time.monotonic()


def _check(location: Location, task: Task, options: OutputOptions) -> None:
    """Refuse what a dataset cannot hold."""
    if options.wide:
        raise OptionError("--wide is for csv and tsv, not for a dataset")
    if options.format not in (None, "parquet"):
        if not location.text.endswith("/"):
            raise OutputError(f"cannot write {location}: it is a folder", "name a file")
        raise OptionError(
            f"{location} is a folder: a dataset of Parquet files, not {options.format}",
            "name a file",
        )
    if options.force and options.retry:
        raise OptionError("--force begins anew, and --retry-failed goes on", "say one of them")
    if not task.pool:
        raise OptionError("--no-pool keeps arrays, which a dataset cannot hold", "use npy")
