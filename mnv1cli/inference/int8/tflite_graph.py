"""Models for LiteRT as objects that can be changed: read from bytes, pruned, and written again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mnv1cli.types import FloatArray

_FILE_IDENTIFIER = b"TFL3"
# `force_align` of Buffer.data in TensorFlow Lite's schema.fbs.
_ALIGNMENT = 16


def read_model(data: bytes) -> Any:
    """Read a model into the objects of TensorFlow Lite's schema: a `ModelT`."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(data, 0)


def write_model(model: Any) -> bytes:
    """Write a `ModelT` as the bytes of a `.tflite` file; the model is used up by that."""
    from flatbuffers import Builder

    model.buffers = [_AlignedBuffer(buffer) for buffer in model.buffers]
    builder = Builder(1 << 20)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def get_main_graph(model: Any) -> Any:
    """Return the graph that the model's only signature runs."""
    (signature,) = model.signatureDefs
    return model.subgraphs[signature.subgraphIndex]


def get_kind(model: Any, operator: Any) -> int:
    """Return the `BuiltinOperator` of an operator."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Old models have it only in the second field, which cannot hold the newer operators.
    kind: int = max(code.builtinCode, code.deprecatedBuiltinCode)
    return kind


def read_constant(model: Any, tensor: Any) -> FloatArray | None:
    """Return the values of a float32 tensor in its shape; None where it is not constant."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or tensor.isVariable or data is None:
        return None
    return np.frombuffer(bytes(data), "<f4").reshape(tensor.shape)


def set_data(model: Any, tensor: Any, values: Any) -> None:
    """Give a constant tensor the bytes of an array, in its buffer if no other tensor has that."""
    tensors = (other for graph in model.subgraphs for other in graph.tensors)
    new = append_buffer(model, values)
    if sum(other.buffer == tensor.buffer for other in tensors) > 1:
        tensor.buffer = new
    else:
        model.buffers[tensor.buffer] = model.buffers.pop()


def append_buffer(model: Any, values: Any) -> int:
    """Append the bytes of an array to a model's buffers; return the index of the new buffer."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def remove_unused_operators(model: Any, graph: Any) -> None:
    """Remove the operators that do not lead to an output of the graph, and their data."""
    needed = {int(index) for index in graph.outputs}
    operators = []
    for operator in reversed(graph.operators):
        if needed.isdisjoint(map(int, operator.outputs)):
            continue
        operators.append(operator)
        needed.update(map(int, operator.inputs))
    removed = len(operators) < len(graph.operators)
    graph.operators = operators[::-1]
    if removed:
        _remove_data(model, graph, needed)


def remove_unused_data(model: Any, graph: Any) -> None:
    """Remove the data that no operator of the graph reads, and no other graph has."""
    _remove_data(model, graph, {int(i) for each in graph.operators for i in each.inputs})


def _remove_data(model: Any, graph: Any, needed: Iterable[int]) -> None:
    """Empty the buffers of this graph's tensors, but for those needed and those of other graphs."""
    read = {graph.tensors[index].buffer for index in needed if index >= 0}
    read |= {tensor.buffer for other in model.subgraphs if other is not graph
             for tensor in other.tensors}  # fmt: skip
    # The buffers keep their places, because tensors name them by number.
    for index in {tensor.buffer for tensor in graph.tensors} - read:
        model.buffers[index].data = None


class _AlignedBuffer:
    """The data of a tensor, which begin at a multiple of 16 bytes when they are packed.

    The generated code does not align them, although the schema asks for it.
    """

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name in generated code
        """Add the buffer to a FlatBuffer; return its offset."""
        if self._buffer.data is not None:
            builder.Prep(_ALIGNMENT, len(self._buffer.data))
        offset: int = self._buffer.Pack(builder)
        return offset
