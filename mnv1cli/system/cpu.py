"""The cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """Count the cores that this process may use, by its affinity and the quota of its cgroup."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quotas = [_read_quota(folder) for folder in _list_cgroups(_CGROUPS, Path("/proc/self/cgroup"))]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def _list_cgroups(root: Path, membership: Path) -> list[Path]:
    """List the control groups of this process, from the innermost to the root."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        lines = []
    # Version 2 has a single hierarchy, number 0; a container sees its own group as the root.
    inner = [Path(line[2].lstrip("/")) for line in lines if line[0] == "0" and len(line) == 3]
    return [root / folder for path in inner for folder in (path, *path.parents)] or [root]


def _read_quota(root: Path) -> float | None:
    """Return the limit of a control group (version 2 or 1) in cores; None if it has no limit."""
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
