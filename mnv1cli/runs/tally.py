"""The counts of a run: images done, faults, progress, time, and the exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from mnv1cli.path_text import count, display_path
from mnv1cli.types import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TextIO

    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.types import Table

log = logging.getLogger(__name__)

DONE, SOME_FAILED = 0, 3
_USUAL_COLUMNS = 80


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


class Tally:
    """The counts of a run so far; a bar on the stream `progress` shows them."""

    def __init__(self, progress: TextIO | None = None) -> None:
        self.done = 0
        self.unlabelled = 0
        self.damaged = 0
        self.faults: list[Fault] = []
        # Of the run that this one goes on with: its images and its time.
        self._resumed = 0
        self._before = 0.0
        self._start = time.monotonic()
        self._bar: Any = None
        if progress is not None:
            from tqdm import tqdm

            # A terminal of unknown width would get no bar.
            has_width = _columns(progress) > 0
            self._bar = tqdm(
                file=progress,
                unit=" images",
                dynamic_ncols=has_width,
                ncols=None if has_width else _USUAL_COLUMNS,
                leave=False,
            )

    def continue_from(self, counts: Mapping[str, Any], faults: Sequence[Fault]) -> None:
        """Continue the counts of a run that was cut."""
        self.done, self.unlabelled = counts["done"], counts["unlabelled"]
        self.damaged = counts.get("damaged", 0)
        self.faults = list(faults)
        self._before = counts["seconds"]
        self._resumed = self.done + self.failed
        if self._bar is not None:
            self._bar.update(self._resumed)

    def counts(self) -> dict[str, Any]:
        """Return what `continue_from` takes."""
        damaged = {"damaged": self.damaged} if self.damaged else {}
        return {
            "done": self.done,
            "unlabelled": self.unlabelled,
            **damaged,
            "seconds": self.seconds,
        }

    @property
    def failed(self) -> int:
        """The number of images that could not be used."""
        return len(self.faults)

    @property
    def seconds(self) -> float:
        """The time of the run in seconds, with that of the run that it goes on with."""
        return self._before + time.monotonic() - self._start

    @property
    def exit_code(self) -> int:
        """The exit code: 0, or 3 where images failed."""
        return SOME_FAILED if self.faults else DONE

    def complete(self, metadata: RunMetadata) -> RunMetadata:
        """Return the metadata of a run with what has become of its images."""
        return metadata.ended(self.done, self.faults, self.seconds, self.damaged)

    def counted(self, table: Table) -> Table:
        """Count a table as `add` does, and return it."""
        self.add(table)
        return table

    def add(self, table: Table) -> list[Fault]:
        """Count the images of a table, log those that failed or are damaged; return the former."""
        faults = list_faults(table.paths, table.errors)
        # Where a probability is asked for, an image may keep no label at all.
        without = sum(not labels for labels in table.predictions)
        unlabelled = without - len(faults) if table.predictions else 0
        damaged = list_faults(table.paths, table.get_warnings())
        self.join(len(table.paths) - len(faults), unlabelled, faults, damaged)
        return faults

    def join(
        self, done: int, unlabelled: int, faults: Sequence[Fault], damaged: Sequence[Fault] = ()
    ) -> None:
        """Add counts that were made elsewhere, and log the images that failed or are damaged."""
        with self.hidden():
            for fault in faults:
                log.error("%s: %s", display_path(fault.path), fault.reason)
            for fault in damaged:
                log.error("%s: %s; accepted", display_path(fault.path), fault.reason)
        self.done += done
        self.unlabelled += unlabelled
        self.damaged += len(damaged)
        self.faults += faults
        if self._bar is not None:
            self._bar.set_postfix(failed=self.failed, refresh=False)
            self._bar.update(done + len(faults))

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bar while something else is printed on the terminal."""
        if self._bar is None:
            yield
        else:
            with self._bar.external_write_mode(file=self._bar.fp):
                yield

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    @property
    def images(self) -> str:
        """The number of images done, with the noun."""
        return count(self.done, "image")

    def summary(self) -> str:
        """Return one line: how many images, how fast, how many failed or are damaged."""
        seconds = self.seconds
        rate = f" ({self.done / seconds:.0f}/s)" if seconds else ""
        failed = f", {self.failed:,} failed" if self.faults else ""
        damaged = f", {self.damaged:,} damaged and accepted" if self.damaged else ""
        unlabelled = f", {self.unlabelled:,} without a label" if self.unlabelled else ""
        resumed = f", {self._resumed:,} of them before" if self._resumed else ""
        return f"{self.images} in {seconds:.1f} s{rate}{failed}{damaged}{unlabelled}{resumed}"


def list_faults(paths: Sequence[bytes], reasons: Sequence[str]) -> list[Fault]:
    """List the images that have a reason."""
    return [Fault(path, reason) for path, reason in zip(paths, reasons, strict=True) if reason]
