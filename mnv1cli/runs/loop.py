"""The one loop: images in, tables of results out, to a writer and a tally."""

from __future__ import annotations

import contextlib
import itertools
import logging
from typing import TYPE_CHECKING

from mnv1cli.errors import BadImageError, Mnv1Error, OutputError
from mnv1cli.path_text import display_path
from mnv1cli.runs.journal import Prefix, passed_over
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.inference.job import Job
    from mnv1cli.runs.file_sink import FileSink
    from mnv1cli.runs.tally import Tally
    from mnv1cli.types import ImageRef, Table

log = logging.getLogger(__name__)


def export(job: Job, refs: Iterable[ImageRef], target: FileSink, tally: Tally) -> None:
    """Run a job over images and write the results; a resumed target's go on where it was cut.

    Raises:
        BadImageError: an image failed and the target's `on_error` is "fail".
        OutputError: the disk is full, or gone.
        ResumeError: the settings or the inputs are not those of the run that was cut.
        BrokenPipeError: nobody reads stdout any more.
    """
    refs = target.before.missing(refs, job.metadata())
    checkpoint = target.checkpoint(job.settings())
    rest, prefix = passed_over(refs, checkpoint) if checkpoint else (iter(refs), Prefix())
    if checkpoint:
        tally.go_on(checkpoint.counts, checkpoint.faults)
    elif target.before.extends:
        first = next(rest, None)
        if first is None:
            # The result is left alone where it has everything.
            tally.close()
            return
        rest = itertools.chain([first], rest)
    try:
        with _writing(target):
            target.begin(job.shape, job.settings(), checkpoint)
        for batch in job.tables(rest):
            table = batch.until_fault() if target.options.on_error == "fail" else batch
            with _writing(target), signals.held():
                _take(table, target, prefix, tally)
        metadata = tally.complete(job.metadata())
        tally.close()
        with _writing(target), signals.held():
            target.finish(metadata, prefix, tally)
    except BaseException as error:
        _leave(target, prefix, tally, error)
        raise
    finally:
        tally.close()


def _take(table: Table, target: FileSink, prefix: Prefix, tally: Tally) -> None:
    """Count one table and write it."""
    with target.step():
        faults = tally.add(table)
        with tally.hidden():
            target.write(table, faults)
        prefix.add(table.paths)
        if faults and target.options.on_error == "fail":
            path = display_path(faults[0].path)
            raise BadImageError(f"stopped at {path}", "--on-error skip goes on after it")
    target.commit(prefix, tally)


def _leave(target: FileSink, prefix: Prefix, tally: Tally, error: BaseException) -> None:
    """Keep what is done, and tell of it."""
    if target.is_finished:
        # A signal that came while the files got their names: nothing is left to do.
        return
    keep = bool(tally.done or tally.failed)
    target.abandon(prefix, tally, keep)
    if keep and target.options.file is not None:
        # A disk that is full has not taken all that was counted.
        done = "what could be written" if isinstance(error, OutputError) else tally.images
        log.error("done so far: %s, in %s.part%s", done, target.outputs.name, target.advice)


@contextlib.contextmanager
def _writing(target: FileSink) -> Iterator[None]:
    """Tell a failure to write from every other one."""
    try:
        yield
    except (BrokenPipeError, Mnv1Error):
        raise
    except OSError as error:
        raise OutputError(f"cannot write {target.outputs.name}: {error.strerror}") from error
