"""The options that the commands over images share, folded into one value."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO, TypeVar, cast

import click
from click.core import ParameterSource

from mnv1cli import console
from mnv1cli.cli_options import READING_OPTIONS, WRITING_OPTIONS
from mnv1cli.errors import OptionError
from mnv1cli.places import Place, source
from mnv1cli.records import FetchOptions, OnError, OutputOptions, Task, display_path

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.api import Classifier
    from mnv1cli.dataset import Dataset
    from mnv1cli.engine import Job
    from mnv1cli.inputs import Listing
    from mnv1cli.records import Engine, ImageRef
    from mnv1cli.shards import Shard
    from mnv1cli.tally import Tally
    from mnv1cli.uploads import Delivery

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Reading:
    """Which images are read, how, and by which module, by the options' names."""

    inputs: tuple[str, ...]
    files_from: tuple[str, ...]
    null: bool
    shard: Shard | None
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

    @property
    def is_empty(self) -> bool:
        """Whether no input is named."""
        return not self.inputs and not self.files_from

    def listing(self) -> Listing:
        """The images; to be closed."""
        from mnv1cli.inputs import InputOptions, Listing

        if self.is_empty:
            raise OptionError("no input", "name files or folders, '-' or --files-from")
        if (*self.inputs, *self.files_from).count("-") > 1:
            raise OptionError("stdin can be read once only")
        stdin = sys.stdin.buffer if sys.stdin else None
        options = InputOptions(self.recursive, self.null, stdin, self.shard)
        return Listing(
            [os.fsencode(name) for name in self.inputs],
            [os.fsencode(name) for name in self.files_from],
            options,
        )

    def classifier(
        self, labels: Path | None = None, bar: TextIO | None = None, engine: Engine | None = None
    ) -> Classifier:
        """The module with its settings; `engine` where none was named."""
        from mnv1cli.api import Classifier

        return Classifier(
            self.module,
            preprocess=self.preprocess,
            decode=self.decode,
            exif=self.exif,
            max_pixels=self.max_pixels,
            max_bytes=self.max_bytes,
            image_size=self.image_size,
            labels=labels,
            engine=self.engine or engine,
            precision=self.precision,
            threads=self.threads,
            batch_size=self.batch_size,
            fetch=dataclasses.replace(self.fetch, bar=bar),
        )


@dataclasses.dataclass(frozen=True)
class ImageRun:
    """A run over images that writes a result: how they are read, and the other options."""

    reading: Reading
    output: Place | None
    format: str | None
    force: bool
    resume: bool
    skip_existing: Place | None
    append: bool
    on_error: OnError
    errors: Path | None
    manifest: Path | None
    runner: Literal["local", "ray"]
    ray_address: str | None
    quiet: bool
    verbose: bool

    def start(self, task: Task, wide: bool = False, labels: Path | None = None) -> NoReturn:
        """Do the task; ends with the run's exit code."""
        with (
            console.session(self.quiet, self.verbose) as stream,
            self._delivery() as delivery,
            contextlib.closing(self.reading.listing()) as listing,
        ):
            from mnv1cli.tally import Tally
            from mnv1cli.target import Target

            progress = console.progress(stream, self.quiet)
            dataset = self._dataset()
            if dataset is not None:
                self._fill(dataset, task, self._output(wide), listing, labels, progress)
            # A process may be started without stdin or stdout: Python has None there.
            stdout = sys.stdout.buffer if sys.stdout else None
            terminal = bool(sys.stdout and sys.stdout.isatty())
            with delivery.naming():
                options = self._output(wide, delivery.file)
                target = Target(task, options, stdout, terminal, listing.sharded)
            if delivery.is_remote:
                target.resumable = False
                delivery.require_free(target.outputs.named, self.force)
            listing.require_images()
            classifier = self.reading.classifier(labels, progress, target.engine_left())
            job = classifier.job(task)
            if target.is_complete(job.settings(), job.metadata(Tally()), listing):
                console.log.info("%s is complete: nothing is left to do", target.outputs.name)
                raise SystemExit(0)
            tally = classifier.export(listing, task, target, progress)
            delivery.send(target.outputs.named)
            for folder in listing.empty:
                console.log.warning("no images in %s", display_path(folder))
            place = f", in {delivery.name or target.outputs.name}" if target.options.file else ""
            passed = target.before.passed
            there = f", {passed:,} {'was' if passed == 1 else 'were'} there already"
            summary = tally.summary() + (there if passed else "")
            console.log.info("%s%s%s", summary, listing.skipped_note(), place)
            raise SystemExit(tally.exit_code)

    def _dataset(self) -> Place | None:
        """The dataset that is written, None where it is a file or stdout."""
        named = self.skip_existing if self.append and self.output is None else self.output
        if self.runner == "ray":
            return self._spread(named)
        source = click.get_current_context().get_parameter_source
        if source("ray_address") is ParameterSource.COMMANDLINE:
            raise OptionError("--ray-address goes with --runner ray")
        if named is None or named.is_stdout:
            return None
        return named if named.is_folder else None

    def _spread(self, named: Place | None) -> Place:
        """The dataset that a cluster writes, whether its name says that it is one or not."""
        from mnv1cli import cluster

        cluster.require()
        if named is None or named.is_stdout:
            raise OptionError("--runner ray writes a dataset", "name its folder with -o")
        if named.is_folder:
            return named
        if named.suffix or (not named.is_remote and named.path.exists()):
            raise OptionError(
                f"--runner ray writes a dataset, and {named} is a file", f"name a folder: {named}/"
            )
        return Place(f"{named}/")

    def _fill(
        self,
        place: Place,
        task: Task,
        options: OutputOptions,
        listing: Listing,
        labels: Path | None,
        progress: TextIO | None,
    ) -> NoReturn:
        """Put the rows of the images that a dataset lacks into it."""
        from mnv1cli.depot import Depot
        from mnv1cli.tally import Tally

        depot = Depot(place, task, options)
        listing.require_images()
        job = self.reading.classifier(labels, progress, depot.engine_left()).job(task)
        tally = Tally(progress)
        refs = depot.refs(listing, job.metadata(tally))
        self._export(job, refs, depot.dataset, tally)
        depot.finish(job.metadata(tally), tally.faults)
        for folder in listing.empty:
            console.log.warning("no images in %s", display_path(folder))
        if depot.passed and not tally.done and not tally.failed:
            console.log.info("%s is complete: nothing is left to do", place)
        else:
            note = depot.note() + listing.skipped_note()
            console.log.info("%s%s, in %s", tally.summary(), note, place)
        raise SystemExit(tally.exit_code)

    def _export(self, job: Job, refs: Iterable[ImageRef], dataset: Dataset, tally: Tally) -> None:
        """Do the job where it was asked for."""
        if self.runner == "ray":
            from mnv1cli.rayrun import export_ray

            threads = self.reading.threads
            export_ray(job, refs, dataset, tally, self.on_error, self.ray_address, threads)
        else:
            from mnv1cli.gather import export_dataset

            export_dataset(job, refs, dataset, tally, self.on_error)

    def _delivery(self) -> Delivery:
        from mnv1cli.uploads import Delivery

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
        if self.append and self.output is None and not isinstance(skipped, Place):
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
        )


def reading_command(function: F) -> F:
    """Give a command the options of reading images, folded into `reading`."""
    return _folding(function, Reading, "reading", READING_OPTIONS)


def image_command(function: F) -> F:
    """Give a command the options of reading images and writing results, folded into `run`."""
    return reading_command(_folding(function, ImageRun, "run", WRITING_OPTIONS))


def _folding(function: F, kind: Any, argument: str, options: Iterable[Any]) -> F:
    fields = [field.name for field in dataclasses.fields(kind)]

    @functools.wraps(function)
    def folded(**values: Any) -> Any:
        value = kind(**{name: values.pop(name) for name in fields})
        return function(**{argument: value}, **values)

    decorated = cast("F", folded)
    for option in reversed(tuple(options)):
        decorated = option(decorated)
    return decorated
