"""Decode any bytes: an image, or a reason in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.harness import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[bytes], None]:
    import numpy as np

    from mnv1cli.errors import ImageError
    from mnv1cli.types import PixelSpec
    from tests.support.pixels import load_pixels

    spec = PixelSpec(16, "pad", max_pixels=4_000_000)

    def target(data: bytes) -> None:
        try:
            found = load_pixels(data, spec)
            reason = ""
        except ImageError as error:
            found, reason = np.zeros(1, np.float32), str(error)
        assert reason.isprintable()
        assert np.isfinite(found).all()

    return target


if __name__ == "__main__":
    fuzz(load)
