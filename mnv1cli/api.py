"""What a Python user holds: a `Classifier`. The commands are thin over it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mnv1cli import arguments, compiled, labels, machine, results
from mnv1cli import engine as loop
from mnv1cli.errors import ImageError, OptionError
from mnv1cli.inputs import Listing
from mnv1cli.module import open_module
from mnv1cli.records import (
    DEFAULT_BATCH,
    MAX_BATCH,
    MAX_BYTES,
    MAX_LIMIT,
    MAX_PIXELS,
    MAX_THREADS,
    Decode,
    Engine,
    FetchOptions,
    OnError,
    PixelSpec,
    Precision,
    Preprocess,
    Task,
    TuneOptions,
    display_path,
)
from mnv1cli.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from mnv1cli.arguments import Sources
    from mnv1cli.compiled import Model
    from mnv1cli.finetune import Tuned
    from mnv1cli.hubmodule import HubModule, Output
    from mnv1cli.quantize import Price
    from mnv1cli.records import FloatArray, Table
    from mnv1cli.results import Classified, Vector
    from mnv1cli.target import Target


class Classifier:
    """A module with its settings, loaded once and used many times.

    Images are paths, folders (walked as on the command line), PIL images or
    uint8 arrays [h, w], [h, w, 3] or [h, w, 4]; one of them or an iterable of
    them. `on_error` is "fail" (raise `ImageError`), "skip", or "row" (keep its
    place, with an `error`).

    Args:
        module: a directory, a `.tar.gz`, a handle, a family name, "hub" or
            "bundled"; None for the hub's module if it is cached, else bundled.
        preprocess: "slim", "squash", "square" or "pad".
        decode: "scaled" decodes large JPEGs at a fraction, "full" does not.
        exif: whether the EXIF orientation is applied.
        image_size: for modules that do not tell it themselves.
        labels: a file of class names, for modules with other classes.
        engine: "litert" (the module compiled, the default where it is installed)
            or "tf" (the module as it is).
        precision: "float32", or "int8" for a module that was calibrated.
        threads: the cores to use; None for all that the process may use.
        batch_size: how many images go through the model at once.
        max_pixels: larger images are refused, by what their headers claim.
        max_bytes: so are larger files.
        offline: never open a connection; so does MNV1_OFFLINE=1.
        insecure: take modules over plain http though no checksum is known.
        trust_module: take modules that do more than compute, as programs do.
        fetch: the last three in one, with a stream for a bar.

    Raises:
        ModuleError: there is no such module, or it cannot be used.
    """

    def __init__(
        self,
        module: str | os.PathLike[str] | None = None,
        *,
        preprocess: Preprocess = "slim",
        decode: Decode = "scaled",
        exif: bool = True,
        image_size: int | None = None,
        labels: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        precision: Precision = "float32",
        threads: int | None = None,
        batch_size: int = DEFAULT_BATCH,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        offline: bool = False,
        insecure: bool = False,
        trust_module: bool = False,
        fetch: FetchOptions | None = None,
    ) -> None:
        arguments.check("preprocess", preprocess, get_args(Preprocess))
        arguments.check("decode", decode, get_args(Decode))
        arguments.check("exif", exif, (True, False))
        arguments.check("engine", engine or "litert", get_args(Engine))
        arguments.check("precision", precision, get_args(Precision))
        arguments.check("batch_size", batch_size, range(1, MAX_BATCH + 1))
        arguments.check("threads", 1 if threads is None else threads, range(1, MAX_THREADS + 1))
        arguments.check("max_pixels", max_pixels, range(1, MAX_LIMIT))
        arguments.check("max_bytes", max_bytes, range(1, MAX_LIMIT))
        name = None if module is None else os.fspath(module)
        self.module: HubModule = open_module(
            name,
            fetch or FetchOptions(offline, None, insecure, trust_module),
            image_size,
        )
        self._spec = PixelSpec(
            self.module.settled_image_size(image_size),
            preprocess,
            decode,
            exif,
            max_pixels,
            max_bytes,
        )
        self._labels = None if labels is None else Path(labels)
        self._engine, self._precision = engine, precision
        self._threads = machine.cores() if threads is None else threads
        self._batch_size = batch_size
        self._models: dict[str, Model] = {}

    def classify(
        self,
        images: Sources,
        top: int = 5,
        on_error: OnError = "fail",
        min_probability: float = 0.0,
    ) -> list[Classified]:
        """The `top` labels of every image that are at least so probable."""
        return list(self.iter_classify(images, top, on_error, min_probability))

    def logits(
        self, images: Sources, probabilities: bool = False, on_error: OnError = "fail"
    ) -> FloatArray:
        """The scores of every image, float32 [n, classes]; NaN rows with on_error="row"."""
        return self._stacked(Task("logits", probabilities=probabilities), images, on_error)

    def embed(
        self,
        images: Sources,
        endpoint: str = "",
        pool: bool = True,
        on_error: OnError = "fail",
    ) -> FloatArray:
        """The feature vector of every image, float32 [n, features].

        `endpoint` names another layer; it is averaged over height and width
        unless `pool` is false, which gives [n, h, w, c].
        """
        return self._stacked(Task("embed", endpoint=endpoint, pool=pool), images, on_error)

    def iter_classify(
        self,
        images: Sources,
        top: int = 5,
        on_error: OnError = "fail",
        min_probability: float = 0.0,
    ) -> Iterator[Classified]:
        """As `classify`, one image after the other, in flat memory."""
        if top < 1 or not 0 <= min_probability <= 1:
            raise OptionError(f"top={top} and min_probability={min_probability} make no sense")
        task = Task("classify", top=top, min_probability=min_probability)
        yield from results.classified(self._tables(self.job(task), images, on_error))

    def iter_logits(
        self, images: Sources, probabilities: bool = False, on_error: OnError = "fail"
    ) -> Iterator[Vector]:
        """As `logits`, one image after the other, in flat memory."""
        job = self.job(Task("logits", probabilities=probabilities))
        return results.vectors(self._tables(job, images, on_error))

    def iter_embed(
        self,
        images: Sources,
        endpoint: str = "",
        pool: bool = True,
        on_error: OnError = "fail",
    ) -> Iterator[Vector]:
        """As `embed`, one image after the other, in flat memory."""
        job = self.job(Task("embed", endpoint=endpoint, pool=pool))
        return results.vectors(self._tables(job, images, on_error))

    def export(
        self, listing: Listing, task: Task, target: Target, progress: TextIO | None = None
    ) -> Tally:
        """Do `task` for every image of `listing`, write it to `target`, and count it.

        A bar on the stream `progress` shows how far it is.
        """
        job = self.job(task)
        tally = Tally(progress)
        loop.export(job, listing, target, tally)
        return tally

    def quantize(
        self, images: Sources | Listing, samples: int = 200, seed: int = 0, endpoint: str = ""
    ) -> Price:
        """Calibrate the module for int8 on some of the images; what that costs on others.

        `endpoint` names another layer than logits and feature vector.
        """
        from mnv1cli.quantize import quantize

        outputs = [self.module.endpoint(endpoint)] if endpoint else self.module.main_outputs()
        refs = images if isinstance(images, Listing) else arguments.refs(images)
        return quantize(self.module, outputs, refs, self._spec, samples, seed, self._threads)

    def finetune(self, folder: str | Path, output: str | Path, **options: Any) -> Tuned:
        """Train the module for the classes that `folder` has folders of, and write it to `output`.

        `options` are those of `TuneOptions`, and `progress`, a stream for a bar.
        """
        from mnv1cli.finetune import finetune

        how = (self._threads, self._engine, options.pop("progress", None))
        tuning = TuneOptions(**options)
        return finetune(self.module, Path(folder), Path(output), self._spec, tuning, *how)

    def job(self, task: Task) -> loop.Job:
        """The plan for a task: output, model, class names.

        Raises:
            SignatureError: the module lacks the signature or the endpoint.
            LabelsError: the class names do not fit the module.
        """
        output = self._output(task)
        shape = loop.row_shape(self.module, output, task)
        names: tuple[labels.ClassName, ...] = ()
        if task.command == "classify":
            names = labels.labels_for(shape[0], self._labels, self.module.path)
            shape = (min(task.top, shape[0]),)
        return loop.Job(
            module=self.module,
            model=self._model(output),
            spec=self._spec,
            task=task,
            output=output.name,
            shape=shape,
            names=names,
            batch_size=self._batch_size,
            threads=self._threads,
        )

    def _output(self, task: Task) -> Output:
        if task.command != "embed":
            return self.module.logits()
        return self.module.endpoint(task.endpoint) if task.endpoint else self.module.features()

    def _model(self, output: Output) -> Model:
        if output.name not in self._models:
            self._models[output.name] = compiled.open_model(
                self.module, [output], self._threads, self._engine, self._precision
            )
        return self._models[output.name]

    def _tables(self, job: loop.Job, images: Sources, on_error: OnError) -> Iterator[Table]:
        arguments.check("on_error", on_error, get_args(OnError))
        for table in job.tables(arguments.refs(images)):
            if on_error == "fail" and any(table.errors):
                path, reason = next(
                    (path, error)
                    for path, error in zip(table.paths, table.errors, strict=True)
                    if error
                )
                raise ImageError(f"{display_path(path)}: {reason}" if path else reason)
            yield table.without_faults() if on_error == "skip" else table

    def _stacked(self, task: Task, images: Sources, on_error: OnError) -> FloatArray:
        job = self.job(task)
        parts = [t.values for t in self._tables(job, images, on_error) if t.values is not None]
        return np.concatenate(parts) if parts else np.empty((0, *job.shape), np.float32)
