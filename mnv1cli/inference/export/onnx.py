"""A module as an `.onnx` file, converted by tf2onnx."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError, OptionError
from mnv1cli.inference.export.description import INPUT
from mnv1cli.modules.savedmodel import describe_error
from mnv1cli.system import tempdirs
from mnv1cli.system.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mnv1cli.inference.export.source import ExportSource
    from mnv1cli.types import FloatArray

# The set of operators of ONNX 1.12 (2022), which all runtimes in use have.
_OPSET = 17
_BATCH = "batch"
_NUMBERED = re.compile(r"__[0-9]+(:[0-9]+)?$")


def require_packages() -> None:
    """Refuse to go on without the packages of the extra `onnx`.

    Raises:
        OptionError: one of them is not installed; names the extra.
    """
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise OptionError(f".onnx needs {error.name}", "pip install 'mnv1cli[onnx]'") from error


def write_onnx(source: ExportSource, network: Callable[[Any], Any], target: Path) -> None:
    """Write `network` as an ONNX model, for batches of any size.

    Raises:
        ModuleError: it has operations that cannot be converted.
    """
    import tensorflow as tf
    from tf2onnx import convert

    images = tf.TensorSpec([None, source.image_size, source.image_size, 3], tf.float32, name=INPUT)
    function = tf.function(lambda images: {source.name: network(images)}, autograph=False)

    def convert_function(function: Any) -> Any:
        model, _ = convert.from_function(function, input_signature=[images], opset=_OPSET)
        return model

    try:
        with tempdirs.redirect_temporary_files():
            # In a thread: the exception of a signal must not be raised where the converter
            # catches it.
            (model,) = ordered_map(convert_function, [function], workers=1)
    except Exception as error:  # the converter raises whatever its passes raise
        raise ModuleError(
            f"module {source.module.handle} cannot be converted to ONNX: {describe_error(error)}",
            "a SavedModel holds it as it is",
        ) from error
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    _renumber(model.graph)
    model.graph.name = source.name
    # The name of the function that was converted, which has a number of this process.
    model.graph.doc_string = ""
    target.write_bytes(model.SerializeToString(deterministic=True))


def _renumber(graph: Any) -> None:
    """Number nodes and values anew, in their order, where the converter has numbered them.

    It counts on from one conversion to the next, and merges equal constants in an order that
    changes from process to process. Afterwards the same module gives the same bytes.
    """
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        # The graph of a condition may use values of this one.
        return
    constants = {tensor.name for tensor in graph.initializer}
    names: dict[str, str] = {value.name: value.name for value in (*graph.input, *graph.output)}

    def rename(name: str) -> str:
        if _NUMBERED.search(name) and name not in names:
            names[name] = f"{'constant' if name in constants else 'value'}_{len(names)}"
        return names.get(name, name)

    for i, node in enumerate(graph.node):
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
        if _NUMBERED.search(node.name):
            node.name = f"node_{i}"
    # Shapes of values, which a reader can compute again.
    del graph.value_info[:]
    used = list(dict.fromkeys(name for node in graph.node for name in node.input))
    tensors = {rename(tensor.name): tensor for tensor in graph.initializer}
    for name, tensor in tensors.items():
        tensor.name = name
    ordered = [tensors[name] for name in used if name in tensors]
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def run_onnx(file: Path, pixels: FloatArray) -> dict[str, FloatArray]:
    """Run an ONNX model for pixels float32 [n, size, size, 3].

    Raises:
        ModuleError: ONNX Runtime cannot load or run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Only fatal errors: what concerns the user is raised.
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {INPUT: pixels}), strict=True))
    except Exception as error:  # its exceptions have no common public class
        raise ModuleError(
            f"ONNX Runtime cannot run the exported model: {describe_error(error)}"
        ) from error
