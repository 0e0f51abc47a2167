"""How fast each stage is on this machine, for each engine and precision at hand."""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mnv1cli.analysis import synthetic_photos
from mnv1cli.errors import Mnv1Error, NoImagesError, OptionError
from mnv1cli.images import loader
from mnv1cli.inference import litert_model
from mnv1cli.inputs.listing import Listing
from mnv1cli.runs import loop
from mnv1cli.runs.file_sink import FileSink
from mnv1cli.runs.options import OutputOptions
from mnv1cli.runs.tally import Tally
from mnv1cli.system.threads import ordered_map
from mnv1cli.types import DEFAULT_BATCH, ImageRef, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mnv1cli.inference.job import Job
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.types import Batch, Engine, FloatArray, PixelSpec, Precision

_TASK = Task("classify")
_KINDS: tuple[tuple[Engine, Precision], ...] = (
    ("litert", "float32"),
    ("litert", "int8"),
    # The last one: Pillow decodes for the others as long as TensorFlow is not there.
    ("tf", "float32"),
)
_ROUNDS = 3
# Images that are run before a stage is timed.
_WARM_UP = 32


class Timed(NamedTuple):
    """Images a second, and seconds of all cores' time an image."""

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Run:
    """One engine with one precision: the network alone, and from files to a CSV.

    `bound` is the rate at which the cores would have nothing to do but decode
    and infer: cores / (CPU seconds of decoding + CPU seconds of inference).
    """

    engine: str
    precision: str
    inference: Timed
    end_to_end: Timed
    bound: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured over one set of photos."""

    name: str
    images: int
    threads: int
    listing: Timed
    decoding: Timed
    runs: tuple[Run, ...]


def bench(
    inputs: Sequence[bytes], count: int, make: Callable[[Engine, Precision], Predictor]
) -> list[Bench]:
    """Measure over `count` images of `inputs`, named many times over if need be.

    Without inputs it is over generated photos of 500x375 and, an eighth as
    many, 4000x3000. `make` gives a predictor for each engine and precision;
    those that the machine or the module does not have are left out.

    Raises:
        NoImagesError: there are none, or none that can be read.
        Mnv1Error: no engine can be used; of the last one, why.
    """
    with contextlib.ExitStack() as stack:
        first = make(*_KINDS[0]) if litert_model.is_available() else make(*_KINDS[-1])
        spec, threads = first.spec, first.threads
        given = [(" ".join(map(os.fsdecode, inputs)), list(inputs), count)]
        sets = [
            _Photos(*each, spec, threads)
            for each in (given if inputs else _generated(stack, count))
        ]
        runs: list[list[Run]] = [[] for _ in sets]
        for job in _at_hand(make):
            for found, photos in zip(runs, sets, strict=True):
                found.append(photos.run(job))
    return [photos.result(found) for photos, found in zip(sets, runs, strict=True)]


def _generated(stack: contextlib.ExitStack, count: int) -> list[tuple[str, list[bytes], int]]:
    """Folders of generated photos that go with the stack: name, input, number of images."""
    sets = []
    for width, height, share, kinds in ((500, 375, 1, 24), (4000, 3000, 8, 3)):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mnv1-"))
        synthetic_photos.write_pictures(Path(folder), kinds, width, height)
        name = f"generated {width}x{height}"
        sets.append((name, [os.fsencode(folder)], max(count // share, 1)))
    return sets


def _at_hand(make: Callable[[Engine, Precision], Predictor]) -> Iterator[Job]:
    """A job for each engine and precision at hand, made when its turn comes."""
    none = True
    for kind in _KINDS:
        try:
            job = make(*kind).make_job(_TASK)
        except Mnv1Error:
            # Not installed, or not calibrated; where nothing works the last one says why.
            if none and kind == _KINDS[-1]:
                raise
            continue
        none = False
        yield job


class _Photos:
    """One set of photos, and what needs no model."""

    def __init__(
        self, name: str, inputs: Sequence[bytes], count: int, spec: PixelSpec, threads: int
    ) -> None:
        listing = Listing(inputs)
        listing.require_images()
        start = _Clock()
        found = list(listing)
        self._listing = start.timed(len(found))
        self._name, self._spec, self._threads = name, spec, threads
        if any(ref.member for ref in found):
            raise OptionError("bench reads files of their own", "unpack or copy them for it")
        good = itertools.cycle(self._readable(found[:count]))
        self._refs = [ImageRef(i, path) for i, path in enumerate(itertools.islice(good, count))]
        self._decoding = _median(self._decoded)

    def run(self, job: Job) -> Run:
        """Measure an engine."""
        sample = self._sample(job)
        inference = _median(lambda: _inferred(job, sample))
        whole = _median(lambda: _exported(job, self._refs))
        bound = job.threads / (self._decoding.cpu + inference.cpu)
        return Run(job.model.engine, job.model.precision, inference, whole, bound)

    def result(self, runs: Sequence[Run]) -> Bench:
        """All that was measured."""
        count = len(self._refs)
        return Bench(self._name, count, self._threads, self._listing, self._decoding, tuple(runs))

    def _batches(self, refs: Sequence[ImageRef], size: int = DEFAULT_BATCH) -> Iterator[Batch]:
        return loader.load_batches(refs, self._spec, size, self._threads)

    def _readable(self, refs: Sequence[ImageRef]) -> list[bytes]:
        """The images that can be read; this also fetches them into the system's memory."""
        good = []
        for batch in self._batches(refs):
            good += [p for p, reason in zip(batch.paths, batch.reasons, strict=True) if not reason]
        if not good:
            raise NoImagesError("none of the images can be read")
        return good

    def _decoded(self) -> Timed:
        """Reading, decoding and resizing alone."""
        start = _Clock()
        for _ in self._batches(self._refs):
            pass
        return start.timed(len(self._refs))

    def _sample(self, job: Job) -> list[FloatArray]:
        """Pixels in whole batches, enough of them for every core."""
        size = job.batch_size
        total = size * 2 * job.threads
        pixels = np.concatenate([b.pixels for b in self._batches(self._refs[:total], size)])
        whole = np.resize(pixels, (total, *pixels.shape[1:]))
        return [whole[i : i + size] for i in range(0, total, size)]


class _Clock:
    """Wall time and CPU time from now on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def timed(self, images: int) -> Timed:
        """What `images` took so far."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Timed(images / wall, cpu / max(images, 1))


def _median(measure: Callable[[], Timed]) -> Timed:
    found = [measure() for _ in range(_ROUNDS)]
    return Timed(
        statistics.median(each.rate for each in found),
        statistics.median(each.cpu for each in found),
    )


def _inferred(job: Job, batches: Sequence[FloatArray]) -> Timed:
    """The network alone."""

    def run(rounds: int) -> int:
        repeated: Iterable[FloatArray] = (b for _ in range(rounds) for b in batches)
        return sum(len(r[job.output]) for r in ordered_map(job.model, repeated, job.model.workers))

    run(1)
    start = _Clock()
    return start.timed(run(max(1, 512 // sum(map(len, batches)))))


def _exported(job: Job, refs: Sequence[ImageRef]) -> Timed:
    """All of it, into a CSV file."""
    with tempfile.TemporaryDirectory(prefix="mnv1-") as folder:
        for some in (refs[:_WARM_UP], refs):
            file = Path(folder) / f"{len(some)}.csv"
            sink = FileSink(_TASK, OutputOptions(file, force=True), None)
            start = _Clock()
            loop.run(job, some, sink, Tally())
            timed = start.timed(len(some))
    return timed
