"""Figures of merit, against what others compute and publish."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.analysis.metrics import Calibration, wilson

# An image: the probability of its best label, and whether that is right.
IMAGES = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=200)


def root(f: float, n: int, low: float, high: float) -> float:
    """Where a rate of `f` is just at the end of the normal interval of a true rate, by halving."""

    def outside(p: float) -> bool:
        return abs(f - p) > 1.959963984540054 * math.sqrt(p * (1 - p) / n)

    at_low = outside(low)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if outside(middle) == at_low else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_wilson_is_as_published(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rates_that_the_sample_does_not_contradict(pair: tuple[int, int]) -> None:
    successes, n = pair
    rate = successes / n
    low, high = wilson(successes, n)
    assert 0 <= low <= rate <= high <= 1
    assert low < high
    if successes:
        assert low == pytest.approx(root(rate, n, 0, rate), abs=1e-9)
    if successes < n:
        assert high == pytest.approx(root(rate, n, rate, 1), abs=1e-9)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_the_same_seen_from_the_failures(pair: tuple[int, int]) -> None:
    successes, n = pair
    low, high = wilson(successes, n)
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low))


def test_without_trials_nothing_is_known() -> None:
    assert wilson(0, 0) == (0, 1)


def expected_calibration_error(probabilities: list[float], right: list[bool]) -> float:
    """With numpy: the mean over bins (0, 1/15], (1/15, 2/15], ... of the gap, by their sizes."""
    p, hits = np.array(probabilities), np.array(right, float)
    edges = np.arange(16) / 15
    bins = np.clip(np.digitize(p, edges, right=True), 1, 15)
    error = 0.0
    for number in range(1, 16):
        chosen = bins == number
        if chosen.any():
            error += chosen.mean() * abs(p[chosen].mean() - hits[chosen].mean())
    return error


def calibration(images: list[tuple[float, bool]]) -> float:
    found = Calibration()
    for probability, right in images:
        found.add(probability, right)
    return found.error()


@given(IMAGES)
def test_calibration_error_is_its_definition(images: list[tuple[float, bool]]) -> None:
    # Within the rounding of an edge it is anybody's choice on which side of it one is.
    images = [(p, hit) for p, hit in images if abs(p * 15 - round(p * 15)) > 1e-6]
    expected = expected_calibration_error(*map(list, zip(*images, strict=True))) if images else 0
    assert calibration(images) == pytest.approx(expected, abs=1e-12)


@given(IMAGES)
def test_calibration_error_is_a_fraction_that_no_order_changes(
    images: list[tuple[float, bool]],
) -> None:
    error = calibration(images)
    assert 0 <= error <= 1
    assert calibration(images[::-1]) == pytest.approx(error)


@pytest.mark.parametrize(
    ("images", "error"),
    [
        ([], 0),
        ([(1.0, True)], 0),
        ([(1.0, False)], 1),
        ([(0.0, False)], 0),
        ([(0.5, True), (0.5, False)], 0),
        # In one bin gaps cancel, in two they do not: 2/15 is the last of the second bin.
        ([(2 / 15, False), (0.1, True)], abs(2 / 15 + 0.1 - 1) / 2),
        ([(2 / 15, False), (0.14, True)], (2 / 15 + 0.86) / 2),
    ],
)
def test_calibration_error_of_a_few(images: list[tuple[float, bool]], error: float) -> None:
    assert calibration(images) == pytest.approx(error)
