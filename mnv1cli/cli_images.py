"""The options that the commands over images share, folded into one value."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from mnv1cli import console
from mnv1cli.cli_options import IMAGE_OPTIONS
from mnv1cli.errors import OptionError
from mnv1cli.records import FetchOptions, OnError, OutputOptions, Task, display_path

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class ImageRun:
    """The options that the commands over images share, by their names on the command line."""

    inputs: tuple[str, ...]
    files_from: tuple[str, ...]
    null: bool
    recursive: bool
    module: str | None
    fetch: FetchOptions
    image_size: int | None
    preprocess: Any
    decode: Any
    exif: bool
    max_pixels: int
    max_bytes: int
    engine: Any
    precision: Any
    threads: int | None
    batch_size: int
    output: Path | None
    format: str | None
    force: bool
    resume: bool
    skip_existing: Path | None
    append: bool
    on_error: OnError
    errors: Path | None
    manifest: Path | None
    quiet: bool
    verbose: bool

    def start(self, task: Task, wide: bool = False, labels: Path | None = None) -> NoReturn:
        """Do the task; ends with the run's exit code."""
        with (
            console.session(self.quiet, self.verbose) as stream,
            contextlib.closing(self._listing()) as listing,
        ):
            from mnv1cli.api import Classifier
            from mnv1cli.tally import Tally
            from mnv1cli.target import Target

            progress = stream if stream.isatty() and not self.quiet else None
            # A process may be started without stdin or stdout: Python has None there.
            stdout = sys.stdout.buffer if sys.stdout else None
            terminal = bool(sys.stdout and sys.stdout.isatty())
            target = Target(task, self._output(wide), stdout, terminal)
            listing.require_images()
            classifier = Classifier(
                self.module,
                preprocess=self.preprocess,
                decode=self.decode,
                exif=self.exif,
                max_pixels=self.max_pixels,
                max_bytes=self.max_bytes,
                image_size=self.image_size,
                labels=labels,
                engine=self.engine,
                precision=self.precision,
                threads=self.threads,
                batch_size=self.batch_size,
                fetch=dataclasses.replace(self.fetch, bar=progress),
            )
            job = classifier.job(task)
            if target.is_complete(job.settings(), job.metadata(Tally()), listing):
                console.log.info("%s is complete: nothing is left to do", target.outputs.name)
                raise SystemExit(0)
            tally = classifier.export(listing, task, target, progress)
            for folder in listing.empty:
                console.log.warning("no images in %s", display_path(folder))
            place = f", in {target.outputs.name}" if target.options.file else ""
            there = f", {target.before.passed:,} were there already" if target.before.passed else ""
            console.log.info("%s%s%s%s", tally.summary(), there, listing.skipped_note(), place)
            raise SystemExit(tally.exit_code)

    def _listing(self) -> Any:
        from mnv1cli.inputs import InputOptions, Listing

        if not self.inputs and not self.files_from:
            raise OptionError("no input", "name files or folders, '-' or --files-from")
        if (*self.inputs, *self.files_from).count("-") > 1:
            raise OptionError("stdin can be read once only")
        stdin = sys.stdin.buffer if sys.stdin else None
        options = InputOptions(self.recursive, self.null, stdin)
        return Listing(
            [os.fsencode(name) for name in self.inputs],
            [os.fsencode(name) for name in self.files_from],
            options,
        )

    def _output(self, wide: bool) -> OutputOptions:
        if self.force and self.resume:
            raise OptionError("--force begins anew and --resume goes on", "say one of them")
        file = None if self.output == Path("-") else self.output
        if self.append and self.output is None:
            file = self.skip_existing
        return OutputOptions(
            file,
            self.format,
            wide,
            self.force,
            self.resume,
            self.on_error,
            self.errors,
            self.manifest,
            self.skip_existing,
            self.append,
        )


def image_command(function: F) -> F:
    """Give a command the shared options, folded into one `ImageRun`."""
    fields = [field.name for field in dataclasses.fields(ImageRun)]

    @functools.wraps(function)
    def folded(**values: Any) -> Any:
        run = ImageRun(**{name: values.pop(name) for name in fields})
        return function(run, **values)

    decorated = cast("F", folded)
    for option in reversed(IMAGE_OPTIONS):
        decorated = option(decorated)
    return decorated
