"""The variables of MobileNet V1: their names and shapes, read from files.

The names are those of TF-Slim's `mobilenet_v1.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import WeightsError
from mnv1cli.modules.formats import checkpoint_variables, checkpoints
from mnv1cli.types import Variant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Variables = Mapping[str, NDArray[np.generic]]

SCOPE = "MobilenetV1"
HEAD = f"{SCOPE}/Logits/Conv2d_1c_1x1"

# (stride, output channels) of the thirteen separable convolutions after the first
# convolution, which has stride 2 and 32 channels: arXiv:1704.04861, table 1.
_SEPARABLE = (
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), (1, 512),
    (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024),
)  # fmt: skip
_FIRST_CHANNELS = 32
_MIN_CHANNELS = 8
_DEFAULT_SIZE = 128


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution with its batch norm and ReLU6: an endpoint of the network."""

    name: str
    stride: int
    channels: int
    depthwise: bool

    @property
    def kernel(self) -> str:
        """The name of the layer's kernel in TF-Slim."""
        return "depthwise_weights" if self.depthwise else "weights"

    def kernel_shape(self, channels_in: int) -> tuple[int, int, int, int]:
        """Return the kernel's shape for a number of input channels: [h, w, in, out or 1]."""
        if self.depthwise:
            return (3, 3, channels_in, 1)
        side = 3 if self.name == "Conv2d_0" else 1
        return (side, side, channels_in, self.channels)


def list_layers(depth_multiplier: float) -> list[Layer]:
    """List the 27 convolutions in order; their channels are scaled, and at least 8."""

    def scaled(channels: int) -> int:
        return max(int(channels * depth_multiplier), _MIN_CHANNELS)

    layers = [Layer("Conv2d_0", 2, scaled(_FIRST_CHANNELS), depthwise=False)]
    for i, (stride, channels) in enumerate(_SEPARABLE, start=1):
        previous = layers[-1].channels
        layers.append(Layer(f"Conv2d_{i}_depthwise", stride, previous, depthwise=True))
        layers.append(Layer(f"Conv2d_{i}_pointwise", 1, scaled(channels), depthwise=False))
    return layers


def list_shapes(
    depth_multiplier: float = 1.0, classes: int | None = 1001
) -> dict[str, tuple[int, ...]]:
    """List the shape of every variable by name; `classes=None` leaves the head out."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for layer in list_layers(depth_multiplier):
        scope = f"{SCOPE}/{layer.name}"
        shapes[f"{scope}/{layer.kernel}"] = layer.kernel_shape(channels)
        channels = layer.channels
        for statistic in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{scope}/BatchNorm/{statistic}"] = (channels,)
    if classes is not None:
        shapes[f"{HEAD}/weights"] = (1, 1, channels, classes)
        shapes[f"{HEAD}/biases"] = (classes,)
    return shapes


_NAMES = frozenset(list_shapes())


def count_classes(variables: Variables) -> int | None:
    """Return the number of classes of the head, None without a head."""
    biases = variables.get(f"{HEAD}/biases")
    return None if biases is None else int(biases.shape[0])


def check_shapes(variables: Variables, shapes: dict[str, tuple[int, ...]]) -> None:
    """Compare variables with the shapes that they should have.

    Raises:
        WeightsError: a variable is missing or of another shape.
    """
    missing = [name for name in shapes if name not in variables]
    if missing:
        raise WeightsError(
            f"{len(missing)} of {len(shapes)} variables are missing, the first is {missing[0]}",
            "are these the weights of a MobileNet V1 under their TF-Slim names?",
        )
    for name, shape in shapes.items():
        if variables[name].shape != shape:
            raise WeightsError(
                f"variable {name} has the shape {variables[name].shape}, not {shape}",
                "check the depth multiplier",
            )


def read_weights(path: Path) -> dict[str, Any]:
    """Read the variables in an `.npz` file, by their TF-Slim names.

    Raises:
        WeightsError: `path` is not an `.npz` file of arrays.
    """
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} is not an .npz file of weights: {error}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the network's variables from the checkpoint that a path means, as `find_checkpoint`.

    Names may begin with a scope. Other variables are left out: the optimizer's slots,
    averages, the global step.

    Raises:
        WeightsError: there is no checkpoint, or it cannot be read.
    """
    return checkpoint_variables.read_variables(checkpoints.find_checkpoint(path), _NAMES)


def remove_head(variables: Variables) -> dict[str, Any]:
    """Return the variables without those of the classification head."""
    return {name: value for name, value in variables.items() if not name.startswith(HEAD)}


def infer_variant(
    variables: Variables, depth_multiplier: float | None = None, image_size: int | None = None
) -> Variant:
    """Infer the variant of variables: the depth multiplier by the width of the first layer.

    No variable contains the image size; it is 128 pixels unless it is given.

    Raises:
        WeightsError: the first layer is missing.
    """
    if depth_multiplier is None:
        first = variables.get(f"{SCOPE}/Conv2d_0/weights")
        if first is None or first.ndim != 4:
            raise WeightsError(
                f"variable {SCOPE}/Conv2d_0/weights is missing",
                "are these the weights of a MobileNet V1 under their TF-Slim names?",
            )
        depth_multiplier = first.shape[3] / _FIRST_CHANNELS
    return Variant(depth_multiplier, image_size or _DEFAULT_SIZE)
