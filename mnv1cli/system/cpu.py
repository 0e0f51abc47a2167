"""What this process may use of the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """The cores that this process may use: affinity and the cgroup's quota counted."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    quotas = [_quota(folder) for folder in _cgroups(_CGROUPS, Path("/proc/self/cgroup"))]
    return max(1, min([found, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def _cgroups(root: Path, told: Path) -> list[Path]:
    """The control groups of this process from the innermost to the root; each may have a limit."""
    try:
        lines = [line.split(":", 2) for line in told.read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        lines = []
    # Version 2 has one hierarchy, of the number 0; a container's own is the root of it.
    inner = [Path(line[2].lstrip("/")) for line in lines if line[0] == "0" and len(line) == 3]
    return [root / folder for path in inner for folder in (path, *path.parents)] or [root]


def _quota(root: Path) -> float | None:
    """A control group's limit in cores, of version 2 or 1; None where there is none."""
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
