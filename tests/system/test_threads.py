"""A function over many items in threads: results in order, flat memory, failures in their turn."""

from __future__ import annotations

import itertools
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.system.threads import ordered_map, split_into_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

quick = settings(derandomize=True, deadline=None, max_examples=50)
PATIENCE = 60.0


class BrokenItemError(Exception):
    """What an item or the function raises here."""


def until(condition: Callable[[], bool]) -> bool:
    """Wait for something that another thread does; whether it came about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name == "mnv1-ordered"}


def failing_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise BrokenItemError(f"after {count}")


def taken(iterator: Iterator[T]) -> tuple[list[T], str]:
    """What an iterator gives before it fails, and how it does."""
    found: list[T] = []
    try:
        # Not list(...): what came before a failure would be lost with it.
        found.extend(iterator)
    except BrokenItemError as error:
        return found, str(error)
    return found, ""


# Order


@quick
@given(st.lists(st.integers(), max_size=40), st.integers(1, 5), st.integers(0, 5))
def test_results_are_those_of_map(items: list[int], workers: int, ahead: int) -> None:
    assert list(ordered_map(lambda n: n * n, items, workers, ahead)) == [n * n for n in items]


def test_items_that_take_longer_hold_their_place() -> None:
    def slow(n: int) -> int:
        time.sleep(0.02 if n % 4 == 0 else 0)
        return n

    assert list(ordered_map(slow, range(24), workers=4, ahead=8)) == list(range(24))


def test_as_many_items_are_worked_on_at_once_as_there_are_workers() -> None:
    together = threading.Barrier(3)

    def meet(n: int) -> int:
        together.wait(PATIENCE)
        return n

    assert list(ordered_map(meet, range(9), workers=3)) == list(range(9))


def test_one_worker_works_on_one_item_at_a_time() -> None:
    under_way: list[int] = []

    def alone(n: int) -> int:
        under_way.append(n)
        assert under_way == [n]
        time.sleep(0.001)
        under_way.remove(n)
        return n

    assert list(ordered_map(alone, range(20), workers=1, ahead=5)) == list(range(20))


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (1, 1), (2, 1), (3, 4)])
def test_is_only_so_far_ahead_of_the_consumer(workers: int, ahead: int) -> None:
    begun: list[int] = []

    def note(n: int) -> int:
        begun.append(n)
        return n

    results = ordered_map(note, itertools.count(), workers, ahead)
    for taken_so_far in range(1, 6):
        assert next(results) == taken_so_far - 1
        most = taken_so_far + workers + ahead
        assert until(partial(reaches, begun, most))
        time.sleep(0.01)
        assert len(begun) == most
    results.close()  # type: ignore[attr-defined]


def reaches(begun: list[int], count: int) -> bool:
    return len(begun) >= count


def test_nothing_is_begun_before_the_first_result_is_wanted() -> None:
    begun: list[int] = []
    results = ordered_map(begun.append, range(3), workers=2)
    time.sleep(0.01)
    assert begun == []
    assert list(results) == [None] * 3


# Failures


@quick
@given(st.integers(0, 12), st.integers(1, 4), st.integers(0, 4))
def test_what_the_items_raise_comes_after_all_results(count: int, workers: int, ahead: int) -> None:
    found = taken(ordered_map(lambda n: n, failing_after(count), workers, ahead))
    assert found == (list(range(count)), f"after {count}")


@quick
@given(st.integers(0, 12), st.integers(1, 4), st.integers(0, 4))
def test_what_the_function_raises_comes_in_its_turn(bad: int, workers: int, ahead: int) -> None:
    def fail(n: int) -> int:
        if n == bad:
            raise BrokenItemError(f"at {n}")
        return n

    assert taken(ordered_map(fail, range(13), workers, ahead)) == (list(range(bad)), f"at {bad}")


def test_first_of_two_failures_is_told_though_the_second_is_faster() -> None:
    second = threading.Event()

    def fail(n: int) -> int:
        if n == 1:
            assert second.wait(PATIENCE)
        if n == 2:
            second.set()
        if n:
            raise BrokenItemError(str(n))
        return n

    assert taken(ordered_map(fail, range(3), workers=3)) == ([0], "1")


def test_failure_that_is_no_exception_is_raised_too() -> None:
    def stop(n: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ordered_map(stop, [1], workers=1))


# Ending


@pytest.mark.parametrize("count", [0, 1, 5, 60, 61])
def test_threads_end_with_it(count: int) -> None:
    before = threads()
    results = ordered_map(lambda n: n, range(60), workers=3, ahead=2)
    assert list(itertools.islice(results, count)) == list(range(min(count, 60)))
    results.close()  # type: ignore[attr-defined]
    assert until(lambda: threads() <= before)


def test_threads_end_when_it_is_let_go() -> None:
    before = threads()
    assert next(ordered_map(lambda n: n, itertools.count(), workers=3)) == 0
    assert until(lambda: threads() <= before)


@pytest.mark.parametrize("bad", ["items", "function"])
def test_threads_end_with_a_failure(bad: str) -> None:
    before = threads()
    items = failing_after(3) if bad == "items" else iter([1, 2, 0, *range(1, 50)])
    with pytest.raises((BrokenItemError, ZeroDivisionError)):
        list(ordered_map(lambda n: 1 // (n or bad == "items"), items, workers=3))
    assert until(lambda: threads() <= before)


def test_closing_closes_the_items() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    results = ordered_map(lambda n: n, endless(), workers=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert closed.wait(PATIENCE)


def test_items_that_never_come_hold_nobody_up() -> None:
    """The thread that waits for them is a daemon, and the consumer goes on."""
    never = threading.Event()

    def waiting() -> Iterator[int]:
        yield 1
        never.wait(PATIENCE)

    results = ordered_map(lambda n: n, waiting(), workers=2)
    start = time.monotonic()
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < PATIENCE / 2
    assert all(thread.daemon for thread in threads())
    never.set()


def test_maps_may_be_nested() -> None:
    inner = ordered_map(lambda n: n + 1, range(40), workers=2)
    outer = ordered_map(lambda n: n * 2, inner, workers=2)
    assert list(outer) == [2 * (n + 1) for n in range(40)]


# Chunks


@quick
@given(st.lists(st.integers(), max_size=30), st.integers(1, 12))
def test_chunks_are_consecutive_and_full(items: list[int], size: int) -> None:
    found = list(split_into_chunks(items, size))
    assert [n for chunk in found for n in chunk] == items
    assert all(len(chunk) == size for chunk in found[:-1])
    assert all(0 < len(chunk) <= size for chunk in found)


@quick
@given(st.integers(0, 30), st.integers(1, 6), st.lists(st.integers(1, 4), max_size=4))
def test_chunks_begin_with_sizes_of_their_own(count: int, size: int, first: list[int]) -> None:
    found = list(split_into_chunks(range(count), size, first))
    assert [n for chunk in found for n in chunk] == list(range(count))
    wanted = [*first, *[size] * 30]
    assert [len(chunk) for chunk in found[:-1]] == wanted[: max(len(found) - 1, 0)]
    assert all(0 < len(chunk) <= most for chunk, most in zip(found, wanted, strict=False))


@quick
@given(st.integers(0, 20), st.integers(1, 6))
def test_chunks_keep_what_came_before_a_failure(count: int, size: int) -> None:
    found, failure = taken(split_into_chunks(failing_after(count), size))
    assert failure == f"after {count}"
    assert [n for chunk in found for n in chunk] == list(range(count))
    assert all(len(chunk) == size for chunk in found[:-1])


def test_chunks_take_no_more_than_they_give() -> None:
    items = itertools.count()
    found = split_into_chunks(items, 3)
    assert next(found) == [0, 1, 2]
    assert next(items) == 3
