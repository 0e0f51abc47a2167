"""Resumable runs: the journal beside a result, its checkpoints, and what a later run needs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ResumeError
from mnv1cli.results.locked_files import open_locked
from mnv1cli.runs import journal
from mnv1cli.runs.existing import ExistingResult
from mnv1cli.runs.journal import Checkpoint, Journal, Prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mnv1cli.inference.job import Job
    from mnv1cli.inference.result_module import ResultModule
    from mnv1cli.results.files import ResultFiles
    from mnv1cli.results.formats import Writer
    from mnv1cli.results.shard_positions import ShardPositions
    from mnv1cli.runs.existing import EarlierResults
    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.runs.tally import Tally
    from mnv1cli.types import Engine, ImageRef


class Resume:
    """The part of a file's run that makes it resumable.

    `checkpoint` is the state that this run goes on from, None where it begins anew. Only a
    run that `is_resumable` writes a journal.
    """

    def __init__(
        self,
        files: ResultFiles,
        options: OutputOptions,
        format_name: str,
        positions: ShardPositions,
        earlier: EarlierResults,
        is_resumable: bool,
    ) -> None:
        self.checkpoint: Checkpoint | None = None
        self.is_resumable = is_resumable
        self._files = files
        self._options = options
        self._format_name = format_name
        self._positions = positions
        self._earlier = earlier
        self._prefix = Prefix()
        self._journal: Journal | None = None
        self._replaces = options.force
        self._committed = 0.0
        # Whether files and counts are of the same images: only then a checkpoint is true.
        self._is_consistent = False

    def earlier_engine(self) -> Engine | None:
        """Return the engine of the run to go on with, None where there is none.

        It need not be the default one: where a module could not be compiled then, for want
        of room, say, TensorFlow ran it.
        """
        saved = self._read()
        return saved[0].get("--engine") if saved else None

    def earlier_module(self) -> ResultModule | None:
        """Return the module of the run to go on with, None where there is none.

        Raises:
            ResumeError: no run can go on with what there is.
            ResultError: the complete result cannot be read.
        """
        saved, main = self._read(), self._files.main
        if saved is not None:
            return journal.find_module(saved[0], self._files.name, main)
        if not self._options.resume or self._options.append or not self._files.is_complete():
            return None
        assert main is not None
        return ExistingResult(main).module

    def is_complete(self, job: Job, images: Iterable[ImageRef]) -> bool:
        """Return whether the run to go on with has done all the images.

        Files that it could not rename any more get their names.

        Raises:
            ResumeError: it lacks some of the images, or was made with other settings.
            ResultError: an existing result was made with other settings.
        """
        if not self._options.resume:
            return False
        saved = self._read()
        if saved is not None:
            settings, checkpoint = saved
            if not checkpoint.complete:
                return False
            self._finish_renames(job, settings, checkpoint)
        if self._options.append or not self._files.is_complete():
            return False
        assert self._files.main is not None
        result = ExistingResult(self._files.main)
        result.require_same(job.metadata())
        result.require_images(images)
        self._positions.require_same_shard(result.file, result.metadata, images)
        return True

    def skip_done(self, job: Job, images: Iterable[ImageRef], tally: Tally) -> Iterator[ImageRef]:
        """Return the images behind those that the run to go on with has done.

        Raises:
            ResumeError: the settings or the images are others, or something is missing.
        """
        saved = self._read()
        if saved is None:
            return iter(images)
        settings, checkpoint = saved
        journal.check_settings(self._files.name, settings, self._settings(job))
        self._replaces = bool(settings.get(journal.REPLACES))
        if self._replaces:
            self._files.allow_replacing()
        self._files.continue_from(checkpoint.files)
        self._positions.continue_from(checkpoint.marks, checkpoint.digest)
        remaining, self._prefix = journal.skip_done(images, checkpoint)
        tally.continue_from(checkpoint.counts, checkpoint.faults)
        self.checkpoint = checkpoint
        return remaining

    def open_journal(self, job: Job) -> None:
        """Open the journal: a file without one could be anybody's."""
        path = self._files.journal
        if not self.is_resumable or path is None:
            return
        file = open_locked(path, journal.length_of_lines(path) if self.checkpoint else 0)
        try:
            self._journal = Journal(path, file, self._settings(job), self.checkpoint)
        except BaseException:
            file.close()
            raise

    def mark_inconsistent(self) -> None:
        """Make no checkpoint from here on: a table is being written, and may be torn."""
        self._is_consistent = False

    def mark_consistent(self) -> None:
        """Allow checkpoints: files and counts are of the same images."""
        self._is_consistent = True

    def add(self, paths: Iterable[bytes]) -> None:
        """Count images as done, in their order."""
        self._prefix.add(paths)

    def commit(self, writer: Writer, tally: Tally) -> None:
        """Make a checkpoint where the last one is some seconds old."""
        if time.monotonic() - self._committed >= journal.CHECKPOINT_SECONDS:
            self.save(writer, tally)

    def save(self, writer: Writer | None, tally: Tally, complete: bool = False) -> None:
        """Make a checkpoint, where the files are consistent and there is a journal."""
        if self._journal is None or writer is None or not self._is_consistent:
            return
        # First the state: for it a writer writes what it still holds.
        state, lengths = writer.state(), self._files.sync()
        self._journal.write(
            Checkpoint(
                self._prefix.images,
                self._prefix.digest(),
                lengths,
                state,
                tally.counts(),
                tally.faults,
                complete,
                **self._positions.state(),
            )
        )
        self._committed = time.monotonic()

    def close(self, keep: bool) -> None:
        """Close the journal, and remove it unless it is worth keeping."""
        if self._journal is not None and keep:
            self._journal.close()
        elif self._journal is not None:
            self._journal.remove()

    def _read(self) -> tuple[Mapping[str, Any], Checkpoint] | None:
        """Read the settings and the state of the run to go on with; None where there is none.

        Raises:
            ResumeError: no run can go on with what there is.
        """
        path = self._files.journal
        if not self._options.resume or path is None:
            return None
        saved = journal.read(path)
        if saved is None and self._files.has_parts() and not path.exists():
            raise ResumeError(
                f"there is no journal beside {self._files.name}.part",
                "begin anew with --force",
            )
        return saved

    def _finish_renames(
        self, job: Job, settings: Mapping[str, Any], checkpoint: Checkpoint
    ) -> None:
        """Rename the files of a run that was cut while it did so."""
        # What existed before is another file once the result has its name.
        earlier = {name: settings.get(name) for name in self._earlier.signatures()}
        journal.check_settings(self._files.name, settings, {**self._settings(job), **earlier})
        if settings.get(journal.REPLACES):
            self._files.allow_replacing()
        self._files.finish_renames(checkpoint.files)
        assert self._files.journal is not None
        self._files.journal.unlink(missing_ok=True)

    def _settings(self, job: Job) -> dict[str, Any]:
        """Return what must be the same in a run that goes on, by the names that people know."""
        options = self._options
        return {
            **job.settings(),
            "--format": self._format_name,
            "--wide": options.wide,
            "--on-error": options.on_error,
            "--errors": None if options.errors is None else options.errors.name,
            "--shard": self._positions.setting,
            journal.REPLACES: self._replaces,
            **self._earlier.signatures(),
        }
