"""A compiled module as a `.tflite` file: one output, and names that other programs can use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError
from mnv1cli.inference.export.description import INPUT
from mnv1cli.inference.int8 import tflite_graph

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.inference.export.source import ExportSource
    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.types import FloatArray


def write_tflite(source: ExportSource, compiled: CompiledModel, target: Path) -> None:
    """Write a compiled model with one of its outputs, and the operations that lead to it.

    They are those of `compiled`, and so are their weights.
    """
    target.write_bytes(_select_output(source, compiled))


def run_tflite(file: Path, pixels: FloatArray) -> dict[str, FloatArray]:
    """Run a `.tflite` file through its signature, for pixels float32 [n, size, size, 3].

    Raises:
        ModuleError: LiteRT cannot load or run it.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=file.read_bytes(), num_threads=1)
        results: dict[str, FloatArray] = interpreter.get_signature_runner()(**{INPUT: pixels})
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModuleError(f"LiteRT cannot run the exported model: {reason}") from error
    return results


def _select_output(source: ExportSource, compiled: CompiledModel) -> bytes:
    model = tflite_graph.read_model(compiled.model)
    (signature,) = model.signatureDefs
    graph = tflite_graph.get_main_graph(model)
    key = f"output_{compiled.outputs.index(source.output.name)}".encode()
    (kept,) = (entry for entry in signature.outputs if entry.name == key)
    if source.pool:
        kept.tensorIndex = _append_mean(model, graph, kept.tensorIndex)
    kept.name = source.name.encode()
    signature.outputs, graph.outputs = [kept], [kept.tensorIndex]
    # Readers without signatures know a tensor by its own name.
    graph.tensors[signature.inputs[0].tensorIndex].name = INPUT.encode()
    graph.tensors[kept.tensorIndex].name = source.name.encode()
    tflite_graph.remove_unused_operators(model, graph)
    return tflite_graph.write_model(model)


def _append_mean(model: Any, graph: Any, index: int) -> int:
    """Append the mean of a tensor over all axes but its first and last; return its index.

    A tensor of two axes is left as it is.
    """
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    values = graph.tensors[index]
    rank = len(values.shape)
    if rank <= 2:
        return index
    axes, mean = schema.TensorT(), schema.TensorT()
    code = schema.OperatorCodeT()
    numbers = np.arange(1, rank - 1, dtype="<i4")
    axes.name, axes.type = b"axes", schema.TensorType.INT32
    axes.shape, axes.buffer = [len(numbers)], tflite_graph.append_buffer(model, numbers)
    mean.type, mean.buffer = values.type, 0
    mean.shape = [values.shape[0], values.shape[-1]]
    mean.shapeSignature = [-1, values.shape[-1]]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MEAN
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes)
    operator.inputs = [index, len(graph.tensors)]
    operator.outputs = [len(graph.tensors) + 1]
    operator.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    operator.builtinOptions = schema.ReducerOptionsT()
    model.operatorCodes.append(code)
    graph.tensors += [axes, mean]
    graph.operators.append(operator)
    return len(graph.tensors) - 1
