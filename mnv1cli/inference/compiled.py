"""The compiled models of a module: read from the cache, made where they are missing."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError
from mnv1cli.inference import convert, openvino_model
from mnv1cli.inference.int8 import dynamic
from mnv1cli.modules import artifacts, cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mnv1cli.modules.artifacts import CompiledModel, ModelKind
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import Engine, Precision

log = logging.getLogger(__name__)

_ENGINE = "engine"


def find_compiled(
    module: HubModule, output: Output, precision: Precision = "float32", engine: Engine = "litert"
) -> CompiledModel:
    """Return the model that has this output; make it if that was not done before.

    An int8 model may have other outputs as well. It is the calibrated one, if there is one for
    this engine, else for LiteRT one that needs no calibration.

    Raises:
        ModuleError: the module cannot be loaded, compiled, or has no int8 model for the engine.
    """
    if precision != "int8":
        return compile_once(module, [output])
    if calibrated := find_calibrated(module, output, engine):
        return calibrated
    if engine == "openvino":
        static = find_calibrated(module, output)
        if static is not None and static.recipe in ("", artifacts.STATIC):
            # OpenVINO runs it as LiteRT does; of the others it would only run the weights.
            return static
        raise ModuleError(
            f"module {module.handle} is not calibrated for int8 with OpenVINO",
            f"'mnv1 module quantize DIR --engine openvino --module {module.handle}"
            f"{_describe_options(module, output)}' does that, or --engine litert needs no images",
        )
    return find_uncalibrated(module, output)


def find_calibrated(
    module: HubModule, output: Output, engine: Engine = "litert"
) -> CompiledModel | None:
    """Return the calibrated int8 model with this output for an engine, None if there is none."""
    kind: ModelKind = "int8-openvino" if engine == "openvino" else "int8"
    size = convert.choose_key(module, [output])
    for names in _list_names(module, output):
        compiled = artifacts.find_model(module.fingerprint, names, kind, size, module.input_range)
        if compiled is not None and convert.is_usable(compiled):
            return compiled
    return None


def choose_int8_engine(module: HubModule, output: Output) -> Engine:
    """Choose the engine for int8 where none is named: that of the model that was kept last.

    LiteRT where none was calibrated, or where the engine of that one is not installed.
    """
    size = convert.choose_key(module, [output])
    for names in _list_names(module, output):
        record = artifacts.read_record(module.fingerprint, _make_key(names, size, module))
        if record.get(_ENGINE) != "openvino" or not find_calibrated(module, output, "openvino"):
            continue
        if openvino_model.is_available():
            return "openvino"
        log.warning(
            "module %s is calibrated for OpenVINO, which is not installed: LiteRT runs it",
            module.handle,
        )
    return "litert"


def keep_int8(module: HubModule, outputs: Sequence[Output], compiled: CompiledModel) -> bool:
    """Keep an int8 model of some outputs as the one that serves, also where no engine is named.

    It replaces a calibrated one for the same engine. One that was made without calibration is
    not saved here, because it is made for each output when it is needed.

    Returns whether the cache could be written.
    """
    names = tuple(output.name for output in outputs)
    size = convert.choose_key(module, outputs)
    if compiled.kind == "int8-uncalibrated":
        if calibrated := find_calibrated(module, outputs[0]):
            artifacts.remove_model(module.fingerprint, calibrated)
    elif not artifacts.save_model(module.fingerprint, compiled):
        return False
    record = {_ENGINE: "openvino" if compiled.kind == "int8-openvino" else "litert"}
    artifacts.write_record(module.fingerprint, _make_key(names, size, module), record)
    return True


def compile_once(module: HubModule, outputs: Sequence[Output]) -> CompiledModel:
    """Return the compiled module from the cache; compile it if missing, damaged or outdated.

    Raises:
        ModuleError: the module cannot be loaded or compiled.
    """
    return _make_once(
        module,
        outputs,
        "float32",
        convert.is_current,
        lambda: convert.compile_module(module, outputs),
    )


def find_uncalibrated(module: HubModule, output: Output) -> CompiledModel:
    """Return the int8 model that needs no calibration from the cache, or make it."""
    floats = compile_once(module, [output])
    return _make_once(
        module,
        [output],
        "int8-uncalibrated",
        lambda compiled: compiled.converter == dynamic.make_version(floats),
        lambda: dynamic.quantize_without_images(floats, output.images.shape[1], module.handle),
    )


def _make_once(
    module: HubModule,
    outputs: Sequence[Output],
    kind: ModelKind,
    is_current: Callable[[CompiledModel], bool],
    make: Callable[[], CompiledModel],
) -> CompiledModel:
    """Return a model from the cache; make it, once for all processes, if it is not current."""
    names = tuple(output.name for output in outputs)
    size = convert.choose_key(module, outputs)

    def find_current() -> CompiledModel | None:
        compiled = artifacts.find_model(module.fingerprint, names, kind, size, module.input_range)
        return compiled if compiled and is_current(compiled) else None

    if compiled := find_current():
        return compiled
    with cache.lock(artifacts.artifact_directory(module.fingerprint) / "compiling"):
        # Another process may have made it in the meantime.
        if compiled := find_current():
            return compiled
        artifacts.remove_leftovers(module.fingerprint)
        log.info("preparing the module %s(once)", "for int8 " if kind != "float32" else "")
        compiled = make()
        if not artifacts.save_model(module.fingerprint, compiled):
            log.info(
                "the cache %s cannot be written: the compiled module is not kept",
                cache.cache_root(),
            )
    return compiled


def _list_names(module: HubModule, output: Output) -> Iterator[tuple[str, ...]]:
    """Yield the outputs that a calibrated model with this one may have."""
    main_names = tuple(main.name for main in module.main_outputs())
    if output.name in main_names:
        yield main_names
    if main_names != (output.name,):
        yield (output.name,)


def _make_key(names: Sequence[str], image_size: int | None, module: HubModule) -> str:
    """Return the key of the record that names the engine of int8."""
    return json.dumps(["int8", names, image_size, module.input_range.setting])


def _describe_options(module: HubModule, output: Output) -> str:
    """Return the options of `mnv1 module quantize` for a layer, and for another input range."""
    is_main = output.name in (main.name for main in module.main_outputs())
    option = "" if is_main else f" --endpoint {output.name}"
    if module.input_range.setting:
        option += f" --input-range {module.input_range}"
    return option
