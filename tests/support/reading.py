"""The results that every way from files to batches must have, and files to try it with."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.images import file, loader
from mnv1cli.inference import tf_data
from mnv1cli.types import ImageRef, PixelSpec
from tests.support import images
from tests.support.images import SAMPLES, colours, grey_jpeg, jpeg
from tests.support.pixels import load_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from mnv1cli.types import Batch, FloatArray

    Feeder = Callable[[Iterable[ImageRef], PixelSpec, int, int], Iterator[Batch]]

SPEC = PixelSpec(64)
FEEDERS: dict[str, Feeder] = {
    "threads": loader.load_batches,
    "tf.data": tf_data.load_batches,
}

KINDS = [
    "jpeg", "another jpeg", "grey jpeg", "png", "bad tables", "cut jpeg", "cut png", "text",
    "empty", "missing", "folder", "problem", "pil image", "array", "bad array",
]  # fmt: skip


class Stopped(BaseException):
    """An exception that is not an error of an image."""


class Read(NamedTuple):
    """An image as it was read: a reason, or its pixels."""

    path: bytes
    reason: str
    pixels: FloatArray | None

    def equals(self, other: Read) -> bool:
        """Return whether path, reason and every bit are equal."""
        if self.pixels is None or other.pixels is None:
            return self[:2] == other[:2] and self.pixels is other.pixels
        return self[:2] == other[:2] and np.array_equal(self.pixels, other.pixels)


def unpack_batches(batches: Iterable[Batch], spec: PixelSpec = SPEC) -> Iterator[Read]:
    """Yield each image of each batch, and check the shape of the batch."""
    for batch in batches:
        assert len(batch.paths) == len(batch.reasons) > 0
        assert batch.pixels.shape == (batch.reasons.count(""), spec.size, spec.size, 3)
        assert batch.pixels.dtype == np.float32
        rows = iter(batch.pixels)
        for path, reason in zip(batch.paths, batch.reasons, strict=True):
            yield Read(path, reason, None if reason else next(rows))


def read_alone(ref: ImageRef, spec: PixelSpec = SPEC) -> Read:
    """Read an image with `decode` only."""
    try:
        if ref.problem:
            raise ImageError(ref.problem)
        if ref.source is not None:
            return Read(ref.path, "", load_pixels(ref.source, spec))
        return Read(ref.path, "", load_pixels(file.read_file(ref.path), spec))
    except ImageError as error:
        return Read(ref.path, str(error), None)


def find_differences(got: Iterable[Read], refs: Iterable[ImageRef], spec: PixelSpec) -> list[bytes]:
    """Return the paths of images that differ from those read with `decode` only."""
    pairs = zip(got, (read_alone(ref, spec) for ref in refs), strict=True)
    return [expected.path for result, expected in pairs if not result.equals(expected)]


def write_files(folder: Path, files: Mapping[str, bytes]) -> list[ImageRef]:
    """Write files with these names and contents; return their refs."""
    refs = []
    for index, (name, data) in enumerate(files.items()):
        (folder / name).write_bytes(data)
        refs.append(ImageRef(index, os.fsencode(folder / name)))
    return refs


def write_mixture(folder: Path) -> dict[str, ImageRef]:
    """Write good and bad files of every kind; return their refs and others."""
    names = {
        "jpeg": jpeg(61, 83),
        "another jpeg": jpeg(333, 250),
        "grey jpeg": grey_jpeg(50, 40),
        "png": SAMPLES["RGBA PNG"].data,
        "bad tables": images.jpeg_with_bad_tables(),
        "cut jpeg": jpeg(200, 300)[:-2000],
        "cut png": SAMPLES["RGB PNG"].data[:200],
        "text": b"not an image",
        "empty": b"",
    }
    refs = dict(zip(names, write_files(folder, names), strict=True))
    refs["missing"] = ImageRef(0, os.fsencode(folder / "missing.jpg"))
    refs["folder"] = ImageRef(0, os.fsencode(folder))
    refs["problem"] = ImageRef(0, b"folder", problem="cannot be listed")
    refs["pil image"] = ImageRef(0, b"", source=Image.fromarray(colours(30, 20)))
    refs["array"] = ImageRef(0, b"array", source=images.shades())
    refs["bad array"] = ImageRef(0, b"bad array", source=np.zeros((3, 4)))
    return refs


def number_refs(mixture: dict[str, ImageRef], kinds: Iterable[str]) -> list[ImageRef]:
    chosen = [mixture[kind] for kind in kinds]
    return [ImageRef(i, ref.path, ref.source, ref.problem) for i, ref in enumerate(chosen)]


class Endless:
    """Endless refs, which count those that were taken."""

    def __init__(self, *refs: ImageRef) -> None:
        self.taken = 0
        self._refs = itertools.cycle(refs)

    def __iter__(self) -> Iterator[ImageRef]:
        for ref in self._refs:
            self.taken += 1
            yield ref
