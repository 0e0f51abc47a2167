"""Exported models as a program sees them that knows nothing of mnv1: `examples/exported_model.py`.

It has only the file and its description, and does the steps that are written there.
"""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mnv1cli.types import FloatArray

PROGRAM = ROOT / "examples" / "exported_model.py"


def load_program() -> Any:
    """Import the example."""
    spec = importlib.util.spec_from_file_location(PROGRAM.stem, PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def describe(model: Path) -> dict[str, Any]:
    """Read the description of a model."""
    text = model.with_name(f"{model.name}.json").read_text("utf-8")
    description: dict[str, Any] = json.loads(text)
    return description


def run(model: Path, photos: Iterable[Path]) -> FloatArray:
    """Return the values that a model gives for photos, [n, ...], which are as described."""
    program, names = load_program(), [str(photo) for photo in photos]
    values: FloatArray
    values, description = program.run(str(model), names)
    pixels = program.load(names[0], description)
    wanted = description["input"]
    assert (wanted["layout"], wanted["colour_order"]) == ("NHWC", "RGB")
    assert [None, *pixels.shape] == wanted["shape"]
    assert pixels.dtype == np.dtype(wanted["dtype"])
    assert wanted["range"][0] <= pixels.min() <= pixels.max() <= wanted["range"][1]
    (output,) = description["outputs"]
    assert [None, *values.shape[1:]] == output["shape"]
    assert values.dtype == np.dtype(output["dtype"])
    return values
