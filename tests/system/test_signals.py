"""A signal does not tear what is held, and a second one does."""

from __future__ import annotations

import pytest

from mnv1cli.system.signals import defer_stop, raise_waiting_stop, request_stop


class Stopped(BaseException):
    pass


def test_signal_outside_is_raised_at_once() -> None:
    with pytest.raises(Stopped):
        request_stop(Stopped())


def work(signals: int, done: list[int], failure: Exception | None = None) -> None:
    with defer_stop():
        for _ in range(signals):
            request_stop(Stopped())
        if failure:
            raise failure
        done.append(1)


def nothing_is_left() -> None:
    with defer_stop():
        pass


def test_signal_inside_waits_for_the_end() -> None:
    done: list[int] = []
    with pytest.raises(Stopped):
        work(1, done)
    assert done == [1]
    nothing_is_left()


def test_second_signal_inside_is_raised_at_once() -> None:
    done: list[int] = []
    with pytest.raises(Stopped):
        work(2, done)
    assert not done
    nothing_is_left()


def test_failure_inside_comes_before_the_signal() -> None:
    with pytest.raises(ValueError, match="other"):
        work(1, [], ValueError("other"))
    nothing_is_left()


def work_in_steps(done: list[int]) -> None:
    with defer_stop():
        for step in range(3):
            raise_waiting_stop()
            done.append(step)
            request_stop(Stopped())


def test_signal_is_raised_where_the_block_may_be_left() -> None:
    done: list[int] = []
    with pytest.raises(Stopped):
        work_in_steps(done)
    assert done == [0]
    nothing_is_left()
