"""Images through Pillow in threads: the bits of `decode.load`, in order."""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import ImageError, MissingInputError
from mnv1cli.images import loader
from mnv1cli.types import Decode, ImageRef, PixelSpec, Preprocess
from tests.support.images import SAMPLES, jpeg
from tests.support.reading import (
    KINDS,
    SPEC,
    Endless,
    Read,
    Stopped,
    find_differences,
    number_refs,
    read_alone,
    unpack_batches,
    write_files,
    write_mixture,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mnv1cli.types import Batch


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageRef]:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


def load_batches(
    refs: Iterable[ImageRef], spec: PixelSpec = SPEC, batch_size: int = 8, workers: int = 2
) -> Iterator[Batch]:
    return loader.load_with_pillow(refs, spec, batch_size, workers)


@pytest.mark.parametrize("exif", [True, False], ids=["exif", "no exif"])
@pytest.mark.parametrize("decode", get_args(Decode))
@pytest.mark.parametrize("preprocess", get_args(Preprocess))
def test_files_have_the_bits_of_pixels_alone(
    tmp_path: Path, preprocess: Preprocess, decode: Decode, exif: bool
) -> None:
    files = {name: sample.data for name, sample in SAMPLES.items()}
    refs = write_files(tmp_path, {**files, "large": jpeg(901, 1200)})
    spec = PixelSpec(64, preprocess, decode, exif)
    results = list(unpack_batches(load_batches(refs, spec), spec))
    assert [result.reason for result in results] == [""] * len(refs)
    assert find_differences(results, refs, spec) == []


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(KINDS), max_size=30), st.integers(1, 20), st.integers(1, 4))
def test_images_keep_their_order_whatever_lies_between(
    mixture: dict[str, ImageRef], kinds: list[str], batch_size: int, workers: int
) -> None:
    refs = number_refs(mixture, kinds)
    results = unpack_batches(load_batches(refs, SPEC, batch_size, workers))
    assert find_differences(results, refs, SPEC) == []


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_batches_are_no_larger_than_asked_for(
    mixture: dict[str, ImageRef], batch_size: int
) -> None:
    lengths = [
        len(batch.paths) for batch in load_batches(number_refs(mixture, KINDS), SPEC, batch_size)
    ]
    assert sum(lengths) == len(KINDS)
    assert max(lengths) <= batch_size


def test_a_handful_of_images_is_spread_over_the_workers(tmp_path: Path) -> None:
    refs = write_files(tmp_path, {f"{i}.jpg": jpeg(20, 20) for i in range(10)})
    assert len(list(load_batches(refs, SPEC, batch_size=1000))) > 1


def test_batches_of_bad_images_have_no_rows(mixture: dict[str, ImageRef]) -> None:
    for batch in load_batches(number_refs(mixture, ["missing", "text", "problem"])):
        assert all(batch.reasons)
        assert batch.pixels.shape == (0, 64, 64, 3)
        assert batch.pixels.dtype == np.float32


def test_no_images_are_no_batches() -> None:
    assert list(load_batches([])) == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_is_read_or_refused_with_its_reason(
    mixture: dict[str, ImageRef], kind: str
) -> None:
    expected = read_alone(mixture[kind], SPEC)
    try:
        out = np.full((64, 64, 3), np.nan, np.float32)
        loader.load_image(mixture[kind], SPEC, out)
        found = Read(mixture[kind].path, "", out)
    except ImageError as error:
        found = Read(mixture[kind].path, str(error), None)
    assert found.equals(expected)


@pytest.mark.parametrize("error", [ValueError("of Python"), MissingInputError("ours"), Stopped()])
@pytest.mark.parametrize("kinds", [[], ["jpeg"], ["missing", "jpeg", "cut jpeg"], KINDS])
def test_what_the_refs_raise_comes_in_its_turn(
    mixture: dict[str, ImageRef], kinds: list[str], error: BaseException
) -> None:
    refs = number_refs(mixture, kinds)

    def failing() -> Iterator[ImageRef]:
        yield from refs
        raise error

    stream = unpack_batches(load_batches(failing()))
    assert find_differences(itertools.islice(stream, len(refs)), refs, SPEC) == []
    with pytest.raises(type(error)) as caught:
        next(stream)
    assert caught.value is error


def test_refs_are_read_little_ahead_and_no_more_after_closing(
    mixture: dict[str, ImageRef],
) -> None:
    before = set(threading.enumerate())
    refs = Endless(mixture["array"])
    stream = load_batches(refs)
    next(stream)
    threads = set(threading.enumerate()) - before
    time.sleep(0.1)
    assert refs.taken < 50
    stream.close()  # type: ignore[attr-defined]
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    count = refs.taken
    time.sleep(0.02)
    assert refs.taken == count


def test_name_of_any_bytes_is_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\n'.jpg"
    with open(path, "wb") as file:
        file.write(jpeg(30, 40))
    (result,) = unpack_batches(load_batches([ImageRef(0, path)]))
    assert (result.path, result.reason) == (path, "")
