"""A module made ready to run: batches of pixels in, named arrays out.

`Model` is all that the loop knows of an engine. The default engine runs the
module compiled for LiteRT, once for all runs; the reference runs the module
itself in TensorFlow.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from mnv1cli.errors import EngineError, ModuleError, OptionError
from mnv1cli.inference import convert, litert_model
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.modules import artifacts, cache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule, Output
    from mnv1cli.types import Engine, FloatArray, Precision

log = logging.getLogger(__name__)


class Model(Protocol):
    """What the loop runs; `workers` calls may be made at once.

    `calibrated` is the sha256 of an int8 model, None for any other.
    """

    engine: str
    precision: str
    calibrated: str | None
    workers: int

    def __call__(self, pixels: FloatArray) -> Mapping[str, FloatArray]:
        """Each output by its name, [n, ...], for pixels float32 [n, size, size, 3]."""
        ...


def default_engine() -> Engine:
    """`litert` where it is there, else `tf`."""
    return "litert" if litert_model.is_available() else "tf"


def open_model(
    module: HubModule,
    outputs: Sequence[Output],
    workers: int,
    engine: Engine | None = None,
    precision: Precision = "float32",
) -> Model:
    """The module, ready to give these outputs; compiled if that was not done before.

    Without an `engine` it is the default one, and a module that cannot be
    compiled is run by TensorFlow, with a warning.

    Raises:
        EngineError: the engine is not installed.
        OptionError: the engine has no such precision.
        ModuleError: the module cannot be loaded, compiled, or was not calibrated.
    """
    chosen = engine or default_engine()
    if precision != "float32" and chosen != "litert":
        raise OptionError(f"the engine {chosen} has no {precision}", "--engine litert has it")
    if chosen == "tf":
        return _reference(module, outputs, workers)
    if not litert_model.is_available():
        raise EngineError("LiteRT is not installed", "install ai-edge-litert, or use --engine tf")
    if precision == "int8":
        return _model(calibrated(module, outputs[0]), workers)
    try:
        return _model(_compiled(module, outputs), workers)
    except ModuleError as error:
        if engine is not None:
            raise
        model = _reference(module, outputs, workers)
        log.warning("%s; it is run by TensorFlow instead, which is slower", error.what)
        return model


def calibrated(module: HubModule, output: Output) -> CompiledModel:
    """The int8 model of a module that has this output.

    Raises:
        ModuleError: the module was not calibrated for it.
    """
    together = tuple(each.name for each in module.main_outputs())
    for names in (together, (output.name,)):
        found = (
            artifacts.find_model(module.fingerprint, names, "int8")
            if output.name in names
            else None
        )
        if found is not None and convert.is_usable(found):
            return found
    option = f" --endpoint {output.name}" if output.name not in together else ""
    raise ModuleError(
        f"module {module.handle} is not calibrated for int8",
        f"'mnv1 module quantize DIR --module {module.handle}{option}' does that, with your images",
    )


def _reference(module: HubModule, outputs: Sequence[Output], workers: int) -> Model:
    from mnv1cli.inference.tf_model import TensorFlowModel

    return TensorFlowModel(module, outputs, workers)


def _compiled(module: HubModule, outputs: Sequence[Output]) -> CompiledModel:
    """The compiled module from the cache, made anew where it is missing, damaged or outdated."""
    names = tuple(output.name for output in outputs)

    def cached() -> CompiledModel | None:
        found = artifacts.find_model(module.fingerprint, names, "float32")
        return found if found and convert.is_current(found) else None

    if found := cached():
        return found
    with cache.lock(artifacts.artifact_directory(module.fingerprint) / "compiling"):
        # Another process may have been at it meanwhile.
        if found := cached():
            return found
        artifacts.remove_leftovers(module.fingerprint)
        log.info("preparing the module (once)")
        compiled = convert.compile_module(module, outputs)
        if not artifacts.save_model(module.fingerprint, compiled):
            log.info("the cache %s cannot be written: nothing is kept", cache.cache_root())
    return compiled


def _model(compiled: CompiledModel, workers: int) -> LiteRTModel:
    digest = compiled.sha256 if compiled.precision == "int8" else None
    return LiteRTModel(compiled.model, compiled.outputs, workers, compiled.precision, digest)
