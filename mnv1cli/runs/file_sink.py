"""The output of a run in files: the format's writer, its files, and the journal beside them."""

from __future__ import annotations

import contextlib
import itertools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError, OutputError
from mnv1cli.path_text import decode_path
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import choose_format
from mnv1cli.results.protection import refuse_image_name
from mnv1cli.results.shard_positions import ShardPositions
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.runs.existing import EarlierResults, require_existing_format
from mnv1cli.runs.resume import Resume
from mnv1cli.storage.location import is_same_file
from mnv1cli.types import Layout, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from mnv1cli.inference.job import Job
    from mnv1cli.inference.result_module import ResultModule
    from mnv1cli.inputs.shards import ShardSelection
    from mnv1cli.results.formats import Format, Writer
    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.runs.tally import Tally
    from mnv1cli.types import Fault, ImageRef, OnError, Task

log = logging.getLogger(__name__)


class FileSink:
    """A result in a file or on stdout, with the files beside it; checked before any work.

    `earlier` are the results that the run starts from, `resume` makes it resumable. The files
    of a run with `is_uploaded` go to a store afterwards, and are made anew each time.

    Raises:
        OptionError: the format does not suit the task or the file.
        OutputError: a file exists, or cannot be written.
    """

    def __init__(
        self,
        task: Task,
        options: OutputOptions,
        stdout: BinaryIO | None,
        terminal: bool = False,
        sharded: ShardSelection | None = None,
        is_uploaded: bool = False,
    ) -> None:
        if is_same_file(options.skip_existing, options.file):
            # What is skipped has to stay.
            options = replace(options, append=True)
        self.options = options
        self._format = _choose_format(task, options, terminal)
        can_resume = options.file is not None and self._format.resumable
        _require_resumable(options, can_resume)
        if sharded is not None:
            _refuse_shard(options)
        self._positions = ShardPositions(sharded, self._format, options.on_error, options.wide)
        self.files = ResultFiles(
            options.file,
            stdout,
            self._format.sidecars,
            (options.errors, options.manifest),
            options.force,
            not self._format.holds_metadata,
            options.resume,
            options.append,
        )
        self.earlier = EarlierResults(options)
        self.resume = Resume(
            self.files,
            options,
            self._format.name,
            self._positions,
            self.earlier,
            can_resume and not is_uploaded,
        )
        self._is_uploaded = is_uploaded
        self._labels = task.command == "classify"
        self._meta = task.meta
        self._writer: Writer | None = None
        self._errors: BinaryIO | None = None
        self._is_finished = False

    @property
    def name(self) -> str:
        """The name of the main file in messages, or stdout."""
        return self.files.name

    @property
    def on_error(self) -> OnError:
        """The option --on-error: what to do with images that fail."""
        return self.options.on_error

    def earlier_module(self) -> ResultModule | None:
        """Return the module of the result that the run goes on with; None where there is none.

        Raises:
            MissingInputError: the result to skip does not exist.
            ResultError: an existing result cannot be read, or two were made differently.
            ResumeError: no run can go on with what there is.
        """
        return self.resume.earlier_module() or self.earlier.find_module()

    def select(
        self, job: Job, images: Iterable[ImageRef], tally: Tally
    ) -> Iterator[ImageRef] | None:
        """Return the images still to do; None where the result to add to has everything.

        Raises:
            MissingInputError: the result to skip does not exist.
            ResultError: an existing result does not fit.
            ResumeError: the settings or the images are not those of the run to go on with.
        """
        missing = self.earlier.select_missing(images, job.metadata())
        selected = self.resume.skip_done(job, missing, tally)
        if self.resume.checkpoint is not None or not self.earlier.extends:
            return selected
        first = next(selected, None)
        return None if first is None else itertools.chain([first], selected)

    def begin(self, job: Job) -> None:
        """Open the files: empty ones, or those of the run to go on with."""
        options, checkpoint = self.options, self.resume.checkpoint
        errors = options.on_error == "row"
        warnings = job.spec.accepts_damaged
        layout = Layout(job.shape, self._labels, errors, options.wide, self._meta, warnings)
        # First the journal: files without one would be in the way of a run that is to go on.
        self.resume.open_journal(job)
        state = checkpoint.writer if checkpoint else None
        self._writer = self._format.create(self.files, layout, state)
        # From here on the files are locked, so that what was read before stays true.
        self.earlier.require_unchanged()
        if checkpoint is None:
            for table in self.earlier.tables(layout):
                self._writer.write(table)
        if options.errors is not None:
            self._errors = self.files.open(options.errors)
            if checkpoint is None:
                self._errors.write(encode_rows([("path", "reason")]))
        self.files.flush()
        self.resume.mark_consistent()

    def write(self, table: Table, tally: Tally) -> Sequence[Fault]:
        """Count a table, write its rows, and return the images that failed."""
        assert self._writer is not None
        self.resume.mark_inconsistent()
        faults = tally.add(table)
        with tally.hidden():
            self._writer.write(table if self.on_error == "row" else table.without_faults())
            self.files.flush()
        if self._errors is not None:
            self._errors.write(encode_rows([decode_path(f.path), f.reason] for f in faults))
        self._positions.add(table)
        self.resume.add(table.paths)
        return faults

    def commit(self, tally: Tally) -> None:
        """Make a checkpoint every few seconds."""
        assert self._writer is not None
        self.resume.mark_consistent()
        self.resume.commit(self._writer, tally)

    def finish(self, job: Job, tally: Tally) -> None:
        """Complete the result, write the metadata and rename every file."""
        assert self._writer is not None
        tally.close()
        metadata = self.earlier.add_to(tally.complete(job.metadata()))
        document = self._positions.add_to(metadata).to_json()
        self._writer.close(document)
        for path in (self.files.meta, self.options.manifest):
            if path is not None:
                self.files.write_json(path, document)
        self.resume.save(self._writer, tally, complete=True)
        # Whatever happens to the renaming, there is no other state to go on from.
        self.resume.mark_inconsistent()
        self.files.commit()
        self.resume.close(keep=False)
        self._is_finished = True

    def abandon(self, tally: Tally, error: BaseException) -> None:
        """Leave what is done in the .part files, with a journal up to here; or leave nothing."""
        if self._is_finished:
            # A signal came while the files were renamed: nothing is left to do.
            return
        keep = bool(tally.done or tally.failed)
        # The disk may be full, or nobody reads stdout any more.
        with contextlib.suppress(OSError):
            if keep:
                self.resume.save(self._writer, tally)
        with contextlib.suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self.files.abandon(keep)
        self.resume.close(keep)
        if keep and self.options.file is not None:
            # A disk that is full has not taken all that was counted.
            done = "what could be written" if isinstance(error, OutputError) else tally.images
            log.error("done so far: %s, in %s.part%s", done, self.name, self._advice())

    def _advice(self) -> str:
        """Return what a run that was stopped says about the next one."""
        if self._is_uploaded:
            return "; an object in a store cannot be resumed, but a dataset (-o NAME/) can"
        return "; the same command with --resume goes on" if self.resume.is_resumable else ""


def _choose_format(task: Task, options: OutputOptions, terminal: bool) -> Format:
    """Choose the format, and refuse options that it has no room for."""
    for path in filter(None, (options.file, options.errors, options.manifest)):
        refuse_image_name(path)
    if options.retry:
        raise OptionError(
            "--retry-failed is for datasets", "--skip-existing FILE --append does so for files"
        )
    rows_only = options.wide or task.meta
    chosen = choose_format(
        require_existing_format(options) or options.format,
        options.file,
        task,
        terminal and not rows_only,
    )
    if options.wide and chosen.name not in ("csv", "tsv"):
        raise OptionError(f"--wide is for csv and tsv, not for {chosen.name}")
    if task.meta and chosen.name == "table":
        raise OptionError("a table has no room for --with-meta", "use csv, tsv, jsonl, parquet")
    return chosen


def _require_resumable(options: OutputOptions, can_resume: bool) -> None:
    for option, is_given in (("--resume", options.resume), ("--append", options.append)):
        if is_given and not can_resume:
            raise OptionError(
                f"{option} needs a file and a format that can go on", "name one with -o"
            )


def _refuse_shard(options: OutputOptions) -> None:
    """Refuse a shard whose result could not be merged with the others."""
    if options.file is None:
        raise OptionError("--shard needs a file, for its metadata", "name it with -o")
    if options.append or options.skip_existing is not None:
        raise OptionError(
            "--shard tells where its rows stand among those of all images, and "
            "--skip-existing and --append make a result of others",
            "use --resume, or list what is missing with --files-from",
        )
