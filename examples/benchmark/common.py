"""Shared parts of the scripts: arguments, lists, weights, labels, rows and the clock.

A script gives `benchmark` a function from paths to batches of logits, written
as users of its library write it; everything around it is the same for all.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import json
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    Batches = Iterator[tuple[Sequence[str], FloatArray]]
    Predict = Callable[[list[str]], Batches]

SIZE = 128
TOP = 5
WARM_UP = 64

# (stride, output channels) of the thirteen separable convolutions.
SEPARABLE = (
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), (1, 512),
    (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024),
)  # fmt: skip
_EPSILON = 0.001

_T = TypeVar("_T")
_R = TypeVar("_R")


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments of every script: a list of photos, and the rows to write."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("list", help="file with the path of a photo on each line")
    parser.add_argument("-o", "--output", required=True, help="CSV to write")
    parser.add_argument("--name", required=True, help="what the JSON line calls this run")
    return parser


def benchmark(options: argparse.Namespace, predict: Predict) -> None:
    """Warm up, classify the list, write the rows, and print one line of JSON."""
    with open(options.list, encoding="utf-8") as file:
        paths = file.read().splitlines()
    names = labels()
    write_rows(os.devnull, predict([*itertools.islice(itertools.cycle(paths), WARM_UP)]), names)
    start_seconds = process_age()
    begun, cpu = time.perf_counter(), sum(os.times()[:4])
    images = write_rows(options.output, predict(paths), names)
    seconds = time.perf_counter() - begun
    result = {
        "name": options.name,
        "images": images,
        "seconds": round(seconds, 4),
        # That of the workers too, which have ended by now.
        "cpu_seconds": round(sum(os.times()[:4]) - cpu, 2),
        "start_seconds": start_seconds,
    }
    print(json.dumps(result))


def write_rows(output: str, batches: Batches, names: list[str]) -> int:
    """Write the best labels of every photo, and return the number of photos."""
    images = 0
    with open(output, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "rank", "class_id", "label", "probability"])
        for paths, logits in batches:
            images += len(paths)
            classes, probabilities = best(logits)
            for path, ids, values in zip(
                paths, classes.tolist(), probabilities.tolist(), strict=True
            ):
                writer.writerows(
                    (path, rank, i, names[i], f"{value:.9g}")
                    for rank, (i, value) in enumerate(zip(ids, values, strict=True), start=1)
                )
    return images


def best(logits: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Return the `TOP` best classes of every row, best first, and their probabilities."""
    classes = np.argpartition(logits, -TOP, axis=1)[:, -TOP:]
    order = np.argsort(-np.take_along_axis(logits, classes, 1), axis=1, kind="stable")
    classes = np.take_along_axis(classes, order, 1)
    highest = np.take_along_axis(logits, classes[:, :1], 1)
    sums = np.exp(logits - highest).sum(axis=1, keepdims=True)
    return classes, np.exp(np.take_along_axis(logits, classes, 1) - highest) / sums


def process_age() -> float | None:
    """Return the seconds since this process began, imports included; None if that is unknown."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return None
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return round(age, 2)


def chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Give slices of `size` items; the last one may be shorter."""
    return (items[i : i + size] for i in range(0, len(items), size))


def ahead(
    pool: Executor, function: Callable[[_T], _R], items: Iterable[_T], depth: int
) -> Iterator[_R]:
    """Map as `pool.map`, at most `depth` items ahead, so that memory stays flat."""
    pending: deque[Future[_R]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) >= depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _package() -> str:
    """Return the folder of mnv1cli without importing it."""
    spec = importlib.util.find_spec("mnv1cli")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("mnv1cli is not installed here")
    return spec.submodule_search_locations[0]


def labels() -> list[str]:
    """Return the names of the 1001 classes, from the package or, in a checkout, from beside it."""
    name = os.path.join("labels", "imagenet_1001.csv")
    packaged = os.path.join(_package(), "data", name)
    beside = os.path.join(os.path.dirname(_package()), name)
    path = packaged if os.path.exists(packaged) else beside
    with open(path, encoding="utf-8", newline="") as file:
        return [row["label"] for row in csv.DictReader(file)]


def weights() -> dict[str, Any]:
    """Return the variables that come with the package, under their TF-Slim names, as float32."""
    path = os.path.join(_package(), "data", "weights", "mobilenet_v1_1.0_224.fp16.npz")
    with np.load(path) as archive:
        return {name: archive[name].astype(np.float32) for name in archive}


def convolutions() -> Iterator[tuple[int, bool, FloatArray, FloatArray]]:
    """Give (stride, depthwise, kernel [out, in, h, w], bias) of every layer, batch norm folded in.

    The last one is the classifier, which follows the average pool and has no ReLU6.
    """
    variables = weights()
    yield 2, False, *_folded(variables, "Conv2d_0", "weights")
    for i, (stride, _) in enumerate(SEPARABLE, start=1):
        yield stride, True, *_folded(variables, f"Conv2d_{i}_depthwise", "depthwise_weights")
        yield 1, False, *_folded(variables, f"Conv2d_{i}_pointwise", "weights")
    head = "MobilenetV1/Logits/Conv2d_1c_1x1"
    kernel = np.ascontiguousarray(variables[f"{head}/weights"].transpose(3, 2, 0, 1))
    yield 1, False, kernel, variables[f"{head}/biases"]


def _folded(variables: dict[str, Any], layer: str, kernel: str) -> tuple[FloatArray, FloatArray]:
    scope = f"MobilenetV1/{layer}"
    norm = {
        name: variables[f"{scope}/BatchNorm/{name}"]
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    scale = norm["gamma"] / np.sqrt(norm["moving_variance"] + _EPSILON)
    # TensorFlow has [h, w, in, out], and [h, w, channels, 1] where it is depthwise.
    order = (2, 3, 0, 1) if kernel == "depthwise_weights" else (3, 2, 0, 1)
    values = variables[f"{scope}/{kernel}"].transpose(order) * scale[:, None, None, None]
    return np.ascontiguousarray(values), norm["beta"] - norm["moving_mean"] * scale
