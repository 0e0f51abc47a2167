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


def write_digits(folder: Path, classes: int, images_per_class: int) -> Path:
    """Write images of the first `classes` digits, 8x8 enlarged to 64x64, a folder per digit."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number in range(classes):
        place = folder / f"digit {number}"
        place.mkdir(parents=True)
        for i in np.flatnonzero(digits.target == number)[:images_per_class]:
            grey = (255 - digits.images[i] * 255 / 16).astype(np.uint8)
            Image.fromarray(grey).resize((64, 64)).save(place / f"{i:04}.png")
    return folder


def write_small_module(directory: Path, size: int = 64) -> Path:
    """Write the bundled weights as a feature module for small images."""
    variables = weights.read_weights(find_bundled_weights())
    directory.mkdir()
    mobilenet.write_module(directory, weights.remove_head(variables), Variant(1.0, size))
    return directory


def find_bundled_weights() -> Path:
    """Find the archive that comes with the package."""
    (archive,) = (ROOT / "mnv1cli").rglob("*.npz")
    return archive


def compute_logits(directory: Path, pixels: FloatArray) -> FloatArray:
    """Compute logits in the graph of a module without tags, with nothing but TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory), tags=[])
    logits: FloatArray = loaded.signatures["default"](tf.constant(pixels))["default"].numpy()
    return logits
