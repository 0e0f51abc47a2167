"""A run over images that writes a result: its options folded into one value, and started."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click
from click.core import ParameterSource

from mnv1cli.cli import console
from mnv1cli.cli.dataset_run import DatasetRun, spread_place
from mnv1cli.cli.image_options import Reading, folding, reading_command
from mnv1cli.cli.options import WRITING_OPTIONS
from mnv1cli.errors import OptionError
from mnv1cli.path_text import display_path
from mnv1cli.runs.options import OutputOptions
from mnv1cli.storage.location import Location, source

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.inputs.listing import Listing
    from mnv1cli.storage.upload import Delivery
    from mnv1cli.types import OnError, Runner, Task

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class ImageRun:
    """A run over images that writes a result: how they are read, and the other options."""

    reading: Reading
    output: Location | None
    format: str | None
    force: bool
    resume: bool
    skip_existing: Location | None
    append: bool
    retry: bool
    on_error: OnError
    errors: Path | None
    manifest: Path | None
    runner: Runner
    ray_address: str | None
    quiet: bool
    verbose: bool

    def start(self, task: Task, wide: bool = False, labels: Path | None = None) -> NoReturn:
        """Do the task; ends with the run's exit code."""
        with (
            console.session(self.quiet, self.verbose) as stream,
            contextlib.closing(self.reading.listing()) as listing,
        ):
            progress = console.progress(stream, self.quiet)
            place = self._dataset()
            if place is not None:
                options = self._output(wide)
                into = DatasetRun(self.reading, place, options, self.runner, self.ray_address)
                into.start(task, listing, labels, progress)
            with self._delivery() as delivery:
                options = self._output(wide, delivery.file)
                self._into_file(task, options, delivery, listing, labels, progress)

    def _into_file(
        self,
        task: Task,
        options: OutputOptions,
        delivery: Delivery,
        listing: Listing,
        labels: Path | None,
        progress: TextIO | None,
    ) -> NoReturn:
        """Write a result to a file or to stdout."""
        from mnv1cli.runs.file_sink import FileSink

        # A process may be started without stdin or stdout: Python has None there.
        stdout = sys.stdout.buffer if sys.stdout else None
        terminal = bool(sys.stdout and sys.stdout.isatty())
        with delivery.naming():
            target = FileSink(task, options, stdout, terminal, listing.sharded)
        if delivery.is_remote:
            target.resumable = False
            target.advice = "; an object is written anew each time, a dataset (-o NAME/) goes on"
            delivery.require_free(target.outputs.paths, self.force)
        listing.require_images()
        classifier = self.reading.classifier(labels, progress, target.engine_left())
        job = classifier.job(task)
        if target.is_complete(job.settings(), job.metadata(), listing):
            console.log.info("%s is complete: nothing is left to do", target.outputs.name)
            raise SystemExit(0)
        tally = classifier.export(listing, task, target, progress)
        delivery.send(target.outputs.paths)
        for folder in listing.empty:
            console.log.warning("no images in %s", display_path(folder))
        place = f", in {delivery.name or target.outputs.name}" if target.options.file else ""
        passed = target.before.passed
        there = f", {passed:,} {'was' if passed == 1 else 'were'} there already"
        summary = tally.summary() + (there if passed else "")
        console.log.info("%s%s%s", summary, listing.skipped_note(), place)
        raise SystemExit(tally.exit_code)

    def _dataset(self) -> Location | None:
        """The dataset that is written, None where it is a file or stdout."""
        named = self.skip_existing if self.append and self.output is None else self.output
        if self.runner == "ray":
            return spread_place(named)
        given = click.get_current_context().get_parameter_source("ray_address")
        if given is ParameterSource.COMMANDLINE:
            raise OptionError("--ray-address goes with --runner ray")
        if named is None or named.is_stdout:
            return None
        return named if named.is_folder else None

    def _delivery(self) -> Delivery:
        from mnv1cli.storage.upload import Delivery

        if self.output is not None and self.output.is_remote and (self.resume or self.append):
            option = "--resume" if self.resume else "--append"
            raise OptionError(
                f"{option} cannot go on with an object in a store",
                "write to a file on this machine",
            )
        return Delivery(self.output)

    def _output(self, wide: bool, file: Path | None = None) -> OutputOptions:
        if self.force and self.resume:
            raise OptionError("--force begins anew and --resume goes on", "say one of them")
        skipped = source(self.skip_existing) if self.skip_existing is not None else None
        if self.append and self.output is None and not isinstance(skipped, Location):
            file = skipped
        return OutputOptions(
            file,
            self.format,
            wide,
            self.force,
            self.resume,
            self.on_error,
            self.errors,
            self.manifest,
            skipped,
            self.append,
            self.retry,
        )


def image_command(function: F) -> F:
    """Give a command the options of reading images and writing results, folded into `run`."""
    return reading_command(folding(function, ImageRun, "run", WRITING_OPTIONS))
