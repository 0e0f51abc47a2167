"""The default engine: a compiled module, run by LiteRT on XNNPACK."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import EngineError, ModuleError
from mnv1cli.types import DEFAULT_DEVICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.types import FloatArray


def is_available() -> bool:
    """Return whether LiteRT is installed; it does not have wheels for all systems."""
    try:
        from ai_edge_litert import interpreter  # noqa: F401
    except ImportError:
        return False
    return True


class LiteRTModel:
    """A compiled module; up to `workers` batches are run at once, each on one core.

    Single-threaded interpreters, one per core, are faster than one interpreter with as many
    threads, and a row does not depend on its batch or on the number of cores. `outputs` names
    the model's outputs in their order; `calibrated` is the sha256 of a calibrated int8 model, and
    `recipe` how an int8 model was made.

    Raises:
        ModuleError: LiteRT cannot load the model.
    """

    engine = "litert"
    device = DEFAULT_DEVICE

    def __init__(
        self,
        model: bytes,
        outputs: Sequence[str],
        workers: int,
        precision: str = "float32",
        calibrated: str | None = None,
        recipe: str | None = None,
    ) -> None:
        self.workers = workers
        self.precision = precision
        self.calibrated = calibrated
        self.recipe = recipe
        self._model = model
        self._outputs = tuple(outputs)
        self._idle: queue.SimpleQueue[_Interpreter] = queue.SimpleQueue()
        self._idle.put(_Interpreter(model))

    def for_workers(self, workers: int) -> LiteRTModel:
        """Return the same model for another number of cores."""
        make, (model, outputs, _, *settings) = self.__reduce__()
        made: LiteRTModel = make(model, outputs, workers, *settings)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes the model again in another process, which has its own interpreters."""
        settings = self.workers, self.precision, self.calibrated, self.recipe
        return LiteRTModel, (self._model, self._outputs, *settings)

    def __call__(self, pixels: FloatArray) -> Mapping[str, FloatArray]:
        """Return each output by its name, [n, ...], for pixels float32 [n, size, size, 3]."""
        try:
            interpreter = self._idle.get_nowait()
        except queue.Empty:
            interpreter = _Interpreter(self._model)
        try:
            results = interpreter.run(pixels)
        finally:
            self._idle.put(interpreter)
        return dict(zip(self._outputs, results, strict=True))


class _Interpreter:
    """A single-threaded interpreter."""

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter: Any = Interpreter(model_content=model, num_threads=1)
            # By name: the converter does not keep the order of the outputs.
            signature = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ModuleError(f"LiteRT cannot load the compiled module: {reason}") from error
        (images,) = signature.get_input_details().values()
        results = signature.get_output_details()
        self._images = images["index"]
        self._results = [results[f"output_{i}"]["index"] for i in range(len(results))]
        self._capacity = 0

    def run(self, pixels: FloatArray) -> list[FloatArray]:
        """Return the model's outputs for pixels [n, size, size, 3]."""
        n = len(pixels)
        if not n <= self._capacity < 2 * n:
            self._resize(pixels.shape)
        # A view, so that the pixels are copied once. Rows beyond n hold older images: running
        # them as well costs less than making the interpreter ready for another n.
        self._interpreter.tensor(self._images)()[:n] = pixels
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ModuleError(f"LiteRT cannot run the compiled module: {reason}") from error
        return [self._interpreter.get_tensor(index)[:n] for index in self._results]

    def _resize(self, shape: Sequence[int]) -> None:
        try:
            self._interpreter.resize_tensor_input(self._images, list(shape), strict=True)
            self._interpreter.allocate_tensors()
        except (RuntimeError, MemoryError) as error:
            raise EngineError(
                f"LiteRT has no memory for {shape[0]} images at once",
                "use fewer --threads or a smaller --batch-size",
            ) from error
        self._capacity = shape[0]
