"""A signal does not tear what is held, and a second one does."""

from __future__ import annotations

import pytest

from mnv1cli import interrupts


class Stopped(BaseException):
    pass


def test_signal_outside_is_raised_at_once() -> None:
    with pytest.raises(Stopped):
        interrupts.arrive(Stopped())


def test_signal_inside_waits_for_the_end() -> None:
    done = []
    with pytest.raises(Stopped), interrupts.held():
        interrupts.arrive(Stopped())
        done.append(1)
    assert done == [1]


def test_second_signal_inside_is_raised_at_once() -> None:
    done = []
    with pytest.raises(Stopped), interrupts.held():
        interrupts.arrive(Stopped())
        interrupts.arrive(Stopped())
        done.append(1)
    assert not done
    # And the first one is forgotten.
    with interrupts.held():
        pass


def test_failure_inside_comes_before_the_signal() -> None:
    with pytest.raises(ValueError, match="other"), interrupts.held():
        interrupts.arrive(Stopped())
        raise ValueError("other")
    with interrupts.held():
        pass
