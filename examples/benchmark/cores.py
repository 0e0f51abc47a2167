"""Show what many cores would do, on a machine with few: images a second of 1 to 32 workers.

    python cores.py --photos PHOTOS --svg cores.svg

In `mnv1 classify` the decoding of a JPEG (the call into simplejpeg) and the model's `invoke`
are replaced by sleeps of their length, which is measured first, so that any number of workers
can do them at once. All else runs as it is: listing, reading, the JPEG's header, resize,
ranking, rows. What is left is what workers have in common, the interpreter's lock above all,
and also the work of the resize, for which this machine has only its own cores: `cores busy`
says how many of them were in use. Where it comes near their number, the machine is the limit,
and a larger one would do more.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import simplejpeg
from ai_edge_litert.interpreter import Interpreter
from common import cores
from measure import listing, make_photos
from plot import curve

from mnv1cli.images.file import read_file
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.settings import Settings
from mnv1cli.inputs.listing import Listing
from mnv1cli.runs import loop
from mnv1cli.runs.file_sink import FileSink
from mnv1cli.runs.options import OutputOptions
from mnv1cli.runs.tally import Tally
from mnv1cli.types import DEFAULT_BATCH, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORKERS = (1, 2, 4, 8, 16, 32)
_REPEATS = 5
# Linux may add this time to a sleep, in nanoseconds, and adds 50,000 by default.
_SET_TIMER_SLACK, _SLACK = 29, 1

_decode = simplejpeg.decode_jpeg
_invoke = Interpreter.invoke
_resize = Interpreter.resize_tensor_input


def shortest(function: Callable[[], Any]) -> float:
    """Measure the seconds of a call, the shortest of a few."""
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


class SleepingDecoder:
    """Takes the place of `simplejpeg.decode_jpeg` for files that it has seen before."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[tuple[int, int, int], float]] = {}

    @property
    def mean(self) -> float:
        """The mean time of decoding a photo, in seconds."""
        return sum(seconds for _, seconds in self._seen.values()) / len(self._seen)

    def measure(self, data: bytes, *arguments: Any, **options: Any) -> Any:
        """Decode a JPEG, and note the shape of its pixels and the time."""
        pixels = _decode(data, *arguments, **options)
        seconds = shortest(lambda: _decode(data, *arguments, **options))
        self._seen[data[-64:]] = pixels.shape, seconds
        return pixels

    def sleep(self, data: bytes, *_: Any, buffer: Any, **__: Any) -> Any:
        """Sleep as long as decoding took; the pixels are any."""
        shape, seconds = self._seen[data[-64:]]
        time.sleep(seconds)
        return np.ndarray(shape, np.uint8, buffer)


class SleepingModel:
    """Takes the place of the interpreter's `invoke`, after one that is real.

    `per_image` is its measured time in seconds.
    """

    def __init__(self) -> None:
        self.per_image = 0.0
        self._images: dict[int, int] = {}
        self._ready: set[int] = set()

    def resize(self, interpreter: Any, index: int, shape: Sequence[int], **options: Any) -> None:
        """Note the images in a batch."""
        _resize(interpreter, index, shape, **options)
        self._images[id(interpreter)] = shape[0]
        self._ready.discard(id(interpreter))

    def measure(self, interpreter: Any) -> None:
        """Invoke, and measure the time."""
        seconds = shortest(lambda: _invoke(interpreter))
        self.per_image = seconds / self._images[id(interpreter)]

    def sleep(self, interpreter: Any) -> None:
        """Sleep as long as it took, once there are results to look at."""
        key = id(interpreter)
        if key not in self._ready:
            _invoke(interpreter)
            self._ready.add(key)
        time.sleep(self.per_image * self._images[key])


def replace(decode: Any, invoke: Any, resize: Any) -> None:
    """Replace the two calls, and the one that makes an interpreter ready."""
    simplejpeg.decode_jpeg = decode
    # As functions: a bound method would not get the interpreter.
    Interpreter.invoke = lambda interpreter: invoke(interpreter)  # noqa: PLW0108
    Interpreter.resize_tensor_input = lambda *arguments, **options: resize(  # noqa: PLW0108
        *arguments, **options
    )


class Simulation:
    """Runs of `classify` with any number of workers."""

    def __init__(self, options: argparse.Namespace, photos: Sequence[str], folder: Path) -> None:
        self._options = options
        self._photos = photos
        self._folder = folder
        self.decoder, self.model = SleepingDecoder(), SleepingModel()
        self._jobs = {n: self._predictor(n).make_job(Task("classify")) for n in WORKERS}

    def _predictor(self, workers: int) -> Predictor:
        settings = Settings(engine="litert", precision=self._options.precision, threads=workers)
        return Predictor("bundled", settings)

    def measure(self) -> None:
        """Measure the two calls, in one thread, and replace them."""
        from mnv1cli.images import decode

        replace(self.decoder.measure, self.model.measure, self.model.resize)
        job = self._jobs[1]
        for photo in self._photos:
            decode.decode(read_file(photo.encode()), job.spec, reuse=True)
        size = job.spec.size
        job.model(np.zeros((DEFAULT_BATCH, size, size, 3), np.float32))
        replace(self.decoder.sleep, self.model.sleep, self.model.resize)
        print(
            f"a photo: {self.decoder.mean * 1e3:.2f} ms of decoding, "
            f"{self.model.per_image * 1e3:.2f} ms of inference"
        )

    def run(self, workers: int, images: int) -> tuple[float, float]:
        """Run once; return images a second, and how many cores were busy."""
        photos = self._folder / "list"
        names = (self._photos[i % len(self._photos)] for i in range(images))
        photos.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        options = OutputOptions(self._folder / "labels.csv", force=True)
        sink = FileSink(Task("classify"), options, None)
        start, cpu = time.perf_counter(), time.process_time()
        loop.run(self._jobs[workers], Listing([], [bytes(photos)]), sink, Tally())
        seconds = time.perf_counter() - start
        return images / seconds, (time.process_time() - cpu) / seconds


def table(runs: dict[int, list[tuple[float, float]]]) -> list[dict[str, float]]:
    """Return the medians of the runs, a row for each number of workers."""
    alone = median(rate for rate, _ in runs[1])
    rows = []
    for workers, figures in runs.items():
        rate, busy = (median(column) for column in zip(*figures, strict=True))
        share = rate / (workers * alone)
        row = {"workers": workers, "rate": round(rate), "share": round(share, 3)}
        rows.append({**row, "busy": round(busy, 2)})
    return rows


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Images a second of 1 to 32 workers, simulated.")
    parser.add_argument("--photos", metavar="DIR", help="JPEGs to classify, over and over")
    parser.add_argument("--precision", choices=["float32", "int8"], default="int8")
    parser.add_argument("--images", type=int, default=600, help="images per worker (600)")
    parser.add_argument("--runs", type=int, default=3, help="how often each runs (3)")
    parser.add_argument("--json", metavar="FILE", help="all figures")
    parser.add_argument("--svg", metavar="FILE", help="the medians as a curve")
    return parser.parse_args()


def main() -> int:
    """Run, and print the results."""
    options = parse()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_TIMER_SLACK, _SLACK)
    with tempfile.TemporaryDirectory() as folder:
        given = listing(options.photos) if options.photos else []
        photos = given or make_photos(f"{folder}/photos", 93, (500, 375))
        simulation = Simulation(options, photos, Path(folder))
        simulation.measure()
        runs: dict[int, list[tuple[float, float]]] = {workers: [] for workers in WORKERS}
        for turn in range(options.runs + 1):
            for workers, figures in runs.items():
                figure = simulation.run(workers, options.images * workers)
                # The first turn makes the interpreters.
                if turn:
                    figures.append(figure)
    rows = table(runs)
    print("| workers | images/s | share of linear | cores busy |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")
    if options.json:
        report = {"cores": cores(), "precision": options.precision, "results": rows, "runs": runs}
        Path(options.json).write_text(json.dumps(report, indent=2), encoding="utf-8")
    if options.svg:
        title = f"Images a second by workers, {options.precision}, simulated on {cores()} cores"
        points = {int(row["workers"]): row["rate"] for row in rows}
        Path(options.svg).write_text(curve(points, title), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
