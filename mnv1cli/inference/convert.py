"""Conversion of a module to a model for LiteRT: frozen, pruned, folded, and int8 on demand."""

from __future__ import annotations

import re
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from mnv1cli.errors import Mnv1Error, ModuleError
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules.artifacts import STATIC, CompiledModel
from mnv1cli.modules.savedmodel import describe_error
from mnv1cli.system import tempdirs
from mnv1cli.system.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import FloatArray

# To be raised with every change of the models made here: they are then compiled again.
REVISION = 1

# Operations on lists of tensors, and the converter's message about one that LiteRT lacks.
_LISTS = "TensorList"
_LACKING = re.compile(r"'(tf\.\w+)' op is neither a custom op nor a flex op")

# How far the values of a converted module may be from those of the module, relative to the
# largest value where that is above 1.
_TOLERANCE = 1e-3


class _Calibration(NamedTuple):
    """The images that determine int8 scales, and whether a softmax stays in float32."""

    images: list[FloatArray]
    keeps_softmax: bool


def version() -> str:
    """Return the version of converter and TensorFlow, without importing TensorFlow."""
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            return f"{REVISION}/{metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return f"{REVISION}/unknown"


def is_current(compiled: CompiledModel) -> bool:
    """Return whether a model is the one that would be made now."""
    return compiled.converter == version()


def is_usable(compiled: CompiledModel) -> bool:
    """Return whether a model was made by this converter, with any version of TensorFlow.

    A calibrated model cannot be made again without its images.
    """
    return compiled.converter.partition("/")[0] == str(REVISION)


def compile_module(module: HubModule, outputs: Sequence[Output]) -> CompiledModel:
    """Compile a module's inference graph with these outputs, in float32, and check it.

    Raises:
        ModuleError: the graph cannot be converted, or gives other results when it is.
    """
    reference = TensorFlowModel(module, outputs)
    model = _convert(module, outputs, reference)
    names = tuple(output.name for output in outputs)
    _check(LiteRTModel(model, names, workers=1), reference, module, outputs)
    size = choose_key(module, outputs)
    return CompiledModel(
        model, names, "float32", version(), image_size=size, input_range=module.input_range
    )


def quantize_module(
    module: HubModule,
    outputs: Sequence[Output],
    images: Iterable[FloatArray],
    calibration: Mapping[str, Any],
    keeps_softmax: bool = False,
) -> CompiledModel:
    """Compile a module with weights and activations in int8; input and outputs stay float32.

    Weights have a scale per channel, activations one per tensor, which `images` determine:
    pixels float32 [1, size, size, 3] each. With `keeps_softmax` a softmax stays in float32: in
    int8 its results are multiples of 1/256, and most of a thousand classes get 0.

    Raises:
        ModuleError: the graph cannot be converted.
    """
    calibrated = _Calibration(list(images), keeps_softmax)
    model = _convert(module, outputs, TensorFlowModel(module, outputs), calibrated)
    names = tuple(output.name for output in outputs)
    size = choose_key(module, outputs)
    return CompiledModel(
        model, names, "int8", version(), calibration, size, module.input_range, STATIC
    )


def choose_key(module: HubModule, outputs: Sequence[Output]) -> int | None:
    """Return the image size that a compiled model is kept under; None if the module states it."""
    size = outputs[0].images.shape[1]
    return None if size == module.image_size else size


def _convert(
    module: HubModule,
    outputs: Sequence[Output],
    reference: TensorFlowModel,
    calibration: _Calibration | None = None,
) -> bytes:
    import tensorflow as tf

    size = outputs[0].images.shape[1]

    def name_outputs(images: Any) -> dict[str, Any]:
        results = reference.function(images)
        # An output that is equal to another would be left out.
        return {f"output_{i}": tf.identity(result) for i, result in enumerate(results)}

    spec = tf.TensorSpec([None, size, size, 3], tf.float32, name="images")
    try:
        function = tf.function(name_outputs, autograph=False).get_concrete_function(spec)
        if calibration is not None:
            _require_calibratable(function, module.handle)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], reference.owner)
        convert = _convert_as_it_is
        if calibration is not None:
            images = calibration.images
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image] for image in images)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            if calibration.keeps_softmax:
                convert = _convert_but_softmax
        with tempdirs.redirect_temporary_files():
            # In a thread: the exception of a signal must not be raised where the converter
            # catches it.
            (model,) = ordered_map(convert, [converter], workers=1)
    except ModuleError:
        raise
    except Exception as error:  # the converter raises whatever its passes raise
        raise ModuleError(
            f"module {module.handle} cannot be compiled for LiteRT: {_describe(error)}",
            "--engine tf runs it as it is",
        ) from error
    return bytes(model)


def _convert_as_it_is(converter: Any) -> Any:
    return converter.convert()


def _convert_but_softmax(converter: Any) -> Any:
    """Convert a module to int8 with its softmax in float32."""
    import tensorflow as tf

    tools = tf.lite.experimental
    with warnings.catch_warnings():
        # That its interpreter will move to the package which we use.
        warnings.simplefilter("ignore")
        debugger = tools.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=tools.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"]),
        )
        return debugger.get_nondebug_quantized_model()


def _require_calibratable(function: Any, handle: str) -> None:
    """Refuse a graph with lists of tensors, on which the calibration ends the process.

    Loops over images, as `tf.map_fn` makes them, have such lists.

    Raises:
        ModuleError: the graph has some.
    """
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    if any(node.op.startswith(_LISTS) for node in nodes):
        raise ModuleError(f"module {handle} has loops over lists, which have no int8")


def _describe(error: Exception) -> str:
    """Describe an error of the converter; one about an operation names only that."""
    lacking = _LACKING.search(str(error))
    if lacking:
        return f"LiteRT does not have {lacking[1]} as the module uses it"
    return describe_error(error)


def _check(
    model: LiteRTModel, reference: TensorFlowModel, module: HubModule, outputs: Sequence[Output]
) -> None:
    """Compare the compiled module with the module on a few images of noise."""
    import numpy as np

    size = outputs[0].images.shape[1]
    images = np.random.default_rng(0).random((3, size, size, 3), dtype=np.float32)
    expected = reference(images)
    try:
        computed = model(images)
    except Mnv1Error as error:
        # For so few images it is not the memory, whatever LiteRT says: it lacks an operation.
        raise ModuleError(
            f"module {module.handle} can be compiled for LiteRT, but LiteRT cannot run it",
            "--engine tf runs it as it is",
        ) from error
    for name, values in expected.items():
        if not agrees(computed[name], values):
            raise ModuleError(
                f"module {module.handle} gives different {name} when it is compiled for LiteRT",
                "--engine tf runs it as it is",
            )


def agrees(computed: FloatArray, expected: FloatArray) -> bool:
    """Return whether the values of a converted module are those of the module, NaN included.

    Both have one shape; the largest difference allowed is a thousandth of the largest value, or of
    1 where all values are smaller.
    """
    import numpy as np

    limit = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    return np.allclose(computed, expected, rtol=0, atol=limit, equal_nan=True)
