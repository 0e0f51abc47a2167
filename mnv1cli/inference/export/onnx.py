"""A module as an `.onnx` file, converted by tf2onnx."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError, OptionError
from mnv1cli.inference.export.description import INPUT
from mnv1cli.modules.savedmodel import describe_error
from mnv1cli.system import tempdirs
from mnv1cli.system.threads import ordered_map

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.inference.export.source import ExportSource
    from mnv1cli.types import FloatArray

# The set of operators of ONNX 1.12 (2022), which all runtimes in use have.
_OPSET = 17
_BATCH = "batch"
_REMEDY = "a .tflite or a SavedModel may hold it"
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


def write_onnx(source: ExportSource, tflite: Path, target: Path) -> None:
    """Write the model of a `.tflite` file as an ONNX model, for batches of any size.

    A compiled model is the simplest form of a module: its variables are constants, its batch
    norm is in the weights, and its functions are inlined.

    Raises:
        ModuleError: it has operations that cannot be converted.
    """
    from onnx import defs
    from tf2onnx import convert

    def convert_file(file: Path) -> Any:
        model, _ = convert.from_tflite(os.fspath(file), opset=_OPSET)
        return model

    problem = f"module {source.module.handle} cannot be converted to ONNX"
    try:
        with tempdirs.redirect_temporary_files():
            # In a thread: the exception of a signal must not be raised where the converter
            # catches it.
            (model,) = ordered_map(convert_file, [tflite], workers=1)
    except Exception as error:  # the converter raises whatever its passes raise
        raise ModuleError(f"{problem}: {describe_error(error)}", _REMEDY) from error
    operators = {node.op_type for node in model.graph.node if not defs.has(node.op_type)}
    if operators:
        raise ModuleError(
            f"{problem}: tf2onnx does not know {', '.join(sorted(operators))}", _REMEDY
        )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    _renumber(model.graph)
    model.graph.name = source.name
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
