"""A module with its settings, from which `Classifier` is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np

from mnv1cli.errors import ImageError, ModuleError, OptionError, ResultError
from mnv1cli.inference import models
from mnv1cli.inference.job import Job, row_shape
from mnv1cli.inputs import from_python
from mnv1cli.labels import names as labels
from mnv1cli.modules.inspection import open_module
from mnv1cli.path_text import display_path
from mnv1cli.system import cpu
from mnv1cli.types import (
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
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from mnv1cli.inference.models import Model
    from mnv1cli.inputs.from_python import Sources
    from mnv1cli.modules.hub_module import HubModule, Output
    from mnv1cli.types import FloatArray, Table


class Predictor:
    """A module with its settings; gives jobs, and the tables that they make.

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
        check("preprocess", preprocess, get_args(Preprocess))
        check("decode", decode, get_args(Decode))
        check("exif", exif, (True, False))
        check("engine", engine or "litert", get_args(Engine))
        check("precision", precision, get_args(Precision))
        check("batch_size", batch_size, range(1, MAX_BATCH + 1))
        check("threads", 1 if threads is None else threads, range(1, MAX_THREADS + 1))
        check("max_pixels", max_pixels, range(1, MAX_LIMIT))
        check("max_bytes", max_bytes, range(1, MAX_LIMIT))
        name = None if module is None else os.fspath(module)
        self.module: HubModule = open_module(
            name,
            fetch or FetchOptions(offline, None, insecure, trust_module),
            image_size,
        )
        self._spec = PixelSpec(
            self.module.choose_image_size(image_size),
            preprocess,
            decode,
            exif,
            max_pixels,
            max_bytes,
        )
        self._labels = None if labels is None else Path(labels)
        self._engine, self._precision = engine, precision
        self._limit = threads
        self._threads = cpu.cores() if threads is None else threads
        self._batch_size = batch_size
        self._models: dict[str, Model] = {}

    @classmethod
    def as_for(
        cls,
        metadata: Mapping[str, Any],
        module: str | None = None,
        fetch: FetchOptions | None = None,
        threads: int | None = None,
    ) -> Self:
        """One with the settings that a result was made with, by its metadata.

        `module` says where the module is now, where it has moved.

        Raises:
            ModuleError: the module is not there any more.
            ResultError: the metadata do not tell the settings, or the module is another one.
        """
        told, names = metadata["module"], ("preprocess", "decode", "exif", "engine", "precision")
        for name, kind in (("handle", str), ("fingerprint", str), ("image_size", int)):
            if not isinstance(told.get(name), kind):
                raise ResultError(f"the metadata do not tell the module's {name}")
        for name in names:
            if name not in metadata:
                raise ResultError(f"the metadata do not tell {name}")
        settings: dict[str, Any] = {name: metadata[name] for name in names}
        settings |= {"image_size": told["image_size"], "threads": threads, "fetch": fetch}
        try:
            found = cls(module or told["handle"], **settings)
        except ModuleError as error:
            if module is not None:
                raise
            remedy = "--module says where the module of these features is now"
            raise ModuleError(error.what, remedy) from error
        if found.module.fingerprint != told["fingerprint"]:
            raise ResultError(
                f"module {found.module.handle} is another than the result was made with",
                f"name that with the fingerprint {told['fingerprint'][:12]}... with --module",
            )
        return found

    def job(self, task: Task) -> Job:
        """The plan for a task: output, model, class names.

        Raises:
            SignatureError: the module lacks the signature or the endpoint.
            LabelsError: the class names do not fit the module.
        """
        output = self._output(task)
        shape = row_shape(self.module, output, task)
        names: tuple[labels.ClassName, ...] = ()
        if task.command == "classify":
            names = labels.labels_for(shape[0], self._labels, self.module.path)
            shape = (min(task.top, shape[0]),)
        return Job(
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
            self._models[output.name] = models.open_model(
                self.module, [output], self._threads, self._engine, self._precision
            )
        return self._models[output.name]

    def _tables(self, job: Job, images: Sources, on_error: OnError) -> Iterator[Table]:
        check("on_error", on_error, get_args(OnError))
        for table in job.tables(from_python.refs(images)):
            if on_error == "fail" and any(table.errors):
                path, reason = next(
                    (path, error)
                    for path, error in zip(table.paths, table.errors, strict=True)
                    if error
                )
                raise ImageError(f"{display_path(path)}: {reason}" if path else reason)
            yield table.without_faults() if on_error == "skip" else table

    def _stacked(self, job: Job, images: Sources, on_error: OnError) -> FloatArray:
        parts = [t.values for t in self._tables(job, images, on_error) if t.values is not None]
        return np.concatenate(parts) if parts else np.empty((0, *job.shape), np.float32)


def check(name: str, value: object, known: Collection[object]) -> None:
    """Refuse a setting that would otherwise be taken for another one."""
    if not isinstance(value, str | int) or value not in known:
        choice = f"{known[0]} to {known[-1]}" if isinstance(known, range) else list(known)
        raise OptionError(f"{name}={value!r} is unknown", f"it is one of {choice}")
