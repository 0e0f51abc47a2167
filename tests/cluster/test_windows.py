"""Images in windows, taken while the listing goes on."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from mnv1cli.cluster import windows
from mnv1cli.errors import MissingInputError
from mnv1cli.types import ImageRef

if TYPE_CHECKING:
    from collections.abc import Iterator


def refs(count: int) -> list[ImageRef]:
    return [ImageRef(i, b"%d" % i) for i in range(count)]


@pytest.mark.parametrize(("count", "enough"), [(0, 5), (1, 5), (5, 5), (6, 5), (100, 1)])
def test_each_image_is_in_one_window_in_its_order(count: int, enough: int) -> None:
    found = list(windows.windows(refs(count), enough, 1000))
    assert all(found)
    assert list(itertools.chain.from_iterable(found)) == refs(count)


def test_the_listing_waits_for_room() -> None:
    listed = 0

    def counted() -> Iterator[ImageRef]:
        nonlocal listed
        for ref in refs(1000):
            listed += 1
            yield ref

    each = windows.windows(counted(), 10, 20)
    assert len(next(each)) <= 20
    # One window was taken, another waits, and one image is on its way.
    assert listed <= 41
    assert sum(map(len, each)) <= 990


def test_the_first_images_do_not_wait_for_the_last() -> None:
    rest = threading.Event()

    def slow() -> Iterator[ImageRef]:
        yield refs(1)[0]
        assert rest.wait(300)
        yield refs(2)[1]

    each = windows.windows(slow(), 1000, 1000)
    assert next(each) == refs(1)
    rest.set()
    assert list(each) == [refs(2)[1:]]


def test_a_failure_comes_after_what_was_listed_before_it() -> None:
    def failing() -> Iterator[ImageRef]:
        yield from refs(3)
        raise MissingInputError("the bucket is gone")

    each = windows.windows(failing(), 1000, 1000)
    assert next(each) == refs(3)
    with pytest.raises(MissingInputError, match="is gone"):
        next(each)


def test_to_stop_ends_the_listing() -> None:
    before = threading.active_count()
    endless = (ImageRef(i, b"x") for i in itertools.count())
    each = windows.windows(endless, 10, 20)
    next(each)
    each.close()
    for thread in threading.enumerate():
        if thread.name == "mnv1-listing":
            thread.join(10)
    assert threading.active_count() <= before
