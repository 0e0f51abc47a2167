"""What this process may use of the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """The cores that this process may use: affinity and the cgroup's quota counted."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    quota = _quota(_CGROUP)
    return max(1, found if quota is None else min(found, math.ceil(quota)))


def _quota(root: Path) -> float | None:
    """The cgroup's limit in cores, of version 2 or 1; None where there is none."""
    try:
        # Version 2: "max 100000" or "150000 100000".
        limit, _, period = (root / "cpu.max").read_text("ascii").partition(" ")
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        limit = (root / "cpu" / "cpu.cfs_quota_us").read_text("ascii")
        period = (root / "cpu" / "cpu.cfs_period_us").read_text("ascii")
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
