"""Where a run's results go: the format's writer, its files, and the journal beside them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OptionError, ResumeError
from mnv1cli.path_text import text
from mnv1cli.results.files import ResultFiles, refuse_image_name
from mnv1cli.results.formats import choose_format
from mnv1cli.results.locked_files import open_locked
from mnv1cli.results.shard_positions import ShardPositions
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.runs import journal
from mnv1cli.runs.existing import Before, ExistingResult, format_there
from mnv1cli.runs.journal import Checkpoint, Journal
from mnv1cli.types import Layout, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from mnv1cli.inputs.shards import Sharded
    from mnv1cli.results.formats import Writer
    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.runs.journal import Prefix
    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.runs.tally import Tally
    from mnv1cli.types import Engine, Fault, ImageRef, Task

# How much work a run that is killed may lose; each commit waits for the disk.
_COMMIT_SECONDS = 2.0


class FileSink:
    """Where a run's results go: the files and the format, checked before any work.

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
        sharded: Sharded | None = None,
    ) -> None:
        if options.file is not None:
            refuse_image_name(options.file)
        if options.retry:
            raise OptionError(
                "--retry-failed is for datasets", "--skip-existing FILE --append does so for files"
            )
        self.options = options
        rows_alone = options.wide or task.meta
        self._format = choose_format(
            format_there(options) or options.format,
            options.file,
            task,
            terminal and not rows_alone,
        )
        if options.wide and self._format.name not in ("csv", "tsv"):
            raise OptionError(f"--wide is for csv and tsv, not for {self._format.name}")
        if task.meta and self._format.name == "table":
            raise OptionError("a table has no room for --with-meta", "use csv, tsv, jsonl, parquet")
        self.resumable = options.file is not None and self._format.resumable
        if options.resume and not self.resumable:
            raise OptionError(
                "--resume needs a file and a format that can go on", "name one with -o"
            )
        if options.append and not self.resumable:
            raise OptionError(
                "--append needs a file and a format that can go on", "name one with -o"
            )
        if sharded is not None:
            _refuse_shard(options)
        self._positions = ShardPositions(sharded, self._format, options.on_error, options.wide)
        others = (options.errors, options.manifest)
        self.outputs = ResultFiles(
            options.file,
            stdout,
            self._format.sidecars,
            others,
            options.force,
            not self._format.holds_metadata,
            options.resume,
            options.append,
        )
        self.before = Before(options)
        self._labels = task.command == "classify"
        self._meta = task.meta
        self._writer: Writer | None = None
        self._faults: BinaryIO | None = None
        self._journal: Journal | None = None
        self._committed = 0.0
        # Whether files and counts are of the same images: a checkpoint may be made.
        self._whole = False
        self.is_finished = False
        # What a run that is stopped says of the next one.
        self.advice = "; the same command with --resume goes on" if self.resumable else ""

    def left(self) -> tuple[Mapping[str, Any], Checkpoint] | None:
        """The settings and the state of the run to go on with; None where there is none.

        Raises:
            ResumeError: what is left cannot be gone on with.
        """
        if not self.options.resume or self.outputs.journal is None:
            return None
        found = journal.read(self.outputs.journal)
        if found is None and self.outputs.has_parts() and not self.outputs.journal.exists():
            raise ResumeError(
                f"there is no journal beside {self.outputs.name}.part",
                "begin anew with --force",
            )
        return found

    def engine_left(self) -> Engine | None:
        """The engine that the run to go on with was begun with, None where there is none.

        It need not be the default one: a module that could not be compiled then, for
        want of room, say, was run by TensorFlow.
        """
        found = self.left()
        return found[0].get("--engine") if found else None

    def is_complete(
        self, settings: Mapping[str, Any], metadata: RunMetadata, refs: Iterable[ImageRef]
    ) -> bool:
        """Whether a run to resume has done all of `refs`, but for renaming its files, maybe.

        Raises:
            ResumeError: what is there lacks some of them, or came about with other settings.
            ResultError: so did a result that has its name already.
        """
        if not self.options.resume:
            return False
        found = self.left()
        if found is not None:
            if not found[1].complete:
                return False
            self._rename(found[0], found[1], settings)
        if self.options.append or not self.outputs.is_complete():
            return False
        assert self.outputs.main is not None
        there = ExistingResult(self.outputs.main, metadata)
        there.require(refs)
        self._positions.require(there.file, there.metadata, refs)
        return True

    def _rename(
        self, begun: Mapping[str, Any], left: Checkpoint, settings: Mapping[str, Any]
    ) -> None:
        """Give the files of a run that was cut while it did so their names."""
        # What was there before is another file once the result has its name.
        before = {name: begun.get(name) for name in self.before.signatures()}
        now = {**self._settings(settings), **before}
        journal.check_settings(self.outputs.name, begun, now)
        self.outputs.finish_renames(left.files)
        assert self.outputs.journal is not None
        self.outputs.journal.unlink(missing_ok=True)

    def checkpoint(self, settings: Mapping[str, Any]) -> Checkpoint | None:
        """The state to go on from, of a run with the same settings.

        Raises:
            ResumeError: the settings are others, or what is left is not enough.
        """
        found = self.left()
        if found is None:
            return None
        journal.check_settings(self.outputs.name, found[0], self._settings(settings))
        self.outputs.continue_from(found[1].files)
        self._positions.go_on(found[1].marks, found[1].digest)
        return found[1]

    def begin(
        self, shape: tuple[int, ...], settings: Mapping[str, Any], after: Checkpoint | None
    ) -> None:
        """Open the files: empty ones, or those of the run to go on with."""
        options = self.options
        errors = options.on_error == "row"
        layout = Layout(shape, self._labels, errors, options.wide, self._meta)
        # First the journal: a file without one could be anybody's, and would be in the way
        # of a run that is to go on.
        if self.resumable and self.outputs.journal is not None:
            self._journal = self._opened(self.outputs.journal, settings, after)
        self._writer = self._format.create(self.outputs, layout, after.writer if after else None)
        if after is None:
            for table in self.before.rows(layout):
                self._writer.write(table)
        if options.errors is not None:
            self._faults = self.outputs.open(options.errors)
            if after is None:
                self._faults.write(encode_rows([("path", "reason")]))
        self.outputs.flush()
        self._whole = True

    def _opened(self, path: Path, settings: Mapping[str, Any], after: Checkpoint | None) -> Journal:
        file = open_locked(path, journal.whole_length(path) if after else 0)
        try:
            return Journal(path, file, self._settings(settings), after)
        except BaseException:
            file.close()
            raise

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """From one whole state to the next; what is torn in between is cut off by who goes on."""
        self._whole = False
        yield
        self._whole = True

    def write(self, table: Table, faults: list[Fault]) -> None:
        """Write one table, and treat the images that failed as the options say."""
        assert self._writer is not None
        rows = table if self.options.on_error == "row" else table.without_faults()
        self._writer.write(rows)
        self.outputs.flush()
        self._positions.add(table)
        if self._faults is not None:
            self._faults.write(encode_rows([text(f.path), f.reason] for f in faults))

    def commit(
        self, prefix: Prefix, tally: Tally, now: bool = False, complete: bool = False
    ) -> None:
        """Note in the journal what is done, at most every few seconds, or `now`."""
        if self._journal is None or self._writer is None or not self._whole:
            return
        if not now and time.monotonic() - self._committed < _COMMIT_SECONDS:
            return
        lengths = self.outputs.sync()
        self._journal.write(
            Checkpoint(
                prefix.images,
                prefix.digest(),
                lengths,
                self._writer.state(),
                tally.counts(),
                tally.faults,
                complete,
                **self._positions.state(),
            )
        )
        self._committed = time.monotonic()

    def finish(self, metadata: RunMetadata, prefix: Prefix, tally: Tally) -> None:
        """Complete the result, write the metadata and give every file its name."""
        assert self._writer is not None
        document = self._positions.add_to(self.before.add_to(metadata)).to_json()
        self._writer.close(document)
        for path in (self.outputs.meta, self.options.manifest):
            if path is not None:
                self.outputs.write_json(path, document)
        self.commit(prefix, tally, now=True, complete=True)
        # Whatever happens to the renaming, there is no other state to go on from.
        self._whole = False
        self.outputs.commit()
        if self._journal is not None:
            self._journal.remove()
        self.is_finished = True

    def abandon(self, prefix: Prefix, tally: Tally, keep: bool) -> None:
        """Leave what is done under its .part name, with a journal up to here, or nothing."""
        # The disk may be full, or nobody read stdout any more.
        with contextlib.suppress(OSError):
            if keep:
                self.commit(prefix, tally, now=True)
        with contextlib.suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self.outputs.abandon(keep)
        if self._journal is not None and keep:
            self._journal.close()
        elif self._journal is not None:
            self._journal.remove()

    def _settings(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What must be the same in a run that goes on, by names that people know."""
        options = self.options
        return {
            **job,
            "--format": self._format.name,
            "--wide": options.wide,
            "--on-error": options.on_error,
            "--errors": None if options.errors is None else options.errors.name,
            "--shard": self._positions.setting,
            **self.before.signatures(),
        }


def _refuse_shard(options: OutputOptions) -> None:
    """Refuse a shard whose result could not be put together with the others."""
    if options.file is None:
        raise OptionError("--shard needs a file, for its metadata", "name it with -o")
    if options.append or options.skip_existing is not None:
        raise OptionError(
            "--shard tells where its rows stand among those of all images, and "
            "--skip-existing and --append make a result of others",
            "use --resume, or list what is missing with --files-from",
        )
