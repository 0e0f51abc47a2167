"""The ten digits that scikit-learn ships, as folders of PNGs; and a small module to train."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mnv1cli.modules import mobilenet, weights
from mnv1cli.types import Variant
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.types import FloatArray


def write_digits(folder: Path, classes: int, each: int) -> Path:
    """`each` images of the first `classes` digits, 8x8 enlarged to 64x64, in a folder a digit."""
    from sklearn.datasets import load_digits

    found = load_digits()
    for number in range(classes):
        place = folder / f"digit {number}"
        place.mkdir(parents=True)
        for i in np.flatnonzero(found.target == number)[:each]:
            grey = (255 - found.images[i] * 255 / 16).astype(np.uint8)
            Image.fromarray(grey).resize((64, 64)).save(place / f"{i:04}.png")
    return folder


def write_small_module(directory: Path, size: int = 64) -> Path:
    """The bundled weights as a feature module for small images."""
    found = weights.read_weights(bundled_weights())
    directory.mkdir()
    mobilenet.write_module(directory, weights.remove_head(found), Variant(1.0, size))
    return directory


def bundled_weights() -> Path:
    """The archive that comes with the package."""
    (found,) = (ROOT / "mnv1cli").rglob("*.npz")
    return found


def logits_of(directory: Path, pixels: FloatArray) -> FloatArray:
    """What TensorFlow alone makes of a module's graph without tags."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory), tags=[])
    result: FloatArray = loaded.signatures["default"](tf.constant(pixels))["default"].numpy()
    return result
