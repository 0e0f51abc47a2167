"""Measure the cost of a Ray cluster on one machine, and the gain of more cores.

    python scale.py --photos PHOTOS --json scale.json

`mnv1 classify` into a dataset, by both runners, on one core and on all of them, over
two numbers of photos: the difference of both is the work, the rest the start. All in
alternation, medians of the runs. A process of the cluster says how much memory it
took at its most.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from common import cores
from measure import listing, make_photos, measure, mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOOK_SECONDS = 0.25


class Watch:
    """The most memory of any process of a Ray cluster that worked on a task, in MB."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self.peak = max([self.peak, *_workers()])


def _workers() -> Iterator[float]:
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if (status.parent / "cmdline").read_bytes().startswith(b"ray::Map"):
                lines = status.read_text().splitlines()
                peak = next(line for line in lines if line.startswith("VmHWM:"))
                yield int(peak.split()[1]) * 1024 / 1e6
        except (OSError, StopIteration):
            # It has ended since.
            continue


def album(folder: Path, photos: Sequence[str], images: int) -> Path:
    """Make a folder of `images` names for the photos, a hundred in each folder below it."""
    for number in range(images):
        photo = Path(photos[number % len(photos)])
        name = folder / f"{number // 100:05}" / f"{number:07}{photo.suffix}"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(photo.resolve())
    return folder


def seconds(album: Path, runner: str, number: int) -> float:
    """Measure one run with all of its processes, on `number` cores."""
    mine = sorted(os.sched_getaffinity(0))[:number]
    pinned = ["taskset", "-c", ",".join(map(str, mine))]
    with tempfile.TemporaryDirectory() as folder:
        where = ["-o", f"{folder}/labels/", "--runner", runner, "-q"]
        what = ["classify", str(album), "--module", "bundled"]
        return measure([*pinned, *mnv1(), *what, *where]).seconds


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Ray and the local runner, core by core.")
    parser.add_argument("--photos", metavar="DIR", help="else 93 are generated, of 500x375")
    parser.add_argument("--images", type=int, nargs=2, default=[2_000, 10_000], metavar="N")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="all figures")
    return parser.parse_args()


def main() -> None:
    """Measure, and print a table."""
    options = parse()
    few, many = options.images
    measured: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, Watch() as watch:
        root = Path(folder)
        photos = listing(options.photos) if options.photos else []
        if not photos:
            (root / "photos").mkdir()
            photos = make_photos(str(root / "photos"), 93, (500, 375))
        albums = [album(root / str(images), photos, images) for images in (few, many)]
        kinds = [(runner, n) for n in sorted({1, cores()}) for runner in ("local", "ray")]
        seconds(albums[0], "local", cores())  # compiled, and read once
        for _ in range(options.runs):
            for runner, number in kinds:
                times = (seconds(albums[0], runner, number), seconds(albums[1], runner, number))
                measured.setdefault(f"{runner}, {number}", []).append(times)
                print(runner, number, *(f"{t:.1f}" for t in times), file=sys.stderr, flush=True)
    print("| runner, cores | images/s | start s |", "| --- | --- | --- |", sep="\n")
    figures = {}
    for name, runs in measured.items():
        rate = statistics.median((many - few) / (long - short) for short, long in runs)
        start = statistics.median(
            short - few * (long - short) / (many - few) for short, long in runs
        )
        figures[name] = {"rate": rate, "start": start, "seconds": runs}
        print(f"| {name} | {rate:.0f} | {start:.1f} |")
    print(f"\na process of the cluster: {watch.peak:.0f} MB at its most")
    if options.json:
        report = {"images": [few, many], "peak_mb": watch.peak, "figures": figures}
        Path(options.json).write_text(json.dumps(report, indent=2) + os.linesep, "utf-8")


if __name__ == "__main__":
    main()
