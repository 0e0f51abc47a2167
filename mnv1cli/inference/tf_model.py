"""The reference engine: the graph of a module in TensorFlow."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError
from mnv1cli.modules import savedmodel
from mnv1cli.modules.hub_module import TF2
from mnv1cli.system import tempdirs
from mnv1cli.types import DEFAULT_DEVICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import FloatArray, InputRange


class TensorFlowModel:
    """The graph of a module, pruned to the outputs that are needed.

    `function` returns them as a list, in their order, for a tensor of images in [0, 1], which
    it maps to the module's `input_range`; `owner` holds the variables.

    Raises:
        ModuleError: the module's files are damaged.
    """

    engine = "tf"
    device = DEFAULT_DEVICE
    precision = "float32"
    calibrated: str | None = None
    recipe: str | None = None
    # TensorFlow spreads one batch over the cores by itself.
    workers = 1

    def __init__(
        self, module: HubModule, outputs: Sequence[Output], threads: int | None = None
    ) -> None:
        import tensorflow as tf

        if threads is not None:
            # TensorFlow fixes it with the first computation in the process.
            with contextlib.suppress(RuntimeError):
                tf.config.threading.set_intra_op_parallelism_threads(threads)
        self._handle = module.handle
        self._names = [output.name for output in outputs]
        self._constant = tf.constant
        if module.format == TF2:
            self.owner, function = _load_tf2(module, outputs)
            self.function: Any = _map_images(module.input_range, function)
            return
        try:
            # Without a tag: a TF1 Hub module has no `serve` graph.
            self.owner = tf.saved_model.load(tempdirs.make_plain_path(module.path), tags=[])
        except Exception as error:  # a crafted graph can make TensorFlow raise anything
            raise ModuleError(
                f"module {module.handle} in {module.path} cannot be loaded: "
                f"{savedmodel.describe_error(error)}",
                "its files are damaged: build or copy the directory again; a module that was "
                f"fetched is repaired by 'mnv1 module fetch {module.handle}'",
            ) from error
        # A signature that is called as it is computes all of its outputs.
        pruned = self.owner.prune(
            outputs[0].images.tensor, [output.result.tensor for output in outputs]
        )
        self.function = _map_images(module.input_range, lambda images: _cast(pruned(images)))

    def __call__(self, pixels: FloatArray) -> Mapping[str, FloatArray]:
        """Return each output by its name, [n, ...], for pixels float32 [n, size, size, 3]."""
        import numpy as np

        n = len(pixels)
        # For a batch of 1 TensorFlow picks other kernels, whose sums round differently; a row
        # must not depend on its batch.
        batch = np.repeat(pixels, 2, axis=0) if n == 1 else pixels
        results = self._run(batch)
        return {name: result[:n] for name, result in zip(self._names, results, strict=True)}

    def _run(self, batch: FloatArray) -> list[FloatArray]:
        """Run the graph.

        Raises:
            ModuleError: it fails, or does not give a row for each image.
        """
        import tensorflow as tf

        try:
            results = [result.numpy() for result in self.function(self._constant(batch))]
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError as error:
            raise ModuleError(
                f"module {self._handle} cannot be run on {len(batch)} images: "
                f"{savedmodel.describe_error(error)}",
                "it must take batches of any number of images",
            ) from error
        for name, result in zip(self._names, results, strict=True):
            if result.shape[:1] != batch.shape[:1]:
                raise ModuleError(
                    f"module {self._handle} gives {name} of the shape {list(result.shape)} for "
                    f"{len(batch)} images"
                )
        return results


def _load_tf2(module: HubModule, outputs: Sequence[Output]) -> tuple[Any, Any]:
    """Load a TF2 SavedModel: what owns its variables, and a function that lists the outputs."""
    spec, keys = outputs[0].images, [output.result.tensor for output in outputs]
    whole = savedmodel.load_function(module.path, spec.shape[1], spec.dtype, spec.shape[-1])

    def compute(images: Any) -> list[Any]:
        results = whole(images)
        return _cast([results[key] for key in keys])

    return whole.mnv1_owner, compute


def _cast(results: Sequence[Any]) -> list[Any]:
    """Return tensors as float32, whatever precision the module has."""
    import tensorflow as tf

    return [tf.cast(result, tf.float32) for result in results]


def _map_images(input_range: InputRange, function: Any) -> Any:
    """Return the function for images in [0, 1] that feeds it images in another range."""
    if input_range.setting is None:
        return function
    low, high = input_range
    return lambda images: function(images * (high - low) + low)
