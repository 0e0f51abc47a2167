"""The engine of the extra `openvino`: a compiled module, run by OpenVINO, in bfloat16 on demand."""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import EngineError, ModuleError, OptionError
from mnv1cli.inference import openvino_network
from mnv1cli.types import DEFAULT_DEVICE as _CPU

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mnv1cli.types import FloatArray

_MISSING = object()
# The images of one inference. Always as many, the last ones of a batch filled up: a row does not
# depend on its batch whatever kernels are chosen by its shape, and fixed shapes are faster. Eight
# fill the units for matrices, and their intermediate results stay in the cache of a core.
_TILE = 8
# What a device must have, and the type of its computations: without it OpenVINO takes the type
# that is fastest, such as bfloat16 for float32.
_CAPABILITIES = {"float32": "FP32", "bf16": "BF16", "int8": "INT8"}
_TYPES = {"float32": "f32", "bf16": "bf16", "int8": "f32"}
# The lines of an error of OpenVINO that name its source files, or repeat its code.
_PLACES = ("Exception from ", "Check '")


def is_available() -> bool:
    """Return whether OpenVINO is installed, without importing it."""
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> Any:
    """Import OpenVINO.

    Raises:
        EngineError: it is not installed, or cannot be loaded.
    """
    if not is_available():
        raise EngineError("OpenVINO is not installed", "pip install 'mnv1cli[openvino]'")
    try:
        with without_telemetry():
            import openvino
    except ImportError as error:
        reason = _describe(error)
        raise EngineError(f"OpenVINO cannot be loaded: {reason}", "install it again") from error
    return openvino


_COMPILING = threading.Lock()


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Import packages of OpenVINO without their report of that to a server on the internet."""
    # OpenVINO's tools, which its package imports, send a message to Google Analytics by this
    # package, and write to the home directory; without it they do neither.
    before = sys.modules.get("openvino_telemetry", _MISSING)
    if before is _MISSING:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is _MISSING:
            del sys.modules["openvino_telemetry"]


class OpenVINOModel:
    """A compiled module; up to `workers` batches are run at once.

    On the CPU each is run on one core, by the thread that calls; another device is given them as
    they come. `model` is one for LiteRT, or with its `weights` one of OpenVINO's own format.
    `outputs` names the model's outputs in their order; `calibrated` is the sha256 of a calibrated
    int8 model, and `recipe` how an int8 model was made.

    Raises:
        EngineError: OpenVINO is not installed.
        OptionError: there is no such device, or it does not have the precision.
        ModuleError: OpenVINO cannot load the model.
    """

    engine = "openvino"

    def __init__(
        self,
        model: bytes,
        outputs: Sequence[str],
        workers: int,
        precision: str = "float32",
        calibrated: str | None = None,
        recipe: str | None = None,
        device: str = _CPU,
        weights: bytes = b"",
    ) -> None:
        self.workers = workers
        self.precision = precision
        self.calibrated = calibrated
        self.recipe = recipe
        self.device = device
        self._model = model
        self._weights = weights
        self._outputs = tuple(outputs)
        require_device(device, precision)
        self._network = _Network(model, weights, len(outputs), device, precision)
        self._idle: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._idle.put(self._network.make_request())

    def for_workers(self, workers: int) -> OpenVINOModel:
        """Return the same model for another number of cores."""
        make, arguments = self.__reduce__()
        model: OpenVINOModel = make(*arguments)
        model.workers = workers
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes the model again in another process, which has its own requests."""
        settings = self.workers, self.precision, self.calibrated, self.recipe, self.device
        return OpenVINOModel, (self._model, self._outputs, *settings, self._weights)

    def __call__(self, pixels: FloatArray) -> Mapping[str, FloatArray]:
        """Return each output by its name, [n, ...], for pixels float32 [n, size, size, 3]."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._network.make_request()
        try:
            results = request.run(pixels)
        finally:
            self._idle.put(request)
        return dict(zip(self._outputs, results, strict=True))


def require_device(device: str, precision: str) -> None:
    """Require a device that OpenVINO has and that computes with this precision.

    Raises:
        EngineError: OpenVINO is not installed.
        OptionError: there is no such device, or it does not have the precision.
    """
    core = make_core()
    # The CPU needs no search, which takes longer.
    devices = [_CPU] if device == _CPU else core.available_devices
    if not any(name == device or name.startswith(f"{device}.") for name in devices):
        raise OptionError(
            f"OpenVINO has no device {device} on this machine", f"it has {', '.join(devices)}"
        )
    try:
        capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        reason = _describe(error)
        raise EngineError(f"OpenVINO cannot use the device {device}: {reason}") from error
    if _CAPABILITIES[precision] not in capabilities:
        kind = "processor" if device == _CPU else f"device {device}"
        raise OptionError(f"this {kind} has no {precision}", "--precision float32 is exact")


@cache
def make_core() -> Any:
    """Return the core of OpenVINO, which has its devices; raises `EngineError`."""
    return import_openvino().Core()


class _Network:
    """A model as OpenVINO reads it, which is compiled for the requests that are made of it."""

    def __init__(
        self, model: bytes, weights: bytes, outputs: int, device: str, precision: str
    ) -> None:
        self._device = device
        self._hints = {"INFERENCE_PRECISION_HINT": _TYPES[precision]}
        if device == _CPU:
            # Threads of OpenVINO would take the cores from those that decode, and with one it is
            # the thread that calls; which stays on the cores that the system gives it.
            self._hints |= {
                "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO",
            }  # fmt: skip
        with _handle_errors("load"):
            self._model = openvino_network.read_network(make_core(), model, weights, outputs)
            shape = self._model.input(0).partial_shape
            self._model.reshape([_TILE, *(side.get_length() for side in list(shape)[1:])])
        self._outputs = range(outputs)
        # For the requests of a device that is not the CPU.
        self._compiled: Any = None

    def make_request(self) -> _Request:
        """Make a request: on the CPU with a compiled model of its own, as it is a thread's own."""
        # One after the other: OpenVINO can crash where several threads compile at once.
        with _COMPILING, _handle_errors("load"):
            compiled = self._compiled or make_core().compile_model(
                self._model, self._device, self._hints
            )
            if self._device != _CPU:
                self._compiled = compiled
            return _Request(compiled, self._outputs)


class _Request:
    """A compiled model, and one inference of it at a time."""

    def __init__(self, compiled: Any, outputs: Sequence[int]) -> None:
        import numpy as np

        self._request = compiled.create_infer_request()
        self._outputs = outputs
        self._spare = np.zeros(tuple(compiled.input(0).shape), np.float32)

    def run(self, pixels: FloatArray) -> list[FloatArray]:
        """Return the model's outputs for pixels [n, size, size, 3]."""
        import numpy as np

        results: list[FloatArray] = []
        with _handle_errors("run"):
            for rows, tile in self._split(pixels):
                outputs = self._infer(tile)
                # Only now: the model of a module with loops does not state their shapes.
                results = results or [
                    np.empty((len(pixels), *values.shape[1:]), np.float32) for values in outputs
                ]
                for result, values in zip(results, outputs, strict=True):
                    result[rows] = values[: len(pixels) - rows.start]
        return results

    def _infer(self, tile: FloatArray) -> list[FloatArray]:
        """Return the model's outputs for a tile; the next one overwrites them."""
        from openvino import Tensor

        # The pixels are read where they are.
        self._request.set_input_tensor(Tensor(tile, shared_memory=True))
        self._request.infer(share_outputs=True)
        return [self._request.get_output_tensor(index).data for index in self._outputs]

    def _split(self, pixels: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        """Yield the rows of each tile, and their pixels, filled up to a whole tile."""
        for start in range(0, len(pixels), _TILE):
            rows = slice(start, start + _TILE)
            tile = pixels[rows]
            flags = tile.flags
            if len(tile) < _TILE or not (flags.c_contiguous and flags.writeable):
                self._spare[: len(tile)] = tile
                tile = self._spare
            yield rows, tile


@contextlib.contextmanager
def _handle_errors(verb: str) -> Iterator[None]:
    """Turn the errors of OpenVINO into those of this package."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = _describe(error)
        # "std::bad_alloc", "can't alloc"
        if isinstance(error, MemoryError) or "alloc" in reason:
            raise EngineError(
                f"there is no memory to {verb} the compiled module with OpenVINO",
                "use fewer --threads or a smaller --batch-size",
            ) from error
        raise ModuleError(
            f"OpenVINO cannot {verb} the compiled module: {reason}", "--engine litert runs it"
        ) from error


def _describe(error: BaseException) -> str:
    """Return the reason in an error of OpenVINO, in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines if line and not line.startswith(_PLACES)]
    return " ".join(reasons or lines) or type(error).__name__
