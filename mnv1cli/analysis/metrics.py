"""Measures of accuracy and of calibration, with confidence intervals."""

from __future__ import annotations

import math

# The quantile of the normal distribution for 95 %.
_Z = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate of `successes` among `n`, as fractions of 1.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    Without any trial it is 0 to 1.
    """
    if not n:
        return 0.0, 1.0
    rate, z2 = successes / n, _Z**2
    centre = rate + z2 / (2 * n)
    margin = _Z * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    # Rounding must not push a rate of 0 or 1 out of its own interval.
    low = (centre - margin) / (1 + z2 / n) if successes else 0.0
    high = (centre + margin) / (1 + z2 / n) if successes < n else 1.0
    return low, high


class Calibration:
    """The expected calibration error: the distance of probabilities from the share that is right.

    Guo et al., "On Calibration of Modern Neural Networks" (arXiv:1706.04599):
    15 bins of equal width, weighted by the images in them.
    """

    _BINS = 15

    def __init__(self) -> None:
        self._count = [0] * self._BINS
        self._right = [0] * self._BINS
        self._probability = [0.0] * self._BINS

    def add(self, probability: float, right: bool) -> None:
        """Add the most probable label of an image."""
        # The bins are open at the left, as in the paper.
        number = min(max(math.ceil(probability * self._BINS) - 1, 0), self._BINS - 1)
        self._count[number] += 1
        self._right[number] += right
        self._probability[number] += probability

    def error(self) -> float:
        """Return the error as a fraction of 1; 0 without images."""
        distances = map(abs, map(float.__sub__, self._probability, map(float, self._right)))
        return sum(distances) / max(sum(self._count), 1)
