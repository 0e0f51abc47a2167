"""Runs over made-up images, complete or in shards: only the network and the pixels are not real."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from pyarrow import parquet

from mnv1cli.inference.job import Job
from mnv1cli.inputs.shards import Shard, ShardSelection
from mnv1cli.runs import loop
from mnv1cli.runs.file_sink import FileSink
from mnv1cli.runs.options import OutputOptions
from mnv1cli.runs.tally import Tally
from mnv1cli.types import (
    DEFAULT_DEVICE,
    UNIT_RANGE,
    ImageInfo,
    ImageRef,
    PixelSpec,
    Prediction,
    Table,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

BATCH = 3
LABELS = ("tabby", 'a "quoted", label', "crane", "crane")


@dataclass(frozen=True)
class Run:
    """A run: its task, and the options of its output."""

    command: Any = "classify"
    on_error: Any = "skip"
    wide: bool = False
    meta: bool = False
    min_probability: float = 0.0
    pool: bool = True

    @property
    def task(self) -> Task:
        return Task(
            self.command,
            top=3,
            min_probability=self.min_probability,
            pool=self.pool,
            meta=self.meta,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        if self.command == "classify":
            return (3,)
        return (5,) if self.pool else (2, 2, 3)

    def write(self, file: Path, paths: Sequence[bytes], shard: Shard | None = None) -> Path:
        """Do the images, or those of a shard, and write the result to `file`."""
        refs: Iterable[ImageRef] = (ImageRef(i, path) for i, path in enumerate(paths))
        sharded = None if shard is None else ShardSelection(shard)
        options = OutputOptions(file, None, self.wide, on_error=self.on_error)
        sink = FileSink(self.task, options, None, sharded=sharded)
        loop.run(self.job(), sharded.select(refs) if sharded else refs, sink, Tally())
        return file

    def job(self, fingerprint: str = "0" * 64) -> Job:
        facts = {"handle": "made up", "fingerprint": fingerprint, "input_range": UNIT_RANGE}
        module: Any = SimpleNamespace(**facts)
        engine = {"engine": "litert", "precision": "float32", "device": DEFAULT_DEVICE}
        model: Any = SimpleNamespace(**engine, calibrated=None, recipe=None)
        return MadeUp(module, model, PixelSpec(128), self.task, "features", self.shape, BATCH, 1)

    def shards(self, folder: Path, count: int, paths: Sequence[bytes], *kinds: str) -> list[Path]:
        """Write all shards of the images, in files of these kinds in turn."""
        return [
            self.write(folder / f"{i}.{kinds[i % len(kinds)]}", paths, Shard(i, count))
            for i in range(count)
        ]


class MadeUp(Job):
    """A job whose result for an image depends only on its path."""

    def compute_tables(self, refs: Iterable[ImageRef]) -> Iterator[Table]:
        paths = [ref.path for ref in refs]
        for start in range(0, len(paths), self.batch_size):
            yield self._made(paths[start : start + self.batch_size])

    def _made(self, paths: Sequence[bytes]) -> Table:
        errors = tuple(error_of(path) for path in paths)
        image_info = tuple(map(_image_info, paths)) if self.task.meta else ()
        if self.task.command == "classify":
            least = self.task.min_probability
            found = tuple(
                () if error else _predictions(path, least)
                for path, error in zip(paths, errors, strict=True)
            )
            return Table(tuple(paths), errors, predictions=found, image_info=image_info)
        values = np.stack([_values(path, self.shape) for path in paths])
        values[[bool(error) for error in errors]] = np.nan
        return Table(tuple(paths), errors, values=values)


def error_of(path: bytes) -> str:
    """Return the reason why an image fails, as about one in four does."""
    return 'no "image",\nat all' if _hash(path)[0] % 4 == 0 else ""


def _hash(path: bytes) -> bytes:
    return hashlib.blake2b(path).digest()


def is_unlabelled(path: bytes, run: Run) -> bool:
    """Return whether an image keeps no label."""
    if run.command != "classify" or error_of(path):
        return False
    return not _predictions(path, run.min_probability)


def _predictions(path: bytes, least: float) -> tuple[Prediction, ...]:
    scores = sorted(struct.unpack("<3I", _hash(path)[:12]), reverse=True)
    found = (
        Prediction(
            rank,
            rank * 7,
            f"n{rank:08}",
            LABELS[_hash(path)[rank] % 4],
            float(np.float32(score / 2**32)),
        )
        for rank, score in enumerate(scores, start=1)
    )
    return tuple(each for each in found if each.probability >= least)


def _values(path: bytes, shape: tuple[int, ...]) -> Any:
    seed = struct.unpack("<Q", _hash(path)[:8])[0]
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _image_info(path: bytes) -> ImageInfo:
    if error_of(path):
        return ImageInfo()
    taken = "2020-01-02T03:04:05" if _hash(path)[1] % 2 else ""
    return ImageInfo(640 + _hash(path)[2], 480, "2021-02-03T04:05:06Z", taken)


def rows(file: Path) -> Any:
    """Read what must be equal: bytes, or the rows of files that hold their metadata."""
    if file.suffix == ".npz":
        with np.load(file) as found:
            return {key: repr(found[key].tolist()) for key in found.files if key != "meta"}
    if file.suffix == ".parquet":
        return repr(parquet.read_table(file).to_pylist())
    index = file.with_suffix(".index.csv")
    return file.read_bytes(), index.read_bytes() if index.exists() else b""


def metadata(file: Path) -> Any:
    """Read the metadata of a result, without the time that the run took."""
    if file.suffix == ".npz":
        found = json.loads(str(np.load(file)["meta"]))
    elif file.suffix == ".parquet":
        told: Any = parquet.read_metadata(file).metadata
        found = json.loads(told[b"mnv1"])
    else:
        found = json.loads(file.with_name(file.name + ".meta.json").read_text("utf-8"))
    assert found.pop("seconds") >= 0
    return found
