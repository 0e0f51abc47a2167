"""A signal does not tear what is held, and a second one does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mnv1cli.system import signals
from mnv1cli.system.signals import defer_stop, raise_waiting_stop, request_stop

if TYPE_CHECKING:
    from collections.abc import Callable


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


def work_until(is_logged: Callable[[], bool]) -> None:
    with defer_stop("x.csv is complete"):
        request_stop(Stopped())
        for _ in range(1000):
            if is_logged():
                break
            time.sleep(0.01)


def test_signal_that_waits_long_says_for_what(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(signals, "PATIENCE_SECONDS", 0.001)
    with pytest.raises(Stopped):
        work_until(lambda: bool(caplog.messages))
    said = "stopping when x.csv is complete; a second signal stops at once"
    assert caplog.messages == [said]


def test_work_without_a_signal_says_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(signals, "PATIENCE_SECONDS", 0.001)
    with defer_stop("x.csv is complete"):
        time.sleep(0.02)
    assert not caplog.messages
