"""Numbers that say how good results are, and how sure that is."""

from __future__ import annotations

import math

# The 97.5 % quantile of the normal distribution.
_Z = 1.959963984540054


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `successes` in `n`; (0, 1) where n is 0.

    Wilson, "Probable inference, the law of succession, and statistical
    inference" (1927).
    """
    if not n:
        return 0.0, 1.0
    share, z2 = successes / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At 0 and n one end is exactly there, which the sum misses by a rounding.
    low = 0.0 if not successes else max(middle - half, 0.0)
    high = 1.0 if successes == n else min(middle + half, 1.0)
    return low, high
