"""The bundled weights as an ONNX file, which ONNX Runtime and OpenVINO read.

    python onnx_model.py mobilenet.onnx

Input `images`: float32 [batch, 3, 128, 128], RGB in [-1, 1]; output `logits`.
Batch norm is folded into the convolutions, as `torch.onnx` exports them.
"""

from __future__ import annotations

import sys
from typing import Any

import onnx
from common import SIZE, convolutions
from onnx import TensorProto, helper, numpy_helper


def build() -> Any:
    """Return the ModelProto."""
    nodes: list[Any] = []
    initializers: list[Any] = []

    def constant(name: str, value: Any) -> str:
        initializers.append(numpy_helper.from_array(value, name))
        return name

    layers = list(convolutions())
    low, high = (constant(n, layers[0][3][0] * 0 + v) for n, v in (("low", 0), ("high", 6)))
    net = "images"
    for i, (stride, depthwise, kernel, bias) in enumerate(layers):
        last = i == len(layers) - 1
        if last:
            nodes.append(helper.make_node("GlobalAveragePool", [net], ["features"]))
            net = "features"
        inputs = [net, constant(f"kernel_{i}", kernel), constant(f"bias_{i}", bias)]
        nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [f"conv_{i}"],
                group=len(kernel) if depthwise else 1,
                kernel_shape=kernel.shape[2:],
                strides=[stride, stride],
                pads=_pads(kernel.shape[2], stride),
            )
        )
        net = f"conv_{i}"
        if not last:
            nodes.append(helper.make_node("Clip", [net, low, high], [f"relu6_{i}"]))
            net = f"relu6_{i}"
    nodes.append(helper.make_node("Flatten", [net], ["logits"]))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1001])
    graph = helper.make_graph(nodes, "mobilenet_v1", [images], [logits], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _pads(side: int, stride: int) -> list[int]:
    """Return the padding of SAME for even sides: with stride 2 only at the bottom and the right."""
    if side == 1:
        return [0, 0, 0, 0]
    return [0, 0, 1, 1] if stride == 2 else [1, 1, 1, 1]


def main() -> int:
    """Write the file that the command line names."""
    model = build()
    onnx.checker.check_model(model)
    onnx.save(model, sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
