"""A command in a process of its own: its wall time, its CPU time and its peak memory.

Standard library alone: Linux counts what a process held before it became
another program, so a large parent would show up in the peak of a small child.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = os.path.dirname(os.path.abspath(__file__))

# ru_maxrss is in KiB, but on macOS in bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class CommandError(Exception):
    """A command failed; the text is its last line."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Cost of a process, with the children that it waited for."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    stdout: str


def measure(command: Sequence[str], limit: float | None = None) -> Measured:
    """Run a command to its end, offline as far as mnv1 is concerned.

    Raises:
        CommandError: its exit code is not 0, or it ran for `limit` seconds and was killed.
    """
    environment = {**os.environ, "MNV1_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        killer = threading.Timer(limit or 0, process.kill)
        if limit:
            killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        killer.cancel()
        # Popen must not wait for what is gone.
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            said = err.read().strip().splitlines() or ["nothing"]
            raise CommandError(f"exit code {process.returncode}: {said[-1]}")
        return Measured(
            seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * _RSS_UNIT / 1e6,
            out.read(),
        )


def mnv1() -> list[str]:
    """Return the command that starts mnv1 in this interpreter."""
    beside = shutil.which("mnv1", path=os.path.dirname(sys.executable))
    return [beside] if beside else [sys.executable, "-m", "mnv1cli"]


def script(name: str) -> list[str]:
    """Return the command that starts a script of this folder."""
    return [sys.executable, os.path.join(HERE, name)]


def make_photos(
    folder: str, count: int, size: tuple[int, int], *, seed: int = 0, suffix: str = "jpg"
) -> list[str]:
    """Generate photos in a process of its own, and return their paths."""
    width, height = size
    how = [folder, str(count), f"{width}x{height}", "--seed", str(seed), "--suffix", suffix]
    measure([*script("photos.py"), *how])
    return listing(folder)


def listing(folder: str) -> list[str]:
    """Return the JPEGs and PNGs of a folder, in the order of their names."""
    names = (n for n in os.listdir(folder) if n.lower().endswith((".jpg", ".jpeg", ".png")))
    return [os.path.join(folder, name) for name in sorted(names)]


def write_list(path: str, photos: Sequence[str], images: int) -> str:
    """Write a list of `images` images, the photos over and over, and return its path."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{photos[i % len(photos)]}\n" for i in range(images))
    return path
