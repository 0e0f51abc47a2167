"""A module written as a model for other programs, compared with the module before it appears."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import EngineError, ModuleError, OptionError
from mnv1cli.inference import litert_model
from mnv1cli.inference.compiled import find_compiled
from mnv1cli.inference.convert import agrees
from mnv1cli.inference.export import onnx, savedmodel, tflite
from mnv1cli.inference.export.description import describe_classes, describe_model
from mnv1cli.inference.export.files import ExportFiles, choose_format
from mnv1cli.inference.export.source import choose_source
from mnv1cli.inference.job import average_positions
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules.files import hash_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mnv1cli.inference.export.files import ExportFormat
    from mnv1cli.inference.export.source import ExportSource
    from mnv1cli.inference.models import Model
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.types import FloatArray, Precision

    Run = Callable[[Path, FloatArray], Mapping[str, FloatArray]]

# The numbers of images of noise that a model is compared on: one is often a special case.
_BATCHES = (3, 1)


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A model that was written.

    Attributes:
        path: the file, or the folder of a SavedModel.
        description_path: the JSON file beside it.
        description: the content of that file.
    """

    path: Path
    description_path: Path
    description: Mapping[str, Any]


def export_module(
    predictor: Predictor,
    output: str | os.PathLike[str],
    wanted: ExportFormat | None = None,
    endpoint: str = "",
    pool: bool = True,
    force: bool = False,
) -> ExportedModel:
    """Write the module of a predictor as a model for other programs, and describe it in JSON.

    Args:
        predictor: the module and its settings. Its precision is that of a `.tflite`; how files
            become pixels is in the description.
        output: the file, or the folder of a SavedModel. The description is `output` + `.json`.
        wanted: "tflite", "onnx" or "savedmodel"; None for the format that the suffix of
            `output` stands for.
        endpoint: "logits", "features", or the name of a layer; empty for the logits, or the
            features of a module without them.
        pool: average a layer over height and width, as `embed` does.
        force: replace an existing model and its description.

    Raises:
        OptionError: the format has no such precision, or its packages are not installed.
        SignatureError: the module does not have the endpoint.
        ModuleError: the module cannot be converted, gives other values when it is, or has
            nothing to quantise for int8.
        LabelsError: the settings have class names that do not fit the module.
        OutputError: the model exists, or cannot be written.
    """
    precision = predictor.settings.precision
    places = check_export(os.fspath(output), wanted, precision, force)
    places.refuse_module(predictor.module.path)
    source = choose_source(predictor, endpoint, pool)
    with places.open_work() as work:
        model, text = work / "model", work / "description"
        shape, origin = _write_model(source, places.format, precision, model)
        description = {
            **describe_model(source, predictor.spec, places.format, shape),
            "precision": precision,
            **origin,
            **_describe_files(model),
            # Last, because there may be a thousand of them.
            "classes": describe_classes(source),
        }
        encoded = json.dumps(description, ensure_ascii=False, indent=2).encode("utf-8", "replace")
        text.write_bytes(encoded + b"\n")
        places.publish(model, text, work)
    return ExportedModel(places.target, places.description, description)


def check_export(
    output: str, wanted: ExportFormat | None, precision: Precision, force: bool = False
) -> ExportFiles:
    """Check what can be checked of an export without its module; return the files to write.

    Raises:
        OptionError: the name is not one of the format, the format has no such precision, or
            its packages are not installed.
        EngineError: LiteRT is needed and not installed.
        OutputError: the model exists, or cannot be written.
    """
    chosen = choose_format(output, wanted)
    if precision != "float32" and chosen != "tflite":
        raise OptionError(f"the format {chosen} has no {precision}", ".tflite has it")
    places = ExportFiles(Path(output), chosen, force)
    if chosen != "savedmodel" and not litert_model.is_available():
        raise EngineError(f"LiteRT is not installed, and .{chosen} needs it", "export a SavedModel")
    if chosen == "onnx":
        onnx.require_packages()
    return places


def _write_model(
    source: ExportSource, chosen: ExportFormat, precision: Precision, target: Path
) -> tuple[tuple[int, ...], dict[str, str]]:
    """Write a model and compare it with the module.

    Returns the shape of one image's values, and facts about the origin of an int8 model: its
    recipe and, if it was calibrated, its sha256.
    """
    if chosen == "savedmodel":
        reference = TensorFlowModel(source.module, [source.output])
        savedmodel.write_savedmodel(source, _make_network(source, reference), target)
        return _compare(source, reference, savedmodel.run_savedmodel, target), {}
    compiled = _find_compiled(source, precision)
    if chosen == "onnx":
        tflite_file = target.with_name("compiled")
        tflite.write_tflite(source, compiled, tflite_file)
        onnx.write_onnx(source, tflite_file, target)
        reference = TensorFlowModel(source.module, [source.output])
        return _compare(source, reference, onnx.run_onnx, target), {}
    tflite.write_tflite(source, compiled, target)
    model = LiteRTModel(compiled.model, compiled.outputs, workers=1)
    origin = {
        **({"calibrated": compiled.sha256} if compiled.calibration else {}),
        **({"recipe": compiled.recipe} if compiled.recipe else {}),
    }
    return _compare(source, model, tflite.run_tflite, target), origin


def _find_compiled(source: ExportSource, precision: Precision) -> CompiledModel:
    """Return the compiled model that results of this precision come from."""
    try:
        return find_compiled(source.module, source.output, precision)
    except ModuleError as error:
        if precision == "int8":
            raise
        raise ModuleError(error.what, "a SavedModel may hold it") from error


def _make_network(source: ExportSource, reference: TensorFlowModel) -> Callable[[Any], Any]:
    """Return the function of a tensor of images that is exported."""
    import tensorflow as tf

    def compute(images: Any) -> Any:
        (values,) = reference.function(images)
        if source.pool and values.shape.rank > 2:
            values = tf.reduce_mean(values, axis=list(range(1, values.shape.rank - 1)))
        return tf.identity(values)

    return compute


def _compare(source: ExportSource, model: Model, run: Run, target: Path) -> tuple[int, ...]:
    """Compare what was written with the module on images of noise.

    Returns the shape of one image's values.

    Raises:
        ModuleError: they give different values.
    """
    import numpy as np

    generator = np.random.default_rng(0)
    for number in _BATCHES:
        size = source.image_size
        images = generator.random((number, size, size, 3), dtype=np.float32)
        expected = model(images)[source.output.name]
        if source.pool:
            expected = average_positions(expected)
        results = run(target, images)
        computed = results.get(source.name)
        if computed is None or computed.shape != expected.shape or not agrees(computed, expected):
            raise ModuleError(
                f"module {source.module.handle} gives different {source.output.name} when it is "
                "exported, so nothing was written",
                "export it in another format",
            )
    return expected.shape[1:]


def _describe_files(model: Path) -> dict[str, Any]:
    """Return the checksums of what was written: of a file, or of each file of a folder."""
    if model.is_file():
        return {"size": model.stat().st_size, "sha256": hash_file(model)}
    paths = sorted(path for path in model.rglob("*") if path.is_file())
    return {
        "size": sum(path.stat().st_size for path in paths),
        "sha256": {path.relative_to(model).as_posix(): hash_file(path) for path in paths},
    }
