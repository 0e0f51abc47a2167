"""The setting that keeps the process off the network."""

from __future__ import annotations

import os


def is_offline() -> bool:
    """Return whether MNV1_OFFLINE is set to anything but a no."""
    return os.environ.get("MNV1_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")
