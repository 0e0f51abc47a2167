"""A module made ready to run: batches of pixels in, named arrays out.

A job sees only `Model`. The default engine runs the module compiled for LiteRT, which is
done once and kept in the cache; OpenVINO runs the same compiled module, and the reference engine
the module itself in TensorFlow.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from mnv1cli.errors import EngineError, ModuleError, OptionError
from mnv1cli.inference import convert, litert_model, openvino_model
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.inference.openvino_model import OpenVINOModel
from mnv1cli.modules import artifacts, cache
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

    `calibrated` is the sha256 of an int8 model, None for any other.
    """

    engine: str
    precision: str
    device: str
    calibrated: str | None
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

    Without an `engine` the default one is used, and a module that cannot be compiled for LiteRT
    is run by TensorFlow, with a warning.

    Raises:
        EngineError: the engine is not installed.
        OptionError: the engine, or its device, has no such precision, or there is no such device.
        ModuleError: the module cannot be loaded, compiled, or was not calibrated.
    """
    chosen = engine or default_engine(precision)
    _check_choice(chosen, precision, device)
    if chosen == "tf":
        return _open_reference(module, outputs, workers)
    if not litert_model.is_available():
        raise EngineError("LiteRT is not installed", "install ai-edge-litert, or use --engine tf")
    if precision == "int8":
        return _load(find_calibrated(module, outputs[0]), workers, chosen, precision, device)
    try:
        return _load(_compile_once(module, outputs), workers, chosen, precision, device)
    except ModuleError as error:
        if engine is not None or chosen != "litert":
            raise
        model = _open_reference(module, outputs, workers)
        log.warning("%s; it is run by TensorFlow instead, which is slower", error.what)
        return model


def find_compiled(
    module: HubModule, output: Output, precision: Precision = "float32"
) -> CompiledModel:
    """Return the model for LiteRT that has this output; compile it if that was not done before.

    An int8 model may have other outputs as well.

    Raises:
        ModuleError: the module cannot be loaded, compiled, or was not calibrated.
    """
    if precision == "int8":
        return find_calibrated(module, output)
    return _compile_once(module, [output])


def find_calibrated(module: HubModule, output: Output) -> CompiledModel:
    """Return the int8 model of a module that has this output.

    Raises:
        ModuleError: the module was not calibrated for it.
    """
    main_names = tuple(main.name for main in module.main_outputs())
    for names in (main_names, (output.name,)):
        if output.name in names:
            size = convert.choose_key(module, [output])
            compiled = artifacts.find_model(
                module.fingerprint, names, "int8", size, module.input_range
            )
            if compiled is not None and convert.is_usable(compiled):
                return compiled
    option = f" --endpoint {output.name}" if output.name not in main_names else ""
    if module.input_range.setting:
        option += f" --input-range {module.input_range}"
    raise ModuleError(
        f"module {module.handle} is not calibrated for int8",
        f"'mnv1 module quantize DIR --module {module.handle}{option}' does that, with your images",
    )


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


def _compile_once(module: HubModule, outputs: Sequence[Output]) -> CompiledModel:
    """Return the compiled module from the cache; compile it if missing, damaged or outdated."""
    names = tuple(output.name for output in outputs)

    size = convert.choose_key(module, outputs)

    def find_current() -> CompiledModel | None:
        compiled = artifacts.find_model(
            module.fingerprint, names, "float32", size, module.input_range
        )
        return compiled if compiled and convert.is_current(compiled) else None

    if compiled := find_current():
        return compiled
    with cache.lock(artifacts.artifact_directory(module.fingerprint) / "compiling"):
        # Another process may have compiled it in the meantime.
        if compiled := find_current():
            return compiled
        artifacts.remove_leftovers(module.fingerprint)
        log.info("preparing the module (once)")
        compiled = convert.compile_module(module, outputs)
        if not artifacts.save_model(module.fingerprint, compiled):
            log.info(
                "the cache %s cannot be written: the compiled module is not kept",
                cache.cache_root(),
            )
    return compiled


def _load(
    compiled: CompiledModel, workers: int, engine: Engine, precision: Precision, device: str
) -> Model:
    digest = compiled.sha256 if compiled.precision == "int8" else None
    if engine == "openvino":
        return OpenVINOModel(compiled.model, compiled.outputs, workers, precision, digest, device)
    return LiteRTModel(compiled.model, compiled.outputs, workers, precision, digest)
