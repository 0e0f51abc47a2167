"""Compiled modules read as networks of OpenVINO, with their outputs in order."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from mnv1cli.errors import EngineError, ModuleError
from mnv1cli.system import tempdirs

# The bytes from the fourth on by which a file says that it is one for LiteRT.
_IDENTIFIER = b"TFL3"


def read_network(core: Any, model: bytes, weights: bytes, outputs: int) -> Any:
    """Read a compiled module as a network of OpenVINO with so many outputs, in their order.

    `model` is one for LiteRT, or with its `weights` one that was written by `write_network`.

    Raises:
        ModuleError: the model is not one for LiteRT.
        RuntimeError: OpenVINO cannot read it.
    """
    if weights:
        return core.read_model(model, weights)
    if model[4:8] != _IDENTIFIER:
        # OpenVINO would ask its readers of other formats, which print what they think of it.
        raise ModuleError("OpenVINO cannot load the compiled module: it is not one for LiteRT")
    import openvino

    network = _read_file(core, model)
    results = network.get_results()
    ordered = [results[index] for index in _order_outputs(model, network, outputs)]
    return openvino.Model(ordered, network.get_parameters(), "module")


def write_network(network: Any) -> tuple[bytes, bytes]:
    """Return a network in OpenVINO's own format, and its weights.

    The same network gives the same bytes: OpenVINO numbers the names of layers on and on, model
    after model, so they are named by their order.
    """
    import openvino

    name_layers(network)
    with tempfile.TemporaryDirectory(prefix="mnv1-", ignore_cleanup_errors=True) as folder:
        path = os.path.join(folder, "model")
        openvino.save_model(network, f"{path}.xml", compress_to_fp16=False)
        with open(f"{path}.xml", "rb") as model, open(f"{path}.bin", "rb") as weights:
            return model.read(), weights.read()


def name_layers(network: Any) -> None:
    """Name the layers of a network by their order."""
    for number, operation in enumerate(network.get_ordered_ops()):
        operation.set_friendly_name(f"layer_{number}")


def _read_file(core: Any, model: bytes) -> Any:
    """Read a model; OpenVINO reads this format from files only."""
    scratch = tempdirs.make_scratch_dir()
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "model.tflite"
        try:
            file.write_bytes(model)
        except OSError as error:
            raise EngineError(
                f"OpenVINO needs a copy of the compiled module in {scratch.parent}, which cannot "
                f"be written: {error.strerror}",
                "set TMPDIR to another directory",
            ) from error
        return core.read_model(file)


def _order_outputs(model: bytes, read: Any, outputs: int) -> list[int]:
    """Return the indices of a model's outputs in the order in which they were compiled.

    The signature of the model has that order; OpenVINO knows only the names of its tensors.
    """
    if outputs == 1:
        return [0]
    from ai_edge_litert import schema_py_generated as schema

    root = schema.Model.GetRootAs(model, 0)
    signature = root.SignatureDefs(0)
    graph = root.Subgraphs(signature.SubgraphIndex())
    results = [signature.Outputs(i) for i in range(signature.OutputsLength())]
    names = {result.Name(): graph.Tensors(result.TensorIndex()).Name() for result in results}
    aliases = [output.names for output in read.outputs]
    ordered = [names[f"output_{i}".encode()].decode() for i in range(outputs)]
    return [next(i for i, names_of in enumerate(aliases) if name in names_of) for name in ordered]
