"""The loop of every run: images in, tables of results out, into a sink."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from mnv1cli.errors import BadImageError, Mnv1Error, OutputError
from mnv1cli.path_text import display_path
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.inference.job import Job
    from mnv1cli.runs.tally import Tally
    from mnv1cli.types import Fault, ImageRef, OnError, Table


class Sink(Protocol):
    """The output of a run: a file, a dataset, or a part of one."""

    @property
    def name(self) -> str:
        """The name of the output in messages."""
        ...

    @property
    def on_error(self) -> OnError:
        """The option --on-error; "fail" ends the run at the first image that fails."""
        ...

    def select(
        self, job: Job, images: Iterable[ImageRef], tally: Tally
    ) -> Iterator[ImageRef] | None:
        """Return the images still to do, and take over what is done into the tally.

        None means that the output has everything and stays as it is.
        """
        ...

    def begin(self, job: Job) -> None:
        """Open the output."""
        ...

    def write(self, table: Table, tally: Tally) -> Sequence[Fault]:
        """Count a table, write its rows, and return the images that failed."""
        ...

    def commit(self, tally: Tally) -> None:
        """Note that all tables so far are written, for a later run to go on from here."""
        ...

    def finish(self, job: Job, tally: Tally) -> None:
        """Complete the output; all images are done."""
        ...

    def abandon(self, tally: Tally, error: BaseException) -> None:
        """Keep what is done and report it; the run was stopped by an error or a signal."""
        ...


def run(job: Job, images: Iterable[ImageRef], sink: Sink, tally: Tally) -> None:
    """Do a job for the images that a sink lacks, and write their results to it.

    Raises:
        BadImageError: an image failed, and the sink's `on_error` is "fail".
        OutputError: the output cannot be written: the disk is full, for example.
        ResultError: an existing result was made with other settings.
        ResumeError: the settings or the images differ from those of the run to go on with.
        BrokenPipeError: nobody reads stdout any more.
    """
    with contextlib.closing(tally):
        selected = sink.select(job, images, tally)
        if selected is None:
            return
        try:
            with _writing(sink):
                sink.begin(job)
            for batch in job.compute_tables(selected):
                table = batch.until_fault() if sink.on_error == "fail" else batch
                with _writing(sink), signals.defer_stop():
                    _take(table, sink, tally)
            with _writing(sink), signals.defer_stop(f"{sink.name} is complete"):
                sink.finish(job, tally)
        except BaseException as error:
            sink.abandon(tally, error)
            raise


def _take(table: Table, sink: Sink, tally: Tally) -> None:
    """Write one table."""
    faults = sink.write(table, tally)
    if faults and sink.on_error == "fail":
        path = display_path(faults[0].path)
        raise BadImageError(f"stopped at {path}", "--on-error skip goes on after it")
    sink.commit(tally)


@contextlib.contextmanager
def _writing(sink: Sink) -> Iterator[None]:
    """Report what the operating system refuses as a failure to write."""
    try:
        yield
    except (BrokenPipeError, Mnv1Error):
        raise
    except OSError as error:
        raise OutputError(f"cannot write {sink.name}: {error.strerror}") from error
