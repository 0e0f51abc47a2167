"""The contenders: how each is started, and how its rate is measured."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass, field

from measure import CommandError, Measured, measure, mnv1, script, write_list

BASELINE = "mnv1-float32"

# How often a run goes through the photos. The fewer, the more it counts that a
# script fills its pipeline while the clock runs.
TIMES = 3

# Seconds after which a run counts as hung.
LIMIT = 900


@dataclass(frozen=True, slots=True)
class Places:
    """The files of a benchmark: the photos, and what is made for it."""

    folder: str
    photos: list[str]
    images: int
    module: str
    model: str

    def output(self, name: str) -> str:
        """Return the path of a contender's rows."""
        return os.path.join(self.folder, f"{name}.csv")

    def list_of(self, times: int) -> str:
        """Return the list of photos, repeated `times` times."""
        path = os.path.join(self.folder, f"list-{times}.txt")
        return write_list(path, self.photos, times * self.images)


@dataclass(frozen=True, slots=True)
class Run:
    """One run: images a second in steady state, and those of the whole process."""

    rate: float
    process_rate: float
    cpu_ms: float
    peak_mb: float
    start_seconds: float | None


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table."""

    name: str
    script: str = ""
    options: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    reads: str = "model"
    runs: list[Run] = field(default_factory=list)

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def run(self, places: Places) -> Run:
        """Run once.

        Raises:
            CommandError: it failed.
        """
        return self._run_script(places) if self.script else self._run_mnv1(places)

    def _run_mnv1(self, places: Places) -> Run:
        """Run the command twice; what the longer run took more is steady state."""
        short, long = (self._classify(places, times) for times in (1, TIMES))
        more = (TIMES - 1) * places.images
        if long.seconds <= short.seconds:
            raise CommandError("too few images to tell a rate")
        return Run(
            rate=more / (long.seconds - short.seconds),
            process_rate=TIMES * places.images / long.seconds,
            cpu_ms=(long.cpu_seconds - short.cpu_seconds) / more * 1e3,
            peak_mb=long.peak_mb,
            start_seconds=None,
        )

    def _classify(self, places: Places, times: int) -> Measured:
        what = ["--files-from", places.list_of(times), "--module", "bundled", "--top", "5"]
        where = ["-o", places.output(self.name), "--force", "-q"]
        return measure([*mnv1(), "classify", *what, *where, *self.options], LIMIT)

    def _run_script(self, places: Places) -> Run:
        """Run the script once; it warms up and then measures the time itself."""
        needs = {"module": ["--module", places.module], "model": ["--model", places.model]}
        what = [places.list_of(TIMES), "-o", places.output(self.name), "--name", self.name]
        command = [*script(self.script), *what, *needs.get(self.reads, []), *self.options]
        measured = measure(command, LIMIT)
        figures = json.loads(measured.stdout.splitlines()[-1])
        if figures["images"] != TIMES * places.images:
            raise CommandError(f"{figures['images']} images of {TIMES * places.images}")
        return Run(
            rate=figures["images"] / figures["seconds"],
            process_rate=figures["images"] / measured.seconds,
            cpu_ms=figures["cpu_seconds"] / figures["images"] * 1e3,
            peak_mb=measured.peak_mb,
            start_seconds=figures["start_seconds"],
        )


def _openvino(name: str, *options: str) -> Contender:
    packages = ("openvino", "cv2", "onnx")
    return Contender(name, "openvino_script.py", options, packages)


def contenders(large: bool) -> list[Contender]:
    """Return the contenders for the table, or those for photos of a camera."""
    ours = Contender(BASELINE, options=("--engine", "litert", "--precision", "float32"))
    packages = ("onnxruntime", "onnx")
    if large:
        full = Contender("pillow-full", "pillow_full_script.py", packages=packages)
        return [ours, full]
    plain = ("plain_script.py", ("tensorflow",), "module")
    return [
        ours,
        Contender("mnv1-int8", options=("--engine", "litert", "--precision", "int8")),
        Contender("mnv1-tf", options=("--engine", "tf")),
        *(
            Contender(f"plain-{mode}", plain[0], ("--parallel", mode), plain[1], plain[2])
            for mode in ("autotune", "cores")
        ),
        Contender("onnxruntime", "onnxruntime_script.py", packages=(*packages, "cv2")),
        _openvino("openvino-f32", "--precision", "f32"),
        _openvino("openvino-f32-tuned", "--precision", "f32", "--tuned"),
        _openvino("openvino-bf16", "--precision", "bf16"),
        _openvino("openvino-bf16-tuned", "--precision", "bf16", "--tuned"),
        Contender("pytorch", "pytorch_script.py", packages=("torch",), reads=""),
    ]
