"""A module with its settings, ready to be run over images."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from mnv1cli.errors import ImageError, SignatureError
from mnv1cli.inference.arguments import check_choice, take_path
from mnv1cli.inference.image_input import settle_image_size
from mnv1cli.inference.job import Job, compute_row_shape
from mnv1cli.inference.models import open_model
from mnv1cli.inference.probe import gives_probabilities, read_outcome
from mnv1cli.inference.settings import Settings
from mnv1cli.inputs import from_python
from mnv1cli.labels.names import choose_labels, imagenet_without_background
from mnv1cli.modules.inspection import open_module
from mnv1cli.path_text import display_path
from mnv1cli.types import OnError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.inference.models import Model
    from mnv1cli.inputs.from_python import ImageInputs
    from mnv1cli.labels.names import ClassName
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import FloatArray, ImageRef, Table, Task

# The environment variable that names the module where nothing else does.
MODULE_VARIABLE = "MNV1_MODULE"


log = logging.getLogger(__name__)


class Predictor:
    """A module with its settings; makes jobs, and runs them over images.

    Args:
        module: a directory, an archive, a handle, a family name, "hub" or "bundled"; None for
            the one that MNV1_MODULE names, else the module on TensorFlow Hub if it is in the cache
            or can be fetched, else the bundled one.
        settings: the settings; None for the defaults.

    Attributes:
        module: the module.
        settings: its settings.
        is_default: True where no module was named.
        spec: how files become the module's pixels.
        threads: the number of cores in use.

    Raises:
        ModuleError: there is no such module, or it cannot be used.
    """

    def __init__(
        self, module: str | os.PathLike[str] | None = None, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        name = choose_module_name(module)
        self.is_default = name is None
        size = self.settings.image_size
        opened = open_module(name, self.settings.fetch, size)
        settled_module, settled = settle_image_size(opened, size)
        self.module: HubModule = replace(settled_module, input_range=self.settings.input_range)
        self.spec = self.settings.pixel_spec(settled)
        self.threads = self.settings.cores
        self._models: dict[str, Model] = {}

    def make_facts(self) -> dict[str, Any]:
        """Return what the metadata of a result say about the module."""
        return {
            "handle": self.module.handle,
            "fingerprint": self.module.fingerprint,
            "image_size": self.spec.size,
        }

    def make_job(self, task: Task, names: tuple[ClassName, ...] = ()) -> Job:
        """Return the job for a task: its output, model and class names.

        `names` are those of an earlier job for the same module; without them they are chosen.

        Raises:
            SignatureError: the module lacks the signature or the endpoint, or gives
                probabilities where logits are wanted.
            LabelsError: the class names do not fit the module.
        """
        output = self._choose_output(task)
        if not _states_shape(output, task):
            output = self.measure_shape(output)
        shape = compute_row_shape(self.module, output, task)
        if task.command == "classify":
            names = names or self.choose_names(shape[0])
            shape = (min(task.top, shape[0]),)
        model = self._open_model(output)
        probabilities = task.command != "embed" and self._probe(output)
        if probabilities and task.command == "logits" and not task.probabilities:
            raise SignatureError(
                f"module {self.module.handle} gives probabilities, not logits",
                "'mnv1 classify' or 'mnv1 logits --probabilities' gives them",
            )
        return Job(
            module=self.module,
            model=model,
            spec=self.spec,
            task=task,
            output=output.name,
            shape=shape,
            names=names,
            gives_probabilities=probabilities,
            batch_size=self.settings.batch_size,
            threads=self.threads,
            loader=self.settings.loader or ("tf.data" if model.engine == "tf" else "threads"),
        )

    def predict(
        self, task: Task, images: ImageInputs, on_error: OnError = "fail"
    ) -> Iterator[Table]:
        """Return the results for every image, a table per batch, in the order of the images.

        Raises:
            ImageError: an image cannot be used and `on_error` is "fail"; names its path.
            OptionError: `images` or `on_error` is of a wrong type.
        """
        refs = self._make_refs(images, on_error)
        return _handle_errors(self.make_job(task).compute_tables(refs), on_error)

    def predict_array(
        self, task: Task, images: ImageInputs, on_error: OnError = "fail"
    ) -> FloatArray:
        """Return the values of every image, float32 [n, ...], for a task other than `classify`.

        Rows of images that failed are NaN where `on_error` is "row", and left out where it is
        "skip".

        Raises:
            ImageError: an image cannot be used and `on_error` is "fail"; names its path.
            OptionError: `images` or `on_error` is of a wrong type.
        """
        refs = self._make_refs(images, on_error)
        job = self.make_job(task)
        tables = _handle_errors(job.compute_tables(refs), on_error)
        parts = [table.values for table in tables if table.values is not None]
        return np.concatenate(parts) if parts else np.empty((0, *job.shape), np.float32)

    def _make_refs(self, images: ImageInputs, on_error: OnError) -> Iterator[ImageRef]:
        """Check the arguments, before the module is compiled, and make refs of the images."""
        check_choice("on_error", on_error, get_args(OnError))
        return from_python.make_refs(images, self.spec.max_bytes)

    def _choose_output(self, task: Task) -> Output:
        if task.command != "embed":
            return self.module.logits()
        return self.module.endpoint(task.endpoint) if task.endpoint else self.module.features()

    def gives_probabilities(self) -> bool:
        """Return whether the scores of the module are probabilities, and not logits.

        Raises:
            SignatureError: the module has no scores.
        """
        return self._probe(self.module.logits())

    def choose_names(self, classes: int) -> tuple[ClassName, ...]:
        """Choose the names of so many classes: those of the settings, else the module's own.

        Raises:
            LabelsError: the number of names is not that of the classes.
        """
        names = choose_labels(classes, self.settings.labels, self.module.labels_path)
        if names is imagenet_without_background():
            log.warning(
                "module %s has %d classes: they get ImageNet's names in their usual order, "
                "without the background",
                self.module.handle,
                classes,
            )
        return names

    def _probe(self, output: Output) -> bool:
        """Return whether an output of the module gives probabilities."""
        outcome = read_outcome(self.module, output)
        if outcome is not None:
            return outcome
        model = self._open_model(output)
        if model.precision != "float32":
            # Probabilities in int8 are multiples of 1/256, which need not sum to 1.
            model = open_model(self.module, [output], self.threads, self.settings.engine)
        return gives_probabilities(self.module, output, model)

    def measure_shape(self, output: Output) -> Output:
        """Return an output with the shape of its values, where the signature leaves that open."""
        size = self.spec.size
        blank = np.zeros((1, size, size, 3), np.float32)
        shape = self._open_model(output)(blank)[output.name].shape
        return replace(output, result=replace(output.result, shape=(-1, *shape[1:])))

    def _open_model(self, output: Output) -> Model:
        if output.name not in self._models:
            settings = self.settings
            self._models[output.name] = open_model(
                self.module,
                [output],
                self.threads,
                settings.engine,
                settings.precision,
                settings.device,
            )
        return self._models[output.name]


def _states_shape(output: Output, task: Task) -> bool:
    """Return whether the signature states what is wanted of the shape of an output's rows."""
    sides = output.result.shape[1:]
    # Of a layer that is averaged only the length counts.
    return bool(sides) and -1 not in (sides[-1:] if task.pool else sides)


def choose_module_name(module: str | os.PathLike[str] | None) -> str | None:
    """Return the name of the module that was chosen, here or by MNV1_MODULE; None for the default.

    As on the command line an empty variable counts as none.
    """
    if module is None:
        return os.environ.get(MODULE_VARIABLE) or None
    return take_path("module", module)


def _handle_errors(tables: Iterator[Table], on_error: OnError) -> Iterator[Table]:
    """Yield the tables with their errors as rows, without them, or up to the first one."""
    try:
        for table in tables:
            if on_error == "fail" and any(table.errors):
                path, reason = next(
                    (path, error)
                    for path, error in zip(table.paths, table.errors, strict=True)
                    if error
                )
                raise ImageError(f"{display_path(path)}: {reason}" if path else reason)
            yield table.without_faults() if on_error == "skip" else table
    finally:
        # The threads of a run that failed end now, not when its traceback is forgotten.
        if close := getattr(tables, "close", None):
            close()
