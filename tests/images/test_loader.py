"""Pillow first, tf.data when there are many: the results do not depend on the decoder."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import MissingInputError
from mnv1cli.images import loader
from mnv1cli.images.tf_data import Stream
from mnv1cli.types import ImageRef, PixelSpec
from tests.support.images import jpeg
from tests.support.reading import (
    KINDS,
    SPEC,
    Endless,
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

PATIENCE = 60.0


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageRef]:
    return write_mixture(tmp_path_factory.mktemp("mixture"))


class Watched(Stream):
    """A stream that signals when it takes over."""

    begun = threading.Event()

    def load_batches(self, refs: Iterable[ImageRef]) -> Iterator[Batch]:
        self.begun.set()
        return super().load_batches(refs)


def make_few_count_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make five images count as many, however small."""
    monkeypatch.setattr(loader, "MIN_MEAN_BYTES", 0)
    monkeypatch.setattr(loader, "MIN_IMAGES", 4)
    monkeypatch.setattr(loader, "MIN_IMAGES_WITH_TENSORFLOW", 4)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return the event that tf.data takes over; it is prepared from the fifth image on."""
    make_few_count_as_many(monkeypatch)
    monkeypatch.setattr(loader, "Stream", Watched)
    Watched.begun = threading.Event()
    return Watched.begun


def repeat_until_takeover(
    stream: threading.Event, refs: Iterable[ImageRef], after: int, given: list[ImageRef]
) -> Iterator[ImageRef]:
    """Yield the refs again and again until the stream has begun, and then `after` more of them."""
    deadline = time.monotonic() + PATIENCE
    left = after
    for ref in itertools.cycle(refs):
        if stream.is_set():
            left -= 1
        assert time.monotonic() < deadline, "nobody took over"
        if left < 0:
            return
        given.append(ref)
        yield ref
        # Not faster than the images are read, so that memory stays small.
        time.sleep(0.0005)


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_handover_moves_no_row_and_changes_no_bit(
    mixture: dict[str, ImageRef], stream: threading.Event, batch_size: int
) -> None:
    given: list[ImageRef] = []
    refs = repeat_until_takeover(stream, number_refs(mixture, KINDS), 40, given)
    expected = {kind: read_alone(mixture[kind], SPEC) for kind in KINDS}
    count = 0
    for result, kind in zip(
        unpack_batches(loader.load_batches(refs, SPEC, batch_size, 2)),
        itertools.cycle(KINDS),
        strict=False,
    ):
        assert result.equals(expected[kind]), (count, kind)
        count += 1
    assert stream.is_set()
    assert count == len(given)


def test_batches_are_no_larger_than_asked_for(
    mixture: dict[str, ImageRef], stream: threading.Event
) -> None:
    refs = repeat_until_takeover(stream, number_refs(mixture, KINDS), 40, [])
    lengths = [len(batch.paths) for batch in loader.load_batches(refs, SPEC, 7, 2)]
    assert max(lengths) == 7
    assert min(lengths) > 0


@pytest.mark.parametrize("after", [0, 1, 13])
def test_what_the_refs_raise_after_the_handover_comes_in_its_turn(
    mixture: dict[str, ImageRef], stream: threading.Event, after: int
) -> None:
    given: list[ImageRef] = []
    error = MissingInputError("no more")

    def failing() -> Iterator[ImageRef]:
        yield from repeat_until_takeover(stream, number_refs(mixture, KINDS), after, given)
        raise error

    results: list[bytes] = []
    with pytest.raises(MissingInputError) as caught:
        results.extend(walk_paths(loader.load_batches(failing(), SPEC, 4, 2)))
    assert caught.value is error
    assert results == [ref.path for ref in given]


def walk_paths(batches: Iterable[Batch]) -> Iterator[bytes]:
    for batch in batches:
        yield from batch.paths


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.integers(0, 12), st.booleans())
def test_few_images_and_what_their_refs_raise(
    mixture: dict[str, ImageRef], count: int, fails: bool
) -> None:
    refs = number_refs(mixture, KINDS[:count])

    def possibly_failing() -> Iterator[ImageRef]:
        yield from refs
        if fails:
            raise LookupError("no more")

    results = unpack_batches(loader.load_batches(possibly_failing(), SPEC, 16, 2))
    assert find_differences(itertools.islice(results, count), refs, SPEC) == []
    with pytest.raises(LookupError if fails else StopIteration):
        next(results)


def test_images_that_end_while_the_stream_is_made_ready_are_all_there(
    mixture: dict[str, ImageRef], stream: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (4, 5, 6, 9):
        refs = number_refs(mixture, KINDS[:count])
        assert (
            find_differences(unpack_batches(loader.load_batches(refs, SPEC, 2, 2)), refs, SPEC)
            == []
        )
    wait_for(list_preparing())


def list_preparing() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "mnv1-tensorflow"]


def wait_for(threads: list[threading.Thread]) -> None:
    """Wait until the work of a test has ended, so that it does not disturb the next one."""
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_closing_after_the_handover_takes_no_more_refs(
    mixture: dict[str, ImageRef], stream: threading.Event
) -> None:
    refs = Endless(mixture["jpeg"])
    batches = loader.load_batches(refs, SPEC, 4, 2)
    deadline = time.monotonic() + PATIENCE
    while not stream.is_set():
        next(batches)
        assert time.monotonic() < deadline
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    time.sleep(0.5)
    count = refs.taken
    time.sleep(0.1)
    assert refs.taken == count


def test_without_tensorflow_pillow_does_all(
    mixture: dict[str, ImageRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_few_count_as_many(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    refs = number_refs(mixture, KINDS * 4)
    assert (
        find_differences(unpack_batches(loader.load_batches(refs, SPEC, 16, 2)), refs, SPEC) == []
    )
    wait_for(list_preparing())


COUNTED = """
import sys, threading
from mnv1cli.images import loader
from mnv1cli.types import ImageRef, PixelSpec
count, many, worth, path = *map(int, sys.argv[1:4]), sys.argv[4].encode()
loader.MIN_IMAGES, loader.MIN_MEAN_BYTES = many or loader.MIN_IMAGES, worth
refs = [ImageRef(i, path) for i in range(count)]
found = sum(len(batch.paths) for batch in loader.load_batches(refs, PixelSpec(32), 16, 2))
assert found == count, found
for thread in threading.enumerate():
    if thread.name == "mnv1-tensorflow":
        thread.join()
print("tensorflow" in sys.modules)
"""


@pytest.mark.parametrize(
    ("count", "many", "worth", "imported"),
    [
        (300, 0, 0, "False"),
        (20, 20, 0, "False"),
        (21, 20, 0, "True"),
        # The image has fewer bytes than are worth it, or as many.
        (21, 20, 10_000, "False"),
        (21, 20, 300, "True"),
    ],
)
def test_only_many_images_of_some_size_pay_for_tensorflow(
    tmp_path: Path, count: int, many: int, worth: int, imported: str
) -> None:
    (ref,) = write_files(tmp_path, {"a.jpg": jpeg(20, 20)})
    assert 300 < os.stat(ref.path).st_size < 10_000
    numbers = [str(number) for number in (count, many, worth)]
    words = [sys.executable, "-c", COUNTED, *numbers, os.fsdecode(ref.path)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == imported


@pytest.mark.parametrize("preprocess", ["slim", "pad"])
def test_photos_have_the_same_bits_through_both(photos: Path, preprocess: str) -> None:
    paths = sorted(photos.iterdir())[:24]
    refs = [ImageRef(i, os.fsencode(path)) for i, path in enumerate(paths)]
    spec = PixelSpec(128, preprocess)  # type: ignore[arg-type]
    first = [batch.pixels for batch in loader.load_batches(refs, spec, 16, 2)]
    then = [batch.pixels for batch in Stream(spec, 16, 2).load_batches(refs)]
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(then))
