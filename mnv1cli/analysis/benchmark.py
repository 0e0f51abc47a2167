"""The speed of each stage on this machine, for each engine and precision it has."""

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

from mnv1cli.analysis.synthetic_photos import write_pictures
from mnv1cli.errors import LabelsError, Mnv1Error, NoImagesError, OptionError
from mnv1cli.images import loader
from mnv1cli.inference import litert_model
from mnv1cli.inputs.listing import Listing
from mnv1cli.labels.names import ClassName
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
    ("openvino", "float32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    # The last one: TensorFlow's threads would disturb the others.
    ("tf", "float32"),
)
_ROUNDS = 3
# Images that are run before the time is taken.
_WARM_UP = 32


class Timed(NamedTuple):
    """Images per second, and CPU seconds of all cores per image."""

    rate: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Run:
    """The speed of an engine with a precision: of inference, and from files to a CSV.

    `bound` is the rate of cores that did nothing but decode and infer:
    cores / (CPU seconds of decoding + CPU seconds of inference).
    """

    engine: str
    precision: str
    inference: Timed
    end_to_end: Timed
    bound: float


@dataclass(frozen=True, slots=True)
class Bench:
    """The measurements over one set of photos."""

    name: str
    images: int
    threads: int
    listing: Timed
    decoding: Timed
    runs: tuple[Run, ...]


def bench(
    inputs: Sequence[bytes], count: int, make: Callable[[Engine, Precision], Predictor]
) -> list[Bench]:
    """Measure over `count` images of `inputs`, which are repeated where they are fewer.

    Without inputs the images are generated photos of 500x375 and, an eighth as many, of
    4000x3000. `make` makes a predictor for an engine and a precision; those that the machine
    or the module does not have are left out.

    Raises:
        NoImagesError: there are no images, or none that can be read.
        Mnv1Error: no engine can be used; says why for the last one.
    """
    with contextlib.ExitStack() as stack:
        first = make(*_KINDS[0]) if litert_model.is_available() else make(*_KINDS[-1])
        spec, threads = first.spec, first.threads
        given = [(" ".join(map(os.fsdecode, inputs)), list(inputs), count)]
        sets = [
            _Photos(name, paths, images, spec, threads)
            for name, paths, images in (given if inputs else _generate_sets(stack, count))
        ]
        runs: list[list[Run]] = [[] for _ in sets]
        for job in _make_jobs(make):
            for runs_of_set, photos in zip(runs, sets, strict=True):
                runs_of_set.append(photos.measure(job))
    return [photos.result(runs_of_set) for photos, runs_of_set in zip(sets, runs, strict=True)]


def _generate_sets(stack: contextlib.ExitStack, count: int) -> list[tuple[str, list[bytes], int]]:
    """Generate folders of photos, removed with the stack; return name, inputs and image count."""
    sets = []
    for width, height, share, kinds in ((500, 375, 1, 24), (4000, 3000, 8, 3)):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mnv1-"))
        write_pictures(Path(folder), kinds, width, height)
        name = f"generated {width}x{height}"
        sets.append((name, [os.fsencode(folder)], max(count // share, 1)))
    return sets


def _make_jobs(make: Callable[[Engine, Precision], Predictor]) -> Iterator[Job]:
    """Yield a job for each engine and precision that can be used, made when its turn comes."""
    made = False
    # Those of the first job, so that a remark about them comes once.
    names: tuple[ClassName, ...] = ()
    for kind in _KINDS:
        try:
            job = _make_job(make(*kind), names)
        except Mnv1Error:
            # Not installed, or not calibrated; if none can be used, the last one says why.
            if not made and kind == _KINDS[-1]:
                raise
            continue
        made, names = True, job.names
        yield job


def _make_job(predictor: Predictor, names: tuple[ClassName, ...]) -> Job:
    """Make a job; classes without names get their ids, as names make no difference to speed."""
    try:
        return predictor.make_job(_TASK, names)
    except LabelsError:
        classes = predictor.module.classes()
        if classes is None:
            raise
        ids = tuple(ClassName(i, "", str(i)) for i in range(classes))
        return predictor.make_job(_TASK, ids)


class _Photos:
    """A set of photos, and the stages that need no model."""

    def __init__(
        self, name: str, inputs: Sequence[bytes], count: int, spec: PixelSpec, threads: int
    ) -> None:
        listing = Listing(inputs)
        listing.require_images()
        start = _Clock()
        refs = list(listing)
        self._listing = start.timed(len(refs))
        self._name, self._spec, self._threads = name, spec, threads
        if any(ref.member for ref in refs):
            raise OptionError("bench reads no archives and no remote images", "unpack or copy them")
        good = itertools.cycle(self._list_readable(refs[:count]))
        self._refs = [ImageRef(i, path) for i, path in enumerate(itertools.islice(good, count))]
        self._decoding = _median(self._time_decoding)

    def measure(self, job: Job) -> Run:
        """Measure an engine with a precision."""
        sample = self._load_sample(job)
        inference = _median(lambda: _time_inference(job, sample))
        whole = _median(lambda: _time_run(job, self._refs))
        bound = job.threads / (self._decoding.cpu + inference.cpu)
        return Run(job.model.engine, job.model.precision, inference, whole, bound)

    def result(self, runs: Sequence[Run]) -> Bench:
        """Return the measurements."""
        count = len(self._refs)
        return Bench(self._name, count, self._threads, self._listing, self._decoding, tuple(runs))

    def _batches(self, refs: Sequence[ImageRef], size: int = DEFAULT_BATCH) -> Iterator[Batch]:
        return loader.load_batches(refs, self._spec, size, self._threads)

    def _list_readable(self, refs: Sequence[ImageRef]) -> list[bytes]:
        """Return the images that can be read; reading also brings them into the page cache."""
        good = []
        for batch in self._batches(refs):
            good += [p for p, reason in zip(batch.paths, batch.reasons, strict=True) if not reason]
        if not good:
            raise NoImagesError("none of the images can be read")
        return good

    def _time_decoding(self) -> Timed:
        """Time reading, decoding and resizing."""
        start = _Clock()
        for _ in self._batches(self._refs):
            pass
        return start.timed(len(self._refs))

    def _load_sample(self, job: Job) -> list[FloatArray]:
        """Return pixels in whole batches, enough of them for every core."""
        size = job.batch_size
        total = size * 2 * job.threads
        pixels = np.concatenate([b.pixels for b in self._batches(self._refs[:total], size)])
        whole = np.resize(pixels, (total, *pixels.shape[1:]))
        return [whole[i : i + size] for i in range(0, total, size)]


class _Clock:
    """A clock of wall time and CPU time that starts now."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def timed(self, images: int) -> Timed:
        """Return the speed of `images` that were done since the start."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return Timed(images / wall, cpu / max(images, 1))


def _median(measure: Callable[[], Timed]) -> Timed:
    rounds = [measure() for _ in range(_ROUNDS)]
    return Timed(
        statistics.median(timed.rate for timed in rounds),
        statistics.median(timed.cpu for timed in rounds),
    )


def _time_inference(job: Job, batches: Sequence[FloatArray]) -> Timed:
    """Time only the network, over batches in memory."""

    def run(rounds: int) -> int:
        repeated: Iterable[FloatArray] = (b for _ in range(rounds) for b in batches)
        return sum(len(r[job.output]) for r in ordered_map(job.model, repeated, job.model.workers))

    run(1)
    start = _Clock()
    return start.timed(run(max(1, 512 // sum(map(len, batches)))))


def _time_run(job: Job, refs: Sequence[ImageRef]) -> Timed:
    """Time a run from files to a CSV file."""
    with tempfile.TemporaryDirectory(prefix="mnv1-") as folder:
        for some in (refs[:_WARM_UP], refs):
            file = Path(folder) / f"{len(some)}.csv"
            sink = FileSink(_TASK, OutputOptions(file, force=True), None)
            start = _Clock()
            loop.run(job, some, sink, Tally())
            timed = start.timed(len(some))
    return timed
