"""Runs that are cut again and again, over damaged files, from a server that drops requests.

    python -m tests.support.soak --minutes 10

Each round damages some of the pictures, makes a result in one go, and the same
result by a command that is killed at random moments and repeated with --resume
until it is done; in some rounds the cache is empty, so that the kills meet the
download and the compiling too. It counts rows that were lost, doubled or wrong,
and exits with 1 where there are any.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.analysis import synthetic_photos
from mnv1cli.modules import inspection
from mnv1cli.results.readers import open_result
from tests.support import hub

if TYPE_CHECKING:
    from collections.abc import Iterator

# As the program, with a checkpoint five times a second instead of every other one, and
# on a disk that takes no longer files than it is told.
PROGRAM = """
import resource, sys
from mnv1cli.runs import journal
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
journal.CHECKPOINT_SECONDS = 0.2
from mnv1cli.__main__ import main
sys.argv[0] = "mnv1"
main()
"""
RESULTS = (
    ("classify", "x.csv"), ("classify", "x.jsonl"), ("classify", "x.parquet"), ("embed", "x.npy"),
    ("embed", "x.npz"), ("logits", "x.tsv"),
)  # fmt: skip
PICTURES, LISTED = 200, 1200
FULL_DISK_BYTES = 200_000
DONE, FAILED, SOME_FAILED = 0, 1, 3


@dataclass
class Figures:
    """Counts of what happened, and of what went wrong."""

    rounds: int = 0
    images: int = 0
    kills: int = 0
    signals: int = 0
    full_disks: int = 0
    empty_caches: int = 0
    requests: int = 0
    dropped: int = 0
    truncated: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    bad_ends: int = 0
    leftovers: int = 0
    remarks: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """The number of things that went wrong."""
        return self.lost + self.doubled + self.wrong + self.bad_ends + self.leftovers


class Soak:
    """A folder with pictures, a server, and rounds over them."""

    def __init__(self, folder: Path, server: hub.Hub, seed: int) -> None:
        self.figures = Figures()
        self._folder = folder
        self._chance = random.Random(seed)
        self._server = server
        self._handle = server.url + hub.HANDLE_PATH
        self._pictures = folder / "pictures"
        self._pictures.mkdir()
        synthetic_photos.write_pictures(self._pictures, PICTURES, 200, 150, seed)
        self._originals = {path: path.read_bytes() for path in sorted(self._pictures.iterdir())}
        self._list = folder / "list"
        names = [*self._originals, self._pictures / "missing.jpg"]
        chosen = [names[i % len(names)] for i in range(LISTED)]
        self._list.write_text("".join(f"{name}\n" for name in chosen))
        archive = hub.pack(inspection.open_module("bundled").path)
        whole = hub.sends(archive, ETag='"1"')
        dropped = hub.breaks_off(archive, len(archive) // 2, 1 << 30, ETag='"1"')
        turns = itertools.cycle((whole, whole, dropped))

        def answer(request: hub.Request) -> None:
            chosen = next(turns)
            self.figures.dropped += chosen is dropped
            chosen(request)

        server.answers[hub.HANDLE_PATH] = answer

    def round(self) -> None:
        """Damage, make a result at once and in pieces, and compare them."""
        command, name = self._chance.choice(RESULTS)
        self._damage()
        whole, cut = self._folder / "whole", self._folder / "cut"
        for place in (whole, cut):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        if self._chance.random() < 0.25:
            shutil.rmtree(self._folder / "cache", ignore_errors=True)
            self.figures.empty_caches += 1
        on_error = self._chance.choice(("skip", "row"))
        self._cut_and_resumed([command, "-o", str(cut / name), "--on-error", on_error])
        arguments = [command, "-o", str(whole / name), "--on-error", on_error]
        if (cut / name).exists():
            # Without room to compile it began with TensorFlow, whose last digits are others.
            arguments += ["--engine", _engine(cut / name)]
        code = self._run(arguments).wait()
        self._end("whole", code, SOME_FAILED)
        self._compare(whole / name, cut / name)
        self.figures.leftovers += sorted(os.listdir(whole)) != sorted(os.listdir(cut))
        self.figures.rounds += 1
        self.figures.images += LISTED
        self.figures.requests = len(self._server.asked)

    def _damage(self) -> None:
        """Cut some of the pictures short, and make the others whole."""
        for path, data in self._originals.items():
            cut = self._chance.random() < 0.1
            self.figures.truncated += cut
            path.write_bytes(data[: self._chance.randrange(len(data))] if cut else data)

    def _cut_and_resumed(self, arguments: list[str]) -> None:
        for attempt in itertools.count():
            last = attempt >= 8
            full = not last and self._chance.random() < 0.1
            process = self._run([*arguments, "--resume"], full)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(None if last else self._chance.expovariate(0.5))
            if process.returncode is None:
                self._stop(process, full)
                continue
            if full and process.returncode == FAILED:
                self.figures.full_disks += 1
                continue
            # 0 where it was cut when nothing was left to do but to rename the files.
            self._end("resumed", process.returncode, DONE, SOME_FAILED)
            return

    def _end(self, name: str, code: int, *usual: int) -> None:
        """Count an end that is not one of the usual ones, with what was said."""
        if code not in usual:
            self.figures.bad_ends += 1
            said = (self._folder / "said").read_text(errors="replace")
            self.figures.remarks.append(f"{name} {code}: {said[-500:]}")

    def _stop(self, process: subprocess.Popen[bytes], full: bool) -> None:
        number = self._chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        process.send_signal(number)
        process.wait()
        if number == signal.SIGKILL:
            self.figures.kills += 1
        else:
            self.figures.signals += 1
            # It may have been at its end just then, or out of room.
            ends = (128 + number, DONE, SOME_FAILED, -number, *([FAILED] if full else []))
            self._end("terminated", process.returncode, *ends)

    def _run(self, arguments: list[str], full: bool = False) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "MNV1_CACHE_DIR": str(self._folder / "cache")}
        environment.pop("MNV1_OFFLINE", None)
        room = FULL_DISK_BYTES if full else resource.RLIM_INFINITY
        batch = ["--batch-size", str(self._chance.choice((1, 7, 16, 64)))]
        more = ["--files-from", str(self._list), "--module", self._handle, "-q", *batch]
        with (self._folder / "said").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(room), *arguments, *more],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=environment,
            )

    def _compare(self, whole: Path, cut: Path) -> None:
        wanted, found = list(_rows(whole)), list(_rows(cut)) if cut.exists() else []
        lost = Counter(row[0] for row in wanted)
        lost.subtract(row[0] for row in found)
        self.figures.lost += sum(count for count in lost.values() if count > 0)
        self.figures.doubled -= sum(count for count in lost.values() if count < 0)
        self.figures.wrong += sum(a != b for a, b in zip(wanted, found, strict=False))


def _engine(file: Path) -> str:
    metadata = open_result(file).metadata
    assert metadata is not None
    return str(metadata.engine)


def _rows(file: Path) -> Iterator[tuple[Any, ...]]:
    for table in open_result(file).tables():
        results: Any = table.predictions
        if table.values is not None:
            results = [row.tobytes() for row in table.values]
        yield from zip(table.paths, table.errors, results, strict=True)


def soak(seconds: float, seed: int, compiled: Path | None = None) -> Figures:
    """Do rounds until the time is up, at least one; `compiled` has the models to begin with."""
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder, hub.serve() as server:
        rounds = Soak(Path(folder), server, seed)
        if compiled is not None:
            shutil.copytree(compiled, Path(folder, "cache", compiled.parent.name, compiled.name))
        while rounds.figures.rounds == 0 or time.monotonic() < end:
            rounds.round()
        return rounds.figures


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures = soak(60 * arguments.minutes, arguments.seed)
    sys.stdout.write(json.dumps(asdict(figures), indent=1) + "\n")
    return 1 if figures.bad else 0


if __name__ == "__main__":
    sys.exit(main())
