"""Measure images a second of mnv1 and of its alternatives, in turn.

    python run.py --photos PHOTOS --json results.json --svg benchmark.svg
    python run.py --large

All run once, then all again, each time in a process of its own, so that a machine
that slows down does so for all. README.md says what is measured.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from statistics import median
from typing import Any

from contenders import BASELINE, Contender, Places, contenders
from measure import CommandError, listing, make_photos, measure, mnv1, script
from plot import bars

PHOTO, LARGE_PHOTO = (500, 375), (4000, 3000)
IMAGES, LARGE_IMAGES = 1023, 96
_PACKAGES = (
    "mnv1cli", "ai-edge-litert", "tensorflow-cpu", "onnxruntime", "openvino", "torch",
    "opencv-python-headless", "pillow", "numpy",
)  # fmt: skip


def prepare(options: argparse.Namespace, folder: str) -> Places:
    """Prepare the photos, the module and the ONNX file."""
    images = options.images or (LARGE_IMAGES if options.large else IMAGES)
    if options.photos:
        photos = listing(options.photos)
    else:
        size = LARGE_PHOTO if options.large else PHOTO
        count = min(images, 8 if options.large else 93)
        say(f"generating {count} photos of {size[0]}x{size[1]}")
        photos = make_photos(os.path.join(folder, "photos"), count, size)
    if not photos:
        raise SystemExit(f"no JPEG in {options.photos}")
    module = measure([*mnv1(), "module", "path", "--module", "bundled"]).stdout.strip()
    model = os.path.join(folder, "mobilenet.onnx")
    try:
        measure([*script("onnx_model.py"), model])
    except CommandError as error:
        say(f"no ONNX file: {error}")
    return Places(folder, photos, images, module, model)


def quantize(options: argparse.Namespace, places: Places) -> None:
    """Calibrate int8, on generated photos unless others are named."""
    photos = options.calibrate
    if not photos:
        photos = os.path.join(places.folder, "calibration")
        make_photos(photos, 200, PHOTO, seed=1)
    measure([*mnv1(), "module", "quantize", photos, "--module", "bundled"])


def take_part(
    options: argparse.Namespace, places: Places
) -> tuple[list[Contender], dict[str, str]]:
    """Return the contenders that can run, and say why the others cannot."""
    chosen, skipped = [], {}
    for contender in contenders(options.large):
        if options.only and contender.name not in (*options.only, BASELINE):
            continue
        if missing := contender.missing():
            skipped[contender.name] = f"not installed: {', '.join(missing)}"
            continue
        try:
            if "int8" in contender.options:
                quantize(options, places)
        except CommandError as error:
            skipped[contender.name] = f"cannot be calibrated: {error}"
            continue
        chosen.append(contender)
    return chosen, skipped


def alternate(
    running: list[Contender], skipped: dict[str, str], places: Places, runs: int
) -> list[Contender]:
    """Run all in turn, `runs` times, and return those that did not fail."""
    for turn in range(runs):
        for contender in running:
            if contender.name in skipped:
                continue
            try:
                run = contender.run(places)
            except CommandError as error:
                skipped[contender.name] = str(error)
                say(f"{contender.name} is left out: {error}")
                continue
            contender.runs.append(run)
            say(f"run {turn + 1} of {runs}: {contender.name} {run.rate:.0f} images/s")
    return [contender for contender in running if contender.name not in skipped]


def summary(contender: Contender, baseline: float | None, labels: dict[str, str]) -> dict[str, Any]:
    """Return the medians of a contender, and its runs."""
    rate = median(run.rate for run in contender.runs)
    starts = [run.start_seconds for run in contender.runs if run.start_seconds is not None]
    return {
        "name": contender.name,
        "rate": round(rate, 1),
        "ratio": round(rate / baseline, 3) if baseline else None,
        "process_rate": round(median(run.process_rate for run in contender.runs), 1),
        "cpu_ms": round(median(run.cpu_ms for run in contender.runs), 2),
        "peak_mb": round(median(run.peak_mb for run in contender.runs)),
        "start_seconds": round(median(starts), 2) if starts else None,
        "same_top1": labels.get(contender.name),
        "runs": [asdict(run) for run in contender.runs],
    }


def agreement(running: list[Contender], places: Places) -> dict[str, str]:
    """Count for each contender the photos with the best label that mnv1 gives them."""

    def best(name: str) -> dict[str, str]:
        with open(places.output(name), encoding="utf-8", newline="") as file:
            return {
                row["path"]: row["class_id"] for row in csv.DictReader(file) if row["rank"] == "1"
            }

    if all(contender.name != BASELINE for contender in running):
        return {}
    ours = best(BASELINE)
    labels = {contender.name: best(contender.name) for contender in running}
    return {
        name: f"{sum(rows.get(path) == label for path, label in ours.items())}/{len(ours)}"
        for name, rows in labels.items()
    }


def bound(places: Places) -> Any:
    """Return the bound that `mnv1 bench` gives for this machine; None if it gives none."""
    folder = os.path.dirname(places.photos[0])
    try:
        figures = json.loads(measure([*mnv1(), "bench", folder, "--json"]).stdout)
    except (CommandError, ValueError) as error:
        say(f"no bound: {error}")
        return None
    return figures.get("bound") if isinstance(figures, dict) else None


def machine() -> dict[str, Any]:
    """Return the machine and the versions that ran."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "python": platform.python_version(), "packages": versions}


def table(results: list[dict[str, Any]]) -> str:
    """Return the medians as a table, for people and for README.md."""
    columns = (
        "name",
        "rate",
        "ratio",
        "process_rate",
        "cpu_ms",
        "peak_mb",
        "start_seconds",
        "same_top1",
    )
    heads = (
        "",
        "images/s",
        "to mnv1",
        "whole process",
        "CPU ms",
        "peak MB",
        "start s",
        "same top-1",
    )
    rows = [["" if r[c] is None else str(r[c]) for c in columns] for r in results]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(heads), ["---"] * len(heads), *rows])


def say(line: str) -> None:
    """Print the progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Images a second, in alternation.")
    parser.add_argument("--photos", metavar="DIR", help="JPEGs to classify, over and over")
    parser.add_argument("--calibrate", metavar="DIR", help="other photos, for int8")
    parser.add_argument("--images", type=int, help=f"how many a round ({IMAGES})")
    parser.add_argument("--runs", type=int, default=5, help="how often each runs (5)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"these and {BASELINE}")
    parser.add_argument("--large", action="store_true", help="photos of 4000x3000")
    parser.add_argument("--json", metavar="FILE", help="all figures")
    parser.add_argument("--svg", metavar="FILE", help="the medians as bars")
    options = parser.parse_args()
    names = [contender.name for contender in contenders(options.large)]
    for name in options.only or ():
        if name not in names:
            parser.error(f"no contender {name}; there are {', '.join(names)}")
    return options


def main() -> int:
    """Run, and print the results."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        places = prepare(options, folder)
        chosen, skipped = take_part(options, places)
        running = alternate(chosen, skipped, places, options.runs)
        labels = agreement(running, places)
        limit = bound(places)
    ours = [median(r.rate for r in c.runs) for c in running if c.name == BASELINE]
    results = [summary(c, ours[0] if ours else None, labels) for c in running]
    print(table(results))
    for name, reason in skipped.items():
        print(f"{name} did not take part: {reason}")
    print(f"bound of mnv1 bench: {limit if limit is not None else 'unknown'}")
    report = {"images": places.images, "runs": options.runs, "large": options.large}
    report |= {"machine": machine(), "bound": limit, "results": results, "skipped": skipped}
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
    if options.svg:
        title = f"Images a second, median of {options.runs} runs"
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(bars({r["name"]: r["rate"] for r in results}, title))
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
