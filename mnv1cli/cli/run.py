"""Runs of classify, logits and embed: their options as one value, and the run into its output."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click
from click.core import ParameterSource

from mnv1cli.cli import console
from mnv1cli.cli.image_options import Reading, folding, reading_command, warn_of_empty
from mnv1cli.cli.options import WRITING_OPTIONS
from mnv1cli.errors import OptionError
from mnv1cli.results.formats import FORMATS, find_format
from mnv1cli.runs.options import OutputOptions
from mnv1cli.storage.location import Location, is_same_file
from mnv1cli.storage.sources import to_result_source

if TYPE_CHECKING:
    from mnv1cli.inputs.listing import Listing
    from mnv1cli.results.files import ResultFiles
    from mnv1cli.results.protection import InputGuard
    from mnv1cli.storage.upload import Delivery
    from mnv1cli.types import OnError, Runner, Task

F = TypeVar("F", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class ImageRun:
    """A run over images: how they are read, and the values of the options of writing."""

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
        """Do the task for every image, and exit with the code of the run."""
        with (
            console.session(self.quiet, self.verbose) as stream,
            contextlib.closing(self.reading.listing()) as listing,
        ):
            progress = console.progress(stream, self.quiet)
            dataset = self._dataset()
            if dataset is not None:
                options = self._options(wide)
                self._write_dataset(task, dataset, options, listing, labels, progress)
            with self._delivery() as delivery:
                options = self._options(wide, delivery.file)
                self._write_file(task, options, delivery, listing, labels, progress)

    def _write_file(
        self,
        task: Task,
        options: OutputOptions,
        delivery: Delivery,
        listing: Listing,
        labels: Path | None,
        progress: TextIO | None,
    ) -> NoReturn:
        """Write a result to a file or to stdout."""
        from mnv1cli.runs import loop
        from mnv1cli.runs.existing import describe_skipped
        from mnv1cli.runs.file_sink import FileSink
        from mnv1cli.runs.tally import Tally

        stdout, terminal = console.binary_stdout(), console.stdout_is_terminal()
        with delivery.translate_errors():
            sink = FileSink(
                task, options, stdout, terminal, listing.shard_selection, delivery.is_remote
            )
        if delivery.is_remote:
            delivery.require_free(sink.files.paths, self.force)
        guard = self._guard(listing, sink.files, labels)
        listing.require_images()
        engine, made_with = sink.resume.earlier_engine(), sink.earlier_module()
        predictor = self.reading.predictor(labels, progress, engine, made_with)
        job = predictor.make_job(task)
        if sink.resume.is_complete(job, listing):
            console.log.info("%s is complete: nothing is left to do", sink.name)
            raise SystemExit(0)
        tally = Tally(progress)
        loop.run(job, guard.watch(listing), sink, tally)
        delivery.send(sink.files.paths)
        warn_of_empty(listing)
        place = f", in {delivery.name or sink.name}" if sink.options.file else ""
        note = describe_skipped(sink.earlier.skipped)
        console.log.info("%s%s%s%s", tally.summary(), note, listing.describe_skipped(), place)
        raise SystemExit(tally.exit_code)

    def _write_dataset(
        self,
        task: Task,
        dataset: Location,
        options: OutputOptions,
        listing: Listing,
        labels: Path | None,
        progress: TextIO | None,
    ) -> NoReturn:
        """Add the rows of the images that a dataset lacks, in this process or on a Ray cluster."""
        from mnv1cli.cluster.fill import fill_dataset
        from mnv1cli.runs.dataset_sink import DatasetSink

        sink = DatasetSink(dataset, task, options)
        guard = self._guard(listing, sink.files, labels)
        listing.require_images()
        engine, made_with = sink.earlier_engine(), sink.earlier_module()
        predictor = self.reading.predictor(labels, progress, engine, made_with)
        # Ray prints messages about its processes to stdout, and has no setting against it.
        with contextlib.redirect_stdout(sys.stderr):
            tally = fill_dataset(
                predictor, task, guard.watch(listing), sink, self.runner, self.ray_address, progress
            )
        warn_of_empty(listing)
        if sink.skipped and not tally.done and not tally.failed:
            console.log.info("%s is complete: nothing is left to do", dataset)
        else:
            note = sink.describe_skipped() + listing.describe_skipped()
            console.log.info("%s%s, in %s", tally.summary(), note, dataset)
        raise SystemExit(tally.exit_code)

    def _guard(self, listing: Listing, files: ResultFiles, labels: Path | None) -> InputGuard:
        """Refuse to replace what the run reads, as far as the options name it."""
        from mnv1cli.results.protection import InputGuard

        guard = InputGuard(files.paths)
        skipped, module = self.skip_existing, self.reading.module
        guard.check(*listing.files, labels, None if module is None else Path(module))
        if (
            skipped is not None
            and not skipped.is_remote
            and not is_same_file(skipped.path, files.main)
        ):
            guard.check(skipped.path)
        return guard

    def _dataset(self) -> Location | None:
        """Return the dataset to write; None where the output is a file or stdout."""
        output = self.skip_existing if self.append and self.output is None else self.output
        if self.runner == "ray":
            return _require_dataset(output)
        origin = click.get_current_context().get_parameter_source("ray_address")
        if origin is ParameterSource.COMMANDLINE:
            raise OptionError("--ray-address can only be used with --runner ray")
        if output is None or output.is_stdout:
            return None
        return output if output.is_folder else None

    def _delivery(self) -> Delivery:
        from mnv1cli.storage.upload import Delivery

        earlier, output = self.skip_existing, self.output
        continued = output if self.resume or self.append or output == earlier else None
        if self.append and output is None:
            continued = earlier
        if continued is not None and continued.is_remote:
            option = "--resume" if self.resume else "--append" if self.append else "--skip-existing"
            raise OptionError(
                f"{option} cannot be used with {continued}: an object in a store is written "
                "from the start",
                "write to a local file, or to a dataset (-o NAME/)",
            )
        return Delivery(self.output)

    def _options(self, wide: bool, file: Path | None = None) -> OutputOptions:
        if self.force and self.resume:
            raise OptionError("--force cannot be used with --resume", "give one of them")
        skipped = to_result_source(self.skip_existing) if self.skip_existing is not None else None
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


def _require_dataset(output: Location | None) -> Location:
    """Return the dataset that a cluster writes; its name need not say that it is one.

    Raises:
        OptionError: the output is not a dataset, or Ray is not installed.
    """
    from mnv1cli.cluster import ray_cluster

    ray_cluster.require()
    if output is None or output.is_stdout:
        raise OptionError("--runner ray writes a dataset", "name its folder with -o")
    if output.is_folder:
        return output
    # Users of Spark may name a folder labels.parquet.
    names_file = find_format(output.suffix) not in (None, FORMATS["parquet"])
    if names_file or (not output.is_remote and output.path.exists()):
        raise OptionError(
            f"--runner ray writes a dataset, and {output} is a file", f"name a folder: {output}/"
        )
    return Location(f"{output}/")


def image_command(function: F) -> F:
    """Give a command the options of reading images and of writing results, folded into `run`."""
    return reading_command(folding(function, ImageRun, "run", WRITING_OPTIONS))
