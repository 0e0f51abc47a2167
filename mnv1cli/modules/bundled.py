"""The module built from the weights that come with the package, in each size of the family.

The weights are those of MobileNet V1 1.00, trained at 224x224.
"""

from __future__ import annotations

import logging
from importlib import resources
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError
from mnv1cli.modules import cache, catalog, files, mobilenet, weights
from mnv1cli.types import Variant

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

log = logging.getLogger(__name__)

BUNDLED = "bundled"
# Without a size it is that of the hub's module.
_DEFAULT_SIZE, _TRAINED_SIZE = 128, 224
_WEIGHTS = "weights/mobilenet_v1_1.0_224.fp16.npz"


def build_once(image_size: int | None, is_sound: Callable[[Path], bool]) -> Path:
    """Return the directory of the bundled module for images of `image_size`, else 128, pixels.

    It is built on first use, and again if it is not sound.

    Raises:
        OptionError: the family has no modules for images of this size.
        ModuleError: the cache cannot be written, and there is no room elsewhere.
    """
    size = _DEFAULT_SIZE if image_size is None else image_size
    if size not in catalog.IMAGE_SIZES:
        *sizes, last = map(str, catalog.IMAGE_SIZES)
        raise OptionError(
            f"module {BUNDLED} is not made for images of {size}x{size}",
            f"use --image-size {', '.join(sizes)} or {last}",
        )

    def fill(directory: Path) -> None:
        log.info("preparing the module (once)")
        with _open_weights() as path:
            variables = weights.read_weights(path)
        mobilenet.write_module(directory, variables, Variant(1.0, size))

    return cache.install(make_cache_name(size), fill, is_sound)


def make_cache_name(image_size: int = _DEFAULT_SIZE) -> str:
    """Name the bundled module in the cache: other weights, graph or size, another name."""
    with _open_weights() as path:
        name = f"{BUNDLED}:{mobilenet.REVISION}:{files.hash_file(path)[:32]}"
    # Caches have the module of the default size under the name without it.
    return name if image_size == _DEFAULT_SIZE else f"{name}:{image_size}"


def parse_image_size(name: str) -> int | None:
    """Return the image size in a name by `make_cache_name`; None for any other name."""
    kind, *parts = name.split(":")
    if kind != BUNDLED or not parts:
        return None
    return int(parts[2]) if len(parts) == 3 and parts[2].isdecimal() else _DEFAULT_SIZE


def describe_loss(image_size: int | None) -> str:
    """Say what a size costs in accuracy, and what to do; empty for the size of the training."""
    size = image_size or _DEFAULT_SIZE
    if size == _TRAINED_SIZE:
        return ""
    return (
        f" and are less accurate at {size}x{size}: --image-size {_TRAINED_SIZE} gives better labels"
    )


def _open_weights() -> AbstractContextManager[Path]:
    return resources.as_file(resources.files("mnv1cli") / "data" / _WEIGHTS)
