"""The one loop: images in, tables of results out, to a writer and a tally."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli import __version__, inputs, labels, loading
from mnv1cli.errors import BadImageError, Mnv1Error, ModuleError, OptionError, OutputError
from mnv1cli.ordered import ordered_map
from mnv1cli.records import Layout, Table, display_path
from mnv1cli.writers import choose_format
from mnv1cli.writers.delimited import encode_rows, text
from mnv1cli.writers.jsonl import path_fields
from mnv1cli.writers.outputs import Outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from mnv1cli.compiled import Model
    from mnv1cli.hubmodule import HubModule, Output
    from mnv1cli.labels import ClassName
    from mnv1cli.records import (
        Batch,
        Fault,
        FloatArray,
        ImageRef,
        OutputOptions,
        PixelSpec,
        Prediction,
        Task,
    )
    from mnv1cli.tally import Tally
    from mnv1cli.writers import Writer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides the results: module, model, pixels, task.

    `shape` is that of one image's results, `names` the classes' for `classify`.
    """

    module: HubModule
    model: Model
    spec: PixelSpec
    task: Task
    output: str
    shape: tuple[int, ...]
    batch_size: int
    threads: int
    names: tuple[ClassName, ...] = ()

    def tables(self, refs: Iterable[ImageRef]) -> Iterator[Table]:
        """Results for every image, a table a batch, in the order of `refs`."""
        batches = loading.batches(refs, self.spec, self.batch_size, self.threads)
        return ordered_map(self._table, batches, self.model.workers)

    def _table(self, batch: Batch) -> Table:
        if self.task.command == "classify":
            return Table(batch.paths, batch.reasons, predictions=self._ranked(batch))
        return Table(batch.paths, batch.reasons, values=self._values(batch))

    def metadata(self, tally: Tally) -> dict[str, Any]:
        """What a result's reader has to know of how it came about."""
        return {
            "version": __version__,
            "command": self.task.command,
            "module": {
                "handle": self.module.handle,
                "fingerprint": self.module.fingerprint,
                "image_size": self.spec.size,
            },
            "engine": self.model.engine,
            "precision": self.model.precision,
            **({"calibrated": self.model.calibrated} if self.model.calibrated else {}),
            "preprocess": self.spec.preprocess,
            "exif": self.spec.exif,
            "decode": self.spec.decode,
            "output": self._output_name(),
            "counts": {"done": tally.done, "failed": tally.failed},
            "seconds": round(tally.seconds, 3),
            "failures": [
                {**path_fields(fault.path), "reason": fault.reason} for fault in tally.faults
            ],
        }

    def _output_name(self) -> str:
        """What the results are of: the model's output, or what was made of it."""
        if self.task.command == "classify":
            return "labels"
        return "probabilities" if self.task.probabilities else self.output

    def _ranked(self, batch: Batch) -> tuple[tuple[Prediction, ...], ...]:
        """Predictions in every image's place, none where it failed."""
        task = self.task
        logits = self._results(batch.pixels)
        best = iter(labels.top_k(logits, self.names, task.top, task.min_probability))
        return tuple(() if reason else next(best) for reason in batch.reasons)

    def _values(self, batch: Batch) -> FloatArray:
        """Values in every image's place, NaN where it failed."""
        results = self._results(batch.pixels)
        if self.task.probabilities:
            results = labels.softmax(results).astype(np.float32)
        if self.task.pool and results.ndim > 2:
            results = results.mean(axis=tuple(range(1, results.ndim - 1)), dtype=np.float32)
        if not any(batch.reasons):
            return results
        values = np.full((len(batch.paths), *self.shape), np.nan, np.float32)
        values[[not reason for reason in batch.reasons]] = results
        return values

    def _results(self, pixels: FloatArray) -> FloatArray:
        if len(pixels):
            return self.model(pixels)[self.output]
        classes = len(self.names)
        return np.empty((0, *((classes,) if classes else self.shape)), np.float32)


def row_shape(found: HubModule, output: Output, task: Task) -> tuple[int, ...]:
    """The shape of one image's results for a task that takes this output."""
    shape = output.result.shape[1:]
    if task.pool and len(shape) > 1:
        shape = shape[-1:]
    if not shape or min(shape) < 1:
        raise ModuleError(f"module {found.handle} does not tell the shape of {output.name}")
    return shape


class Target:
    """Where a run's results go: the files and the format, checked before any work.

    Raises:
        OptionError: the format does not suit the task or the file.
        OutputError: a file exists, or cannot be written.
    """

    def __init__(
        self, task: Task, options: OutputOptions, stdout: BinaryIO | None, terminal: bool = False
    ) -> None:
        if options.file is not None:
            _refuse_image_name(options.file)
        self.options = options
        self._format = choose_format(
            options.format, options.file, task, terminal and not options.wide
        )
        if options.wide and self._format.name not in ("csv", "tsv"):
            raise OptionError(f"--wide is for csv and tsv, not for {self._format.name}")
        others = (options.errors, options.manifest)
        sidecars = self._format.sidecars
        with_meta = not self._format.holds_metadata
        self.outputs = Outputs(options.file, stdout, sidecars, others, options.force, with_meta)
        self._labels = task.command == "classify"

    def writer(self, shape: tuple[int, ...]) -> Writer:
        """Begin the result."""
        options = self.options
        layout = Layout(shape, self._labels, options.on_error == "row", options.wide)
        return self._format.create(self.outputs, layout)

    def fault_file(self) -> BinaryIO | None:
        """Begin the file of faults, where one is wanted."""
        if self.options.errors is None:
            return None
        file = self.outputs.open(self.options.errors)
        file.write(encode_rows([("path", "reason")]))
        return file

    def finish(self, metadata: dict[str, Any]) -> None:
        """Write the metadata and give every file its name."""
        for path in (self.outputs.meta, self.options.manifest):
            if path is not None:
                self.outputs.write_json(path, metadata)
        self.outputs.commit()


def _refuse_image_name(file: Path) -> None:
    """Keep results out of photos, whether by a slip or by `-f csv *.jpg` with a file `-o.jpg`."""
    suffix = os.fsencode(file.name).lower().rpartition(b".")[2]
    if suffix in inputs.SUFFIXES:
        raise OptionError(f"{file} is the name of an image", "results need another")


def export(job: Job, refs: Iterable[ImageRef], target: Target, tally: Tally) -> None:
    """Run a job over images and write the results.

    Raises:
        BadImageError: an image failed and the target's `on_error` is "fail".
        OutputError: the disk is full, or gone.
        BrokenPipeError: nobody reads stdout any more.
    """
    try:
        with _writing(target):
            writer = target.writer(job.shape)
            fault_file = target.fault_file()
            target.outputs.flush()
        metadata = None
        try:
            for batch in job.tables(refs):
                table = _until_fault(batch) if target.options.on_error == "fail" else batch
                faults = tally.add(table)
                with _writing(target), tally.hidden():
                    _write(table, faults, writer, fault_file, target)
            metadata = job.metadata(tally)
        finally:
            tally.close()
            with _writing(target):
                writer.close(metadata)
        with _writing(target):
            target.finish(metadata)
    except BaseException as error:
        keep = bool(tally.done or tally.failed)
        target.outputs.abandon(keep)
        if keep and target.options.file is not None:
            # A disk that is full has not taken all that was counted.
            done = "what could be written" if isinstance(error, OutputError) else tally.images
            log.error("done so far: %s, in %s.part", done, target.outputs.name)
        raise


def _write(
    table: Table, faults: list[Fault], writer: Writer, fault_file: BinaryIO | None, target: Target
) -> None:
    """Write one table, and treat the images that failed as the target says."""
    on_error = target.options.on_error
    writer.write(without_faults(table) if faults and on_error != "row" else table)
    target.outputs.flush()
    if fault_file is not None:
        fault_file.write(encode_rows([text(fault.path), fault.reason] for fault in faults))
    if faults and on_error == "fail":
        path = display_path(faults[0].path)
        raise BadImageError(f"stopped at {path}", "--on-error skip goes on after it")


@contextlib.contextmanager
def _writing(target: Target) -> Iterator[None]:
    """Tell a failure to write from every other one."""
    try:
        yield
    except (BrokenPipeError, Mnv1Error):
        raise
    except OSError as error:
        raise OutputError(f"cannot write {target.outputs.name}: {error.strerror}") from error


def without_faults(table: Table) -> Table:
    """The table without the images that failed."""
    return _chosen(table, [not error for error in table.errors])


def _until_fault(table: Table) -> Table:
    """The table up to its first image that failed, which stays."""
    first = next((i for i, error in enumerate(table.errors) if error), len(table.errors))
    return _chosen(table, [i <= first for i in range(len(table.errors))])


def _chosen(table: Table, chosen: list[bool]) -> Table:
    return Table(
        paths=tuple(compress(table.paths, chosen)),
        errors=tuple(compress(table.errors, chosen)),
        values=None if table.values is None else table.values[chosen],
        predictions=tuple(compress(table.predictions, chosen)),
    )
