"""A job: everything that decides the results of images, and the results themselves."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli._version import __version__
from mnv1cli.errors import ModuleError
from mnv1cli.images import loader
from mnv1cli.inference import tf_data
from mnv1cli.inference.ranking import rank_classes, softmax
from mnv1cli.labels.names import compute_digest, imagenet
from mnv1cli.results.metadata import RunMetadata
from mnv1cli.system.threads import ordered_map
from mnv1cli.types import DEFAULT_DEVICE, Table, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.inference.models import Model
    from mnv1cli.labels.names import ClassName
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import Batch, FloatArray, ImageRef, Loader, PixelSpec, Prediction


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides the results of images.

    Attributes:
        module: the module.
        model: the module made ready to give `output`.
        spec: how files become pixels.
        task: what is wanted of each image.
        output: the name of the module's output.
        shape: the shape of one image's results: (k,) for the k labels of `classify`.
        batch_size: the number of images that go through the model at once.
        threads: the number of cores to use.
        loader: what decodes: threads of this program, or tf.data; both give the same bits.
        names: the names of the classes for `classify`, else empty.
        gives_probabilities: the scores of the module are probabilities, not logits.
    """

    module: HubModule
    model: Model
    spec: PixelSpec
    task: Task
    output: str
    shape: tuple[int, ...]
    batch_size: int
    threads: int
    loader: Loader = "threads"
    names: tuple[ClassName, ...] = ()
    gives_probabilities: bool = False

    def compute_tables(self, refs: Iterable[ImageRef]) -> Iterator[Table]:
        """Compute the results for every image, a table per batch, in the order of `refs`.

        Each of the threads decodes a batch and infers it itself, while its pixels are in the
        cache of a core; of tf.data the batches come decoded.
        """
        size, with_info = self.batch_size, self.task.meta
        if self.loader == "tf.data":
            batches = tf_data.load_batches(refs, self.spec, size, self.threads, with_info)
            return ordered_map(self._compute_table, batches, self.model.workers)
        buffer = loader.PixelBuffer()
        turns = threading.Semaphore(self.model.workers)

        def compute(chunk: Sequence[ImageRef]) -> Table:
            batch = loader.load_batch(chunk, self.spec, with_info, buffer, self.threads)
            with turns:
                return self._compute_table(batch)

        chunks = loader.split_refs(refs, self.spec, size, self.threads)
        return ordered_map(compute, chunks, self.threads, ahead=self.threads)

    def _compute_table(self, batch: Batch) -> Table:
        if self.task.command == "classify":
            predictions = self._rank(batch)
            return Table(
                batch.paths,
                batch.reasons,
                predictions=predictions,
                image_info=batch.image_info,
                warnings=batch.warnings,
            )
        values = self._compute_values(batch)
        return Table(batch.paths, batch.reasons, values, warnings=batch.warnings)

    def metadata(self) -> RunMetadata:
        """Return the settings of a run of this job, for the readers of its result."""
        task, spec = self.task, self.spec
        own_names = bool(self.names) and self.names != imagenet()
        return RunMetadata(
            version=__version__,
            command=task.command,
            module={
                "handle": self.module.handle,
                "fingerprint": self.module.fingerprint,
                "image_size": spec.size,
            },
            engine=self.model.engine,
            precision=self.model.precision,
            device=self.model.device,
            calibrated=self.model.calibrated or None,
            recipe=self.model.recipe,
            preprocess=spec.preprocess,
            exif=spec.exif,
            decode=spec.decode,
            damaged=spec.damaged,
            output=self._output_name(),
            top=task.top,
            min_probability=task.min_probability,
            pool=task.pool,
            meta=task.meta,
            input_range=self.module.input_range,
            labels=compute_digest(self.names) if own_names else None,
        )

    def settings(self) -> dict[str, Any]:
        """Return what must be the same in a run that resumes another, by the names of options."""
        task, spec = self.task, self.spec
        return {
            "command": task.command,
            "module": self.module.fingerprint,
            "handle": self.module.handle,
            "--image-size": spec.size,
            "--engine": self.model.engine,
            "--precision": self.model.precision,
            # Not known to runs that were begun before there was a choice.
            "--device": None if self.model.device == DEFAULT_DEVICE else self.model.device,
            "calibrated": self.model.calibrated,
            "recipe": self.model.recipe,
            "--input-range": self.module.input_range.setting,
            "--preprocess": spec.preprocess,
            "--exif": spec.exif,
            "--decode": spec.decode,
            "--damaged": spec.damaged,
            "--max-pixels": spec.max_pixels,
            "--max-bytes": spec.max_bytes,
            "output": self._output_name(),
            "--pool": task.pool,
            "--top": task.top,
            "--min-probability": task.min_probability,
            "--with-meta": task.meta,
            "--labels": compute_digest(self.names),
        }

    def _output_name(self) -> str:
        """Return the name of the results: that of the output, or of what was made of it."""
        if self.gives_probabilities:
            # For labels, too: a result made of their softmax, as older versions made it, differs.
            return "probabilities"
        if self.task.command == "classify":
            return "labels"
        return "probabilities" if self.task.probabilities else self.output

    def _rank(self, batch: Batch) -> tuple[tuple[Prediction, ...], ...]:
        """Return the predictions of every image, empty where it failed."""
        task = self.task
        scores = self._run_model(batch.pixels)
        best = iter(
            rank_classes(
                scores, self.names, task.top, task.min_probability, self.gives_probabilities
            )
        )
        return tuple(() if reason else next(best) for reason in batch.reasons)

    def _compute_values(self, batch: Batch) -> FloatArray:
        """Return the values of every image, float32 [n, ...], NaN where it failed."""
        results = self._run_model(batch.pixels)
        if np.may_share_memory(results, batch.pixels):
            # The pixels themselves, as an endpoint; the next batch overwrites them.
            results = results.copy()
        if self.task.probabilities and not self.gives_probabilities:
            results = softmax(results).astype(np.float32)
        if self.task.pool:
            results = average_positions(results)
        if not any(batch.reasons):
            return results
        values = np.full((len(batch.paths), *self.shape), np.nan, np.float32)
        values[[not reason for reason in batch.reasons]] = results
        return values

    def _run_model(self, pixels: FloatArray) -> FloatArray:
        if len(pixels):
            return self.model(pixels)[self.output]
        classes = len(self.names)
        return np.empty((0, *((classes,) if classes else self.shape)), np.float32)


def average_positions(values: FloatArray) -> FloatArray:
    """Average the values of a layer, float32 [n, h, w, c], over height and width.

    Values [n, c] are returned as they are.
    """
    if values.ndim <= 2:
        return values
    averages: FloatArray = values.mean(axis=tuple(range(1, values.ndim - 1)), dtype=np.float32)
    return averages


def compute_row_shape(module: HubModule, output: Output, task: Task) -> tuple[int, ...]:
    """Compute the shape of one image's values for a task that takes this output.

    Raises:
        ModuleError: the module does not state it.
    """
    shape = output.result.shape[1:]
    if task.command != "embed" and len(shape) != 1:
        sides = ", ".join(["n", *map(str, shape)])
        raise ModuleError(
            f"module {module.handle} gives scores of the shape [{sides}], not [n, classes]"
        )
    if task.pool and len(shape) > 1:
        shape = shape[-1:]
    if not shape or min(shape) < 1:
        raise ModuleError(f"module {module.handle} does not state the shape of {output.name}")
    return shape
