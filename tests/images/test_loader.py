"""Images through threads and through tf.data: the same bits, in order."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnv1cli.errors import MissingInputError
from mnv1cli.types import Decode, ImageRef, PixelSpec, Preprocess
from tests.support.images import SAMPLES, colours, encode, jpeg
from tests.support.pixels import load_pixels
from tests.support.reading import (
    FEEDERS,
    KINDS,
    SPEC,
    Endless,
    Read,
    Stopped,
    find_differences,
    number_refs,
    unpack_batches,
    write_files,
    write_mixture,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.reading import Feeder

PROMPT_SECONDS = 10.0


@pytest.fixture(params=FEEDERS)
def load(request: pytest.FixtureRequest) -> Feeder:
    return FEEDERS[request.param]


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageRef]:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


def test_kinds_are_those_of_the_mixture(mixture: dict[str, ImageRef]) -> None:
    assert sorted(KINDS) == sorted(mixture)


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> list[ImageRef]:
    """Write every kind of file, and photos where there are any."""
    samples = {name: sample.data for name, sample in SAMPLES.items()}
    folder = tmp_path_factory.mktemp("files")
    refs = write_files(folder, {**samples, "large": jpeg(901, 1200)})
    with contextlib.suppress(pytest.skip.Exception):
        photos = sorted(os.fsencode(path) for path in request.getfixturevalue("photos").iterdir())
        refs += [ImageRef(index, path) for index, path in enumerate(photos[:24], len(refs))]
    return refs


@pytest.mark.parametrize(("resolution", "exif"), [("scaled", True), ("full", False)])
@pytest.mark.parametrize("preprocess", get_args(Preprocess))
def test_files_have_the_bits_of_pixels_alone(
    load: Feeder, files: list[ImageRef], preprocess: Preprocess, resolution: Decode, exif: bool
) -> None:
    spec = PixelSpec(64, preprocess, resolution, exif)
    results = list(unpack_batches(load(files, spec, 8, 2), spec))
    assert [result.reason for result in results] == [""] * len(files)
    assert find_differences(results, files, spec) == []


@pytest.mark.parametrize("feeder", FEEDERS)
@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(KINDS), max_size=30), st.integers(1, 20), st.integers(1, 4))
def test_images_keep_their_order_whatever_lies_between(
    mixture: dict[str, ImageRef], feeder: str, kinds: list[str], batch_size: int, workers: int
) -> None:
    refs = number_refs(mixture, kinds)
    results = unpack_batches(FEEDERS[feeder](refs, SPEC, batch_size, workers))
    assert find_differences(results, refs, SPEC) == []


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_are_no_larger_than_asked_for(
    load: Feeder, mixture: dict[str, ImageRef], batch_size: int
) -> None:
    refs = number_refs(mixture, KINDS)
    lengths = [len(batch.paths) for batch in load(refs, SPEC, batch_size, 2)]
    assert sum(lengths) == len(KINDS)
    assert max(lengths) <= batch_size


def test_a_handful_of_images_is_spread_over_the_workers(load: Feeder, tmp_path: Path) -> None:
    refs = write_files(tmp_path, {f"{i}.jpg": jpeg(20, 20) for i in range(10)})
    assert len(list(load(refs, SPEC, 1000, 2))) > 1


@pytest.mark.parametrize("size", [64, 128])
def test_batches_of_bad_images_have_no_rows(
    load: Feeder, mixture: dict[str, ImageRef], size: int
) -> None:
    refs = number_refs(mixture, ["missing", "text", "problem"])
    for batch in load(refs, PixelSpec(size), 8, 2):
        assert all(batch.reasons)
        assert batch.pixels.shape == (0, size, size, 3)
        assert batch.pixels.dtype == np.float32


def test_no_images_are_no_batches(load: Feeder) -> None:
    assert list(load([], SPEC, 8, 2)) == []


def test_opened_pil_image_may_be_given_several_times(load: Feeder) -> None:
    data = encode(Image.fromarray(colours(600, 800)), "PNG")
    with Image.open(io.BytesIO(data)) as image:
        refs = [ImageRef(i, b"", source=image) for i in range(12)]
        results = list(unpack_batches(load(refs, SPEC, 4, 2)))
    expected = Read(b"", "", load_pixels(data, SPEC))
    assert all(result.equals(expected) for result in results)


@pytest.mark.parametrize("error", [ValueError("of Python"), MissingInputError("ours"), Stopped()])
@pytest.mark.parametrize("kinds", [[], ["jpeg"], ["missing", "jpeg", "cut jpeg"], KINDS])
def test_what_the_refs_raise_comes_in_its_turn(
    load: Feeder, mixture: dict[str, ImageRef], kinds: list[str], error: BaseException
) -> None:
    refs = number_refs(mixture, kinds)

    def failing() -> Iterator[ImageRef]:
        yield from refs
        raise error

    stream = unpack_batches(load(failing(), SPEC, 8, 2))
    assert find_differences(itertools.islice(stream, len(refs)), refs, SPEC) == []
    with pytest.raises(type(error)) as caught:
        next(stream)
    assert caught.value is error


@pytest.mark.parametrize("kind", ["jpeg", "png", "array", "problem"])
def test_refs_are_read_little_ahead_and_no_more_after_closing(
    load: Feeder, mixture: dict[str, ImageRef], kind: str
) -> None:
    before = set(threading.enumerate())
    refs = Endless(mixture[kind])
    stream = load(refs, SPEC, 8, 2)
    assert refs.taken == 0
    next(stream)
    threads = {t for t in set(threading.enumerate()) - before if t.name == "mnv1-ordered"}
    time.sleep(0.2)
    assert refs.taken < 100
    stream.close()  # type: ignore[attr-defined]
    for thread in threads:
        thread.join(PROMPT_SECONDS)
        assert not thread.is_alive()
    time.sleep(0.05)
    count = refs.taken
    time.sleep(0.05)
    assert refs.taken == count


def test_name_of_any_bytes_is_read(load: Feeder, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\n'.jpg"
    with open(path, "wb") as file:
        file.write(jpeg(30, 40))
    (result,) = unpack_batches(load([ImageRef(0, path)], SPEC, 8, 2))
    assert (result.path, result.reason) == (path, "")


MANY = """
import sys
from mnv1cli.images import loader
from mnv1cli.types import ImageRef, PixelSpec
refs = (ImageRef(i, sys.argv[1].encode()) for i in range(30_000))
assert sum(len(batch.paths) for batch in loader.load_batches(refs, PixelSpec(8), 16, 2)) == 30_000
print("tensorflow" in sys.modules)
"""


def test_however_many_images_do_without_tensorflow(tmp_path: Path) -> None:
    (ref,) = write_files(tmp_path, {"a.jpg": jpeg(16, 16)})
    words = [sys.executable, "-c", MANY, os.fsdecode(ref.path)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == ("False", "")
