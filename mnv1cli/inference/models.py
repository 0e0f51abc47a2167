"""A module made ready to run: batches of pixels in, named arrays out.

A job sees only `Model`. The default engine runs the module compiled for LiteRT, which is
done once and kept in the cache; OpenVINO runs the same compiled module, and the reference engine
the module itself in TensorFlow.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from mnv1cli.errors import EngineError, ModuleError, OptionError
from mnv1cli.inference import litert_model, openvino_model
from mnv1cli.inference.compiled import choose_int8_engine, compile_once, find_compiled
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.inference.openvino_model import OpenVINOModel
from mnv1cli.modules.artifacts import STATIC
from mnv1cli.types import DEFAULT_DEVICE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import Engine, FloatArray, Precision

log = logging.getLogger(__name__)

_PRECISIONS: dict[Engine, tuple[Precision, ...]] = {
    "litert": ("float32", "int8"),
    "openvino": ("float32", "bf16", "int8"),
    "tf": ("float32",),
}


class Model(Protocol):
    """A module ready to run; up to `workers` calls may be made at once.

    `calibrated` is the sha256 of a calibrated int8 model, `recipe` the way in which an int8 model
    was made, both None for any other.
    """

    engine: str
    precision: str
    device: str
    calibrated: str | None
    recipe: str | None
    workers: int

    def __call__(self, pixels: FloatArray) -> Mapping[str, FloatArray]:
        """Return each output by its name, [n, ...], for pixels float32 [n, size, size, 3]."""
        ...


def default_engine(precision: Precision = "float32") -> Engine:
    """Return `openvino` for bf16, else `litert` where it is installed, else `tf`."""
    if precision == "bf16":
        return "openvino"
    return "litert" if litert_model.is_available() else "tf"


def open_model(
    module: HubModule,
    outputs: Sequence[Output],
    workers: int,
    engine: Engine | None = None,
    precision: Precision = "float32",
    device: str = DEFAULT_DEVICE,
) -> Model:
    """Make a module ready to give these outputs; compile it if that was not done before.

    Without an `engine` the default one is used, for int8 that of the model that was kept last. A
    module that cannot be compiled for LiteRT is then run by TensorFlow, with a warning.

    Raises:
        EngineError: the engine is not installed.
        OptionError: the engine, or its device, has no such precision, or there is no such device.
        ModuleError: the module cannot be loaded or compiled, or has no int8 model for the engine.
    """
    chosen = engine or _choose_engine(module, outputs[0], precision)
    _check_choice(chosen, precision, device)
    if chosen == "tf":
        return _open_reference(module, outputs, workers)
    if not litert_model.is_available():
        raise EngineError("LiteRT is not installed", "install ai-edge-litert, or use --engine tf")
    if precision == "int8":
        integers = find_compiled(module, outputs[0], precision, chosen)
        return load_model(integers, workers, chosen, precision, device)
    try:
        return load_model(compile_once(module, outputs), workers, chosen, precision, device)
    except ModuleError as error:
        if engine is not None or chosen != "litert":
            raise
        model = _open_reference(module, outputs, workers)
        log.warning("%s; it is run by TensorFlow instead, which is slower", error.what)
        return model


def _choose_engine(module: HubModule, output: Output, precision: Precision) -> Engine:
    if precision == "int8" and litert_model.is_available():
        return choose_int8_engine(module, output)
    return default_engine(precision)


def _check_choice(engine: Engine, precision: Precision, device: str) -> None:
    """Check, before a module is compiled, that an engine has a precision and a device."""
    if precision not in _PRECISIONS[engine]:
        capable = next(name for name, has in _PRECISIONS.items() if precision in has)
        raise OptionError(f"the engine {engine} has no {precision}", f"--engine {capable} has it")
    if engine == "openvino":
        openvino_model.require_device(device, precision)
    elif device != DEFAULT_DEVICE:
        raise OptionError(
            f"the engine {engine} has no device {device}",
            "--engine openvino has those that OpenVINO supports",
        )


def _open_reference(module: HubModule, outputs: Sequence[Output], workers: int) -> Model:
    from mnv1cli.inference.tf_model import TensorFlowModel

    return TensorFlowModel(module, outputs, workers)


def load_model(
    compiled: CompiledModel,
    workers: int,
    engine: Engine,
    precision: Precision,
    device: str = DEFAULT_DEVICE,
) -> Model:
    """Make a compiled model ready to run with an engine, as `open_model` does.

    Raises:
        ModuleError: the engine cannot load it.
    """
    # Results of older versions do not name the only recipe that there was.
    recipe = compiled.recipe if compiled.recipe != STATIC else ""
    digest = compiled.sha256 if compiled.calibration else None
    settings = compiled.outputs, workers, precision, digest, recipe or None
    if engine == "openvino":
        return OpenVINOModel(compiled.model, *settings, device, compiled.weights)
    return LiteRTModel(compiled.model, *settings)
