"""The terminal transcripts of the README and of docs, run again.

    python -m tests.support.transcripts            names those that have changed, and ends with 1
    python -m tests.support.transcripts --write    puts what the commands print now into the pages

A block of commands that shows what they print is run. All such blocks of one page
share a folder, which has `examples`, `photos` and `truth.csv`. Times and rates may
differ, and the last digits of numbers are the processor's.
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
DOCS = ROOT / "docs"

# Blocks that are not run, by their first command, and why.
LEFT_OUT = {
    "ls digits": "trains for minutes",
    "mnv1 finetune digits -o my-module-full --module bundled --full --epochs 6": "trains for "
    "minutes",
    "mnv1 classify ./photos --module theirs": "needs a hostile module; test_audit.py makes such",
    "mnv1 bench --module bundled": "measures this machine",
}
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.S | re.M)
_TIMES = re.compile(r"\d+(\.\d+)? s\b|[\d,]+/s")
_NUMBER = re.compile(r"\d+\.\d+(e-?\d+)?")
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Step:
    """A command of a transcript, and what the page shows that it prints."""

    command: str
    printed: str


def pages() -> list[Path]:
    """Return the README and the pages of docs that people write."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def transcripts(text: str) -> Iterator[list[Step]]:
    """Give the blocks of a page that show what their commands print."""
    for block in _BLOCK.findall(text):
        parts = re.split(r"^\$ (.*)\n", block, flags=re.M)[1:]
        steps = [Step(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        if any(step.printed for step in steps) and steps[0].command not in LEFT_OUT:
            yield steps


def steps_of(text: str) -> list[Step]:
    """Return the commands of a page that are run, in their order."""
    return [step for steps in transcripts(text) for step in steps]


def run(steps: list[Step]) -> list[Step]:
    """Run the same commands in one folder, and return them with what they print now."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "folder")
        folder.mkdir()
        (folder / "examples").symlink_to(ROOT / "examples")
        shutil.copytree(ROOT / "examples" / "photos", folder / "photos")
        shutil.copy(ROOT / "examples" / "truth.csv", folder)
        for name, arguments in (("mnv1", "-m mnv1cli"), ("python", "")):
            program = Path(scratch, name)
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            program.chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{scratch}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "MNV1_OFFLINE": "1",
            # As on a machine without a network, but without its warning.
            "MNV1_MODULE": "bundled",
            "LC_ALL": "C",
        }
        return [Step(step.command, _printed(step.command, folder, environment)) for step in steps]


def _printed(command: str, folder: Path, environment: dict[str, str]) -> str:
    process = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = (line.rstrip() for line in process.stdout.splitlines())
    # Said only on the first use of a module.
    return "".join(f"{line}\n" for line in lines if "preparing the module" not in line)


def same(shown: str, printed: str) -> bool:
    """Return whether a transcript is still true."""
    before, now = (_TIMES.sub("TIME", text) for text in (shown, printed))
    if _NUMBER.sub("NUMBER", before) != _NUMBER.sub("NUMBER", now):
        return False
    numbers = zip(_NUMBER.finditer(before), _NUMBER.finditer(now), strict=True)
    return all(
        abs(float(a[0]) - float(b[0])) <= _TOLERANCE * max(1, abs(float(a[0]))) for a, b in numbers
    )


def drifted(steps: list[Step]) -> list[tuple[Step, Step]]:
    """Return the steps that print something else now, as they are shown and as they are."""
    pairs = zip(steps, run(steps), strict=True)
    return [(old, new) for old, new in pairs if not same(old.printed, new.printed)]


def mended(text: str, changes: list[tuple[Step, Step]]) -> str:
    """Return a page with what its commands print now; each is looked for behind the one before."""
    start = 0
    for old, new in changes:
        shown, current = (f"$ {step.command}\n{step.printed}" for step in (old, new))
        start = text.index(shown, start)
        text = f"{text[:start]}{current}{text[start + len(shown) :]}"
        start += len(current)
    return text


def main() -> int:
    """Check all pages, or mend them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="name what has changed (default)")
    action.add_argument("--write", action="store_true", help="mend the pages")
    arguments = parser.parse_args()
    any_change = False
    for page in pages():
        text = page.read_text("utf-8")
        changes = drifted(steps_of(text))
        any_change |= bool(changes)
        for old, new in changes:
            sys.stdout.write(
                f"{page.relative_to(ROOT)}: $ {old.command}\n"
                f"shown:\n{old.printed}printed:\n{new.printed}\n"
            )
        if arguments.write and changes:
            page.write_text(mended(text, changes), "utf-8")
    return 1 if any_change and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
