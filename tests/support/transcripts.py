"""The terminal transcripts of the README, run again.

    python -m tests.support.transcripts            names those that drifted, and ends with 1
    python -m tests.support.transcripts --write    puts what the commands print now into the README

Each block of commands that shows what they print is run in a folder of its own,
which has `examples` and `photos`. Times and rates may differ, and the last
digits of numbers are the processor's.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"

# What is not run here, and why.
LEFT_OUT = {
    "ls digits": "trains for minutes",
    "mnv1 finetune digits -o my-module-full --module bundled --full --epochs 6": "the same",
    "mnv1 classify ./photos --module theirs": "needs a hostile module; test_audit.py makes such",
    "mnv1 bench --module bundled": "measures this machine",
}
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.S | re.M)
_TIMES = re.compile(r"\d+(\.\d+)? s\b|[\d,]+/s")
_NUMBER = re.compile(r"\d+\.\d+(e-?\d+)?")
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Step:
    """A command of a transcript, and what the README says that it prints."""

    command: str
    printed: str


def transcripts(text: str) -> Iterator[list[Step]]:
    """The blocks that show what their commands print."""
    for block in _BLOCK.findall(text):
        parts = re.split(r"^\$ (.*)\n", block, flags=re.M)[1:]
        steps = [Step(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        if any(step.printed for step in steps) and steps[0].command not in LEFT_OUT:
            yield steps


def run(steps: list[Step]) -> list[Step]:
    """The same commands with what they print now."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "folder")
        folder.mkdir()
        (folder / "examples").symlink_to(ROOT / "examples")
        shutil.copytree(ROOT / "examples" / "photos", folder / "photos")
        program = Path(scratch, "mnv1")
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mnv1cli "$@"\n')
        program.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{scratch}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "MNV1_OFFLINE": "1",
            # As on a machine without a network, but without its warning.
            "MNV1_MODULE": "bundled",
        }
        return [Step(step.command, _printed(step.command, folder, environment)) for step in steps]


def _printed(command: str, folder: Path, environment: dict[str, str]) -> str:
    found = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = (line.rstrip() for line in found.stdout.splitlines())
    # Said on the first use of a module alone.
    return "".join(f"{line}\n" for line in lines if "preparing the module" not in line)


def same(shown: str, printed: str) -> bool:
    """Whether a transcript is still true."""
    one, other = (_TIMES.sub("TIME", text) for text in (shown, printed))
    if _NUMBER.sub("NUMBER", one) != _NUMBER.sub("NUMBER", other):
        return False
    numbers = zip(_NUMBER.finditer(one), _NUMBER.finditer(other), strict=True)
    return all(
        abs(float(a[0]) - float(b[0])) <= _TOLERANCE * max(1, abs(float(a[0]))) for a, b in numbers
    )


def drifted(steps: list[Step]) -> list[tuple[Step, Step]]:
    """The steps that print something else now, as they are shown and as they are."""
    pairs = zip(steps, run(steps), strict=True)
    return [(old, new) for old, new in pairs if not same(old.printed, new.printed)]


def main() -> int:
    """The script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="mend the README")
    arguments = parser.parse_args()
    text = README.read_text("utf-8")
    bad = [pair for steps in transcripts(text) for pair in drifted(steps)]
    for old, new in bad:
        sys.stdout.write(f"$ {old.command}\nshown:\n{old.printed}printed:\n{new.printed}\n")
        shown = f"$ {old.command}\n{old.printed}"
        text = text.replace(shown, f"$ {new.command}\n{new.printed}", 1)
    if arguments.write:
        README.write_text(text, "utf-8")
    return 1 if bad and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
