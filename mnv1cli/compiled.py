"""A module made ready to run: batches of pixels in, named arrays out.

`Model` is all that the loop knows of an engine. The one here runs the module
itself in TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mnv1cli import savedmodel, scratch
from mnv1cli.errors import ModuleError
from mnv1cli.module import TF2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.module import HubModule, Output
    from mnv1cli.records import FloatArray


class Model(Protocol):
    """What the loop runs."""

    engine: str
    precision: str

    def __call__(self, pixels: FloatArray) -> Mapping[str, FloatArray]:
        """Each output by its name, [n, ...], for pixels float32 [n, size, size, 3]."""
        ...


class TensorFlowModel:
    """The reference engine: a module's own graph, pruned to the outputs asked for."""

    engine = "tf"
    precision = "float32"

    def __init__(self, module: HubModule, outputs: Sequence[Output]) -> None:
        import tensorflow as tf

        self._names = [output.name for output in outputs]
        self._constant = tf.constant
        if module.format == TF2:
            size = outputs[0].images.shape[1]
            function: Any = savedmodel.load_function(module.path, size)
            self._function: Any = lambda images: [function(images)]
            return
        try:
            # The tag is none: a TF1 Hub module has no `serve` graph.
            loaded = tf.saved_model.load(scratch.plain_path(module.path), tags=[])
        except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
            raise ModuleError(
                f"module {module.handle} in {module.path} cannot be loaded: "
                f"{savedmodel.reason(error)}",
                f"its files are damaged: 'mnv1 module fetch {module.handle}' mends it in the cache",
            ) from error
        # Called as it is, a signature would compute every output that it has.
        self._function = loaded.prune(
            outputs[0].images.tensor, [output.result.tensor for output in outputs]
        )

    def __call__(self, pixels: FloatArray) -> Mapping[str, FloatArray]:
        """Each output by its name, for pixels float32 [n, size, size, 3]."""
        import numpy as np

        n = len(pixels)
        # At batch 1 TensorFlow picks other kernels, whose sums round differently;
        # a row must not depend on its batch.
        batch = np.repeat(pixels, 2, axis=0) if n == 1 else pixels
        results = self._function(self._constant(batch))
        return {name: result.numpy()[:n] for name, result in zip(self._names, results, strict=True)}
