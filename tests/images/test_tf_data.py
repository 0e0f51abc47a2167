"""The stream of tf.data: order, batches, reasons, and how it ends."""

from __future__ import annotations

import io
import itertools
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnv1cli.errors import MissingInputError
from mnv1cli.images import decode
from mnv1cli.images.tf_data import Stream
from mnv1cli.types import ImageRef, PixelSpec
from tests.support import images
from tests.support.images import colours, encode
from tests.support.reading import (
    KINDS,
    Endless,
    Read,
    Stopped,
    find_differences,
    number_refs,
    unpack_batches,
    write_mixture,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.types import Batch


SPEC = PixelSpec(64)
PROMPT_SECONDS = 10.0


def load_batches(refs: Iterable[ImageRef], spec: PixelSpec, batch_size: int) -> Iterator[Batch]:
    return Stream(spec, batch_size, workers=2).load_batches(refs)


def read_images(
    refs: Iterable[ImageRef], spec: PixelSpec = SPEC, batch_size: int = 8
) -> Iterator[Read]:
    return unpack_batches(load_batches(refs, spec, batch_size), spec)


# The same bits


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageRef]:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.sampled_from(KINDS), max_size=14), st.integers(1, 6))
def test_images_keep_their_order_whatever_lies_between(
    mixture: dict[str, ImageRef], kinds: list[str], batch_size: int
) -> None:
    refs = number_refs(mixture, kinds)
    assert find_differences(read_images(refs, SPEC, batch_size), refs, SPEC) == []


@pytest.mark.parametrize(
    "kinds",
    [
        ["jpeg", "bad tables", "missing", "png"],
        ["missing", "bad tables", "jpeg"],
        ["bad tables", "missing"],
        ["bad tables", "cut jpeg", "text", "jpeg", "bad tables"],
        ["cut jpeg", "cut jpeg", "jpeg"],
        ["jpeg", "cut jpeg", "cut jpeg"],
        KINDS,
        KINDS[::-1],
        KINDS * 5,
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_bad_images_shift_no_row(
    mixture: dict[str, ImageRef], kinds: list[str], batch_size: int
) -> None:
    refs = number_refs(mixture, kinds)
    assert find_differences(read_images(refs, SPEC, batch_size), refs, SPEC) == []


def test_kinds_are_those_of_the_mixture(mixture: dict[str, ImageRef]) -> None:
    assert sorted(KINDS) == sorted(mixture)


@pytest.mark.parametrize("kinds", [["missing"], ["cut jpeg"], ["text", "cut jpeg", "problem"]])
@pytest.mark.parametrize("size", [64, 128])
def test_batch_of_bad_images_has_no_rows(
    mixture: dict[str, ImageRef], kinds: list[str], size: int
) -> None:
    refs = number_refs(mixture, kinds)
    (batch,) = load_batches(refs, PixelSpec(size), 8)
    assert batch.paths == tuple(ref.path for ref in refs)
    assert all(batch.reasons)
    assert batch.pixels.shape == (0, size, size, 3)
    assert batch.pixels.dtype == np.float32


def test_no_images_are_no_batches() -> None:
    assert list(load_batches([], SPEC, 8)) == []


@pytest.mark.parametrize(
    ("batch_size", "lengths"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (9, [5])]
)
def test_batches_are_full_but_for_the_last(
    mixture: dict[str, ImageRef], batch_size: int, lengths: list[int]
) -> None:
    refs = number_refs(mixture, ["jpeg", "missing", "png", "array", "jpeg"])
    assert [len(batch.paths) for batch in load_batches(refs, SPEC, batch_size)] == lengths


def test_batches_are_no_larger_where_images_fall_out(mixture: dict[str, ImageRef]) -> None:
    refs = number_refs(mixture, ["jpeg", *["bad tables"] * 9, "jpeg", "png", "bad tables"])
    lengths = [len(batch.paths) for batch in load_batches(refs, SPEC, 4)]
    assert sum(lengths) == len(refs)
    assert max(lengths) == 4
    assert find_differences(read_images(refs, SPEC, 4), refs, SPEC) == []


# In memory


def test_sources_are_images_without_a_file() -> None:
    sources = [colours(90, 70), images.shades(), Image.fromarray(colours(20, 30)).convert("CMYK")]
    refs = [ImageRef(i, f"{i}".encode(), source=source) for i, source in enumerate(sources)]
    results = list(read_images(refs))
    assert [result.path for result in results] == [b"0", b"1", b"2"]
    for result, source in zip(results, sources, strict=True):
        np.testing.assert_array_equal(result.pixels, decode.load_from_memory(source, SPEC))


def test_opened_pil_image_may_be_given_several_times() -> None:
    data = encode(Image.fromarray(colours(600, 800)), "PNG")
    with Image.open(io.BytesIO(data)) as image:
        results = list(read_images(ImageRef(i, b"", source=image) for i in range(12)))
    expected = Read(b"", "", decode.load(data, SPEC))
    assert [result.reason for result in results] == [""] * 12
    assert all(result.equals(expected) for result in results)


@pytest.mark.parametrize("source", [np.zeros((4, 5)), "photo.jpg", [[1], [1, 2]]])
def test_source_that_is_no_image_is_a_reason(source: object) -> None:
    (result,) = read_images([ImageRef(0, b"", source=source)])
    assert "array" in result.reason


def test_problem_is_the_reason(mixture: dict[str, ImageRef]) -> None:
    ref = ImageRef(0, mixture["jpeg"].path, problem="the folder cannot be listed")
    assert list(read_images([ref])) == [Read(ref.path, "the folder cannot be listed", None)]


# The iterator over the refs


@pytest.mark.parametrize("error", [ValueError("of Python"), MissingInputError("ours"), Stopped()])
@pytest.mark.parametrize("kinds", [[], ["jpeg"], ["jpeg", "png"], ["missing", "jpeg", "cut jpeg"]])
def test_what_the_refs_raise_comes_in_its_turn(
    mixture: dict[str, ImageRef], kinds: list[str], error: BaseException
) -> None:
    refs = number_refs(mixture, kinds)

    def failing() -> Iterator[ImageRef]:
        yield from refs
        raise error

    stream = read_images(failing(), SPEC, 2)
    assert find_differences(itertools.islice(stream, len(refs)), refs, SPEC) == []
    with pytest.raises(type(error)) as caught:
        next(stream)
    assert caught.value is error


def list_pipelines() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "mnv1-ordered"}


@pytest.mark.parametrize("kind", ["jpeg", "png", "array", "problem"])
@pytest.mark.parametrize("pause", [0, 0.3], ids=["busy", "waiting for the consumer"])
def test_closing_ends_the_work(mixture: dict[str, ImageRef], kind: str, pause: float) -> None:
    before = list_pipelines()
    refs = Endless(mixture[kind])
    stream = load_batches(refs, SPEC, 4)
    next(stream)
    threads = list_pipelines() - before
    assert threads
    time.sleep(pause)
    started = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    for thread in threads:
        thread.join(PROMPT_SECONDS)
        assert not thread.is_alive()
    assert time.monotonic() - started < PROMPT_SECONDS
    # What was under way may end; nothing comes after it.
    count = refs.taken
    time.sleep(0.05)
    assert refs.taken <= count + 1


def test_refs_are_read_little_ahead_of_the_consumer(mixture: dict[str, ImageRef]) -> None:
    refs = Endless(mixture["array"])
    stream = load_batches(refs, SPEC, 4)
    next(stream)
    time.sleep(0.5)
    ahead = refs.taken
    stream.close()  # type: ignore[attr-defined]
    assert ahead < 4 * 20


def test_nothing_is_read_before_the_first_batch_is_asked_for() -> None:
    refs = Endless(ImageRef(0, b"missing"))
    load_batches(refs, SPEC, 4)
    assert refs.taken == 0


def test_refs_are_taken_once(mixture: dict[str, ImageRef]) -> None:
    refs = iter(number_refs(mixture, KINDS))
    assert len(list(read_images(refs))) == len(KINDS)
    assert next(refs, None) is None
