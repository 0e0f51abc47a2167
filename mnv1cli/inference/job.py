"""What is to be done with images: the module, the model, the pixels and the task."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli._version import __version__
from mnv1cli.errors import ModuleError
from mnv1cli.images import loader
from mnv1cli.images.info import read_info
from mnv1cli.inference import ranking
from mnv1cli.inputs import prefetch
from mnv1cli.labels import names as labels
from mnv1cli.results.metadata import RunMetadata
from mnv1cli.system.threads import ordered_map
from mnv1cli.types import ImageInfo, Table, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.inference.models import Model
    from mnv1cli.labels.names import ClassName
    from mnv1cli.modules.hub_module import HubModule, Output
    from mnv1cli.types import Batch, FloatArray, ImageRef, PixelSpec, Prediction


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
        if self.task.meta:
            return self._tables_with_info(refs)
        batches = loader.load_batches(refs, self.spec, self.batch_size, self.threads)
        return ordered_map(self._table, batches, self.model.workers)

    def _tables_with_info(self, refs: Iterable[ImageRef]) -> Iterator[Table]:
        """The same, with what the headers of the files say, which are read once more for it."""
        under_way: deque[ImageRef] = deque()

        def remembered() -> Iterator[ImageRef]:
            for ref in prefetch.ahead(refs, self.spec.max_bytes, twice=True):
                under_way.append(ref)
                yield ref

        def told(pair: tuple[Batch, list[ImageRef]]) -> Table:
            batch, those = pair
            image_info = tuple(
                ImageInfo() if reason else read_info(ref, self.spec)
                for ref, reason in zip(those, batch.reasons, strict=True)
            )
            return replace(self._table(batch), image_info=image_info)

        batches = loader.load_batches(remembered(), self.spec, self.batch_size, self.threads)
        pairs = ((batch, [under_way.popleft() for _ in batch.paths]) for batch in batches)
        return ordered_map(told, pairs, self.model.workers)

    def _table(self, batch: Batch) -> Table:
        if self.task.command == "classify":
            return Table(batch.paths, batch.reasons, predictions=self._ranked(batch))
        return Table(batch.paths, batch.reasons, values=self._values(batch))

    def metadata(self) -> RunMetadata:
        """Return the settings of a run of this job, for the readers of its result."""
        task, spec = self.task, self.spec
        own_names = bool(self.names) and self.names != labels.imagenet()
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
            calibrated=self.model.calibrated or None,
            preprocess=spec.preprocess,
            exif=spec.exif,
            decode=spec.decode,
            output=self._output_name(),
            top=task.top,
            min_probability=task.min_probability,
            pool=task.pool,
            meta=task.meta,
            labels=labels.digest(self.names) if own_names else None,
        )

    def settings(self) -> dict[str, Any]:
        """What must be the same in a run that goes on with another, by names that people know."""
        task, spec = self.task, self.spec
        return {
            "command": task.command,
            "module": self.module.fingerprint,
            "--image-size": spec.size,
            "--engine": self.model.engine,
            "--precision": self.model.precision,
            "calibrated": self.model.calibrated,
            "--preprocess": spec.preprocess,
            "--exif": spec.exif,
            "--decode": spec.decode,
            "--max-pixels": spec.max_pixels,
            "--max-bytes": spec.max_bytes,
            "output": self._output_name(),
            "--pool": task.pool,
            "--top": task.top,
            "--min-probability": task.min_probability,
            "--with-meta": task.meta,
            "--labels": labels.digest(self.names),
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
        best = iter(ranking.top_k(logits, self.names, task.top, task.min_probability))
        return tuple(() if reason else next(best) for reason in batch.reasons)

    def _values(self, batch: Batch) -> FloatArray:
        """Values in every image's place, NaN where it failed."""
        results = self._results(batch.pixels)
        if self.task.probabilities:
            results = ranking.softmax(results).astype(np.float32)
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
