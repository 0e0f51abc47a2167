"""Compiled models in int8 for OpenVINO, calibrated by its own tool, NNCF (extra `quantize`).

It works in a process of its own, which is begun again if it crashes: now and then OpenVINO does
while NNCF compiles a network for several streams.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mnv1cli.errors import EngineError, Mnv1Error, ModuleError
from mnv1cli.inference import openvino_model, openvino_network
from mnv1cli.inference.int8 import recipes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mnv1cli.inference.int8.recipes import Recipe
    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.types import FloatArray

# A process that ends by a signal has crashed, which it rarely does twice.
_ATTEMPTS = 4
# The type of a depthwise convolution in OpenVINO.
_DEPTHWISE = "GroupConvolution"


class Task(NamedTuple):
    """A model to make: of the compiled module `floats`, by one of NNCF's recipes.

    `images` are pixels float32 [n, size, size, 3], which `calibration` describes; `handle` is
    the name of the module in messages.
    """

    floats: CompiledModel
    recipe: Recipe
    images: FloatArray
    calibration: Mapping[str, Any]
    handle: str


def is_available() -> bool:
    """Return whether NNCF and OpenVINO are installed, without importing them."""
    return openvino_model.is_available() and importlib.util.find_spec("nncf") is not None


def calibrate(task: Task) -> CompiledModel:
    """Make the int8 model of a compiled module for OpenVINO, in a process of its own.

    Biases are corrected layer by layer, which takes longer than NNCF's default and agrees
    better: 97 % of labels instead of 93 %.

    Raises:
        EngineError: NNCF or OpenVINO is not installed.
        ModuleError: NNCF cannot quantise the module, or the recipe makes no difference to it.
    """
    # -P: a file in the working folder must not stand in for a library.
    command = [sys.executable, "-P", "-m", __name__]
    for _ in range(_ATTEMPTS):
        done = subprocess.run(command, input=pickle.dumps(task), capture_output=True, check=False)  # noqa: S603 - its own code
        if done.returncode >= 0:
            break
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").split("\n")
        reason = next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")
        raise ModuleError(
            f"NNCF ended with exit code {done.returncode} at module {task.handle}: {reason}"
        )
    outcome = pickle.loads(done.stdout)  # noqa: S301 - written by `run_task`
    if isinstance(outcome, Mnv1Error):
        raise outcome
    made: CompiledModel = outcome
    return made


def run_task() -> None:
    """Read the task of `calibrate` from stdin; write the model or its error to stdout."""
    task = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by `calibrate`
    with os.fdopen(os.dup(1), "wb") as results:
        # NNCF draws bars and logs to stdout.
        os.dup2(2, 1)
        try:
            outcome: CompiledModel | Mnv1Error = _calibrate_here(task)
        except Mnv1Error as error:
            outcome = error
        pickle.dump(outcome, results)


def _calibrate_here(task: Task) -> CompiledModel:
    floats, recipe, images, calibration, handle = task
    with _import_nncf() as nncf:
        core, outputs = openvino_model.make_core(), len(floats.outputs)
        network = openvino_network.read_network(core, floats.model, b"", outputs)
        openvino_network.name_layers(network)
        ignored = _list_ignored(network, recipe)
        if not ignored and recipe != recipes.NNCF:
            raise ModuleError(f"module {handle} has no depthwise convolutions")
        try:
            quantized = nncf.quantize(
                network,
                nncf.Dataset([images[i : i + 1] for i in range(len(images))]),
                subset_size=len(images),
                fast_bias_correction=False,
                ignored_scope=nncf.IgnoredScope(names=ignored),
            )
        except Exception as error:  # its errors have nothing else in common
            reason = " ".join(str(error).split())
            raise ModuleError(f"NNCF cannot quantise module {handle}: {reason}") from error
        model, weights = openvino_network.write_network(quantized)
    return replace(
        floats,
        model=model,
        weights=weights,
        precision="int8",
        calibration=calibration,
        recipe=recipe.name,
    )


@contextlib.contextmanager
def _import_nncf() -> Iterator[Any]:
    """Import NNCF without its reports to a server."""
    if not is_available():
        raise EngineError("NNCF is not installed", "pip install 'mnv1cli[quantize]'")
    with openvino_model.without_telemetry():
        try:
            import nncf
        except ImportError as error:
            reason = " ".join(str(error).split())
            raise EngineError(f"NNCF cannot be loaded: {reason}", "install it again") from error
        nncf.set_log_level(logging.ERROR)
        yield nncf


def _list_ignored(network: Any, recipe: Recipe) -> list[str]:
    """List the layers of a network that a recipe leaves in float32."""
    operations = network.get_ordered_ops()
    names = [op.get_friendly_name() for op in operations if op.get_type_name() == _DEPTHWISE]
    return names[:1] if recipe == recipes.NNCF else names


if __name__ == "__main__":
    run_task()
