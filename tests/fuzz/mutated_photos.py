"""Thousands of mutated photos through `mnv1 classify`, with good ones among them.

    python -m tests.fuzz.mutated_photos PHOTOS [COUNT]

The command must end with 0 or 3 and stay below 1.5 GB, refuse what the decoders
refuse, and give each other file the row that it has in another order, through
the other loader, and among other neighbours.
"""

from __future__ import annotations

import csv
import io
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.conftest import ROOT
from tests.fuzz.mutations import append_bytes, cut_end, flip_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_BYTES = 1_500_000_000
# The command, which notes the memory that it took.
_PROGRAM = """
import sys
from pathlib import Path
from mnv1cli.cli import console
from mnv1cli.cli.main import cli
from tests.support.memory import most
code = 0
try:
    cli(sys.argv[2:])
except SystemExit as end:
    code = end.code or 0
Path(sys.argv[1]).write_text(str(most()))
console.leave(code)
"""


class Run(NamedTuple):
    """The results of a run: rows by path, reasons by path, and its cost."""

    rows: dict[str, list[str]]
    reasons: dict[str, str]
    code: int
    seconds: float
    most_bytes: int


def write_photos(photos: Path, folder: Path, count: int, seed: int = 7) -> list[Path]:
    """Write photos with bytes appended, cut or flipped, every tenth unchanged."""
    chance = random.Random(seed)
    sources = sorted(photos.iterdir())
    paths = []
    for i in range(count):
        source = sources[i % len(sources)]
        data = source.read_bytes()
        if i % 10:
            data = chance.choice([append_bytes, cut_end, flip_bits])(data, chance)
        path = folder / f"{i:05}{source.suffix}"
        path.write_bytes(data)
        paths.append(path)
    return paths


def classify(paths: Sequence[Path], feeder: str, folder: Path) -> Run:
    """Classify a list of files; return the rows and the reasons."""
    names, errors = folder / "names", folder / "errors.csv"
    names.write_text("\n".join(map(str, paths)))
    peak = folder / "peak"
    words = [sys.executable, "-c", _PROGRAM, str(peak), "classify", "--module", "bundled", "-q"]
    words += ["--loader", feeder]
    words += ["-f", "csv", "--files-from", str(names), "--errors", str(errors), "--force"]
    started = time.monotonic()
    with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
        child = subprocess.run(words, stdout=out, stderr=err, cwd=ROOT, check=False)
    seconds = time.monotonic() - started
    rows: dict[str, list[str]] = {}
    table = (folder / "stdout").read_text()
    for path, *rest in list(csv.reader(io.StringIO(table)))[1:]:
        rows.setdefault(path, []).append(",".join(rest))
    told = list(csv.reader(io.StringIO(errors.read_text())))[1:] if errors.exists() else []
    reasons = {row[0]: row[1] for row in told}
    said = (folder / "stderr").read_text()[-2000:]
    assert child.returncode == (3 if reasons else 0), said
    return Run(rows, reasons, child.returncode, seconds, int(peak.read_text()) * 1024)


def compare(photos: Path, folder: Path, count: int) -> tuple[Run, Run, list[str]]:
    """Run each loader in its own order of files; return the runs and the files that differ."""
    paths = write_photos(photos, folder, count)
    first = classify(paths, "threads", folder)
    shuffled = random.Random(1).sample(paths, len(paths))
    second = classify(shuffled, "tf.data", folder)
    different = [
        str(path)
        for path in paths
        if first.rows.get(str(path)) != second.rows.get(str(path))
        or first.reasons.get(str(path)) != second.reasons.get(str(path))
        or (str(path) in first.rows) == (str(path) in first.reasons)
    ]
    return first, second, different


def main(photos: Path, count: int = 2000) -> int:
    with tempfile.TemporaryDirectory() as name:
        first, second, different = compare(photos, Path(name), count)
    most = max(first.most_bytes, second.most_bytes)
    kinds = Counter("".join("#" if c.isdigit() else c for c in r) for r in first.reasons.values())
    say = sys.stdout.write
    for reason, number in kinds.most_common():
        say(f"{number:6} {reason}\n")
    say(f"{count} files: {len(first.rows)} classified, {len(first.reasons)} refused, ")
    say(f"exit code {first.code}, {first.seconds:.1f} s and {first.most_bytes / 1e6:.0f} MB, ")
    say(f"with tf.data {second.seconds:.1f} s and {second.most_bytes / 1e6:.0f} MB; ")
    say(f"{len(different)} different {different[:5]}\n")
    return int(bool(different) or most > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:3])))
