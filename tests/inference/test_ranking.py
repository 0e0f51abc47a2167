"""Probabilities, and the best classes of a row of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.inference.ranking import rank_classes, softmax
from mnv1cli.labels.names import ClassName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnv1cli.types import FloatArray

NAMES = tuple(ClassName(i, f"n{i}", f"class {i}") for i in range(8))


def finite_rows(
    least: float = -(2.0**127), most: float = 2.0**127
) -> st.SearchStrategy[FloatArray]:
    row = st.lists(st.floats(least, most, width=32), min_size=8, max_size=8)
    return st.lists(row, max_size=4).map(lambda rows: np.array(rows, np.float32).reshape(-1, 8))


def logits(*rows: Sequence[float]) -> FloatArray:
    return np.array(rows, np.float32)


class TestSoftmax:
    @given(rows=finite_rows())
    def test_sums_to_one_however_huge_the_logits(self, rows: FloatArray) -> None:
        probabilities = softmax(rows)
        assert probabilities.dtype == np.float64
        assert probabilities.shape == rows.shape
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)

    @given(
        rows=st.lists(st.integers(-1000, 1000), min_size=8, max_size=8),
        shift=st.integers(-(1 << 20), 1 << 20),
    )
    def test_does_not_depend_on_a_shift(self, rows: list[int], shift: int) -> None:
        # Integers of this size are exact in float32, so nothing is lost before the softmax.
        values = np.array([rows], np.float32)
        np.testing.assert_array_equal(softmax(values), softmax(values + np.float32(shift)))

    @given(rows=finite_rows(-50, 50))
    def test_is_its_definition(self, rows: FloatArray) -> None:
        powers = np.exp(rows.astype(np.float64))
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(softmax(rows), expected, rtol=1e-12)

    def test_of_rows_does_not_depend_on_their_neighbours(self) -> None:
        rows = np.random.default_rng(0).standard_normal((5, 1001), np.float32)
        together = softmax(rows)
        for row, expected in zip(rows, together, strict=True):
            np.testing.assert_array_equal(softmax(row[np.newaxis])[0], expected)


class TestRankClasses:
    def test_gives_the_best_first_with_their_names(self) -> None:
        rows = logits([0, 3, 1, 2, -1, -2, -3, -4], [5, 0, 0, 0, 0, 0, 0, 9])
        first, second = rank_classes(rows, NAMES, 3)
        assert [(p.rank, p.class_id, p.wnid, p.label) for p in first] == [
            (1, 1, "n1", "class 1"),
            (2, 3, "n3", "class 3"),
            (3, 2, "n2", "class 2"),
        ]
        assert [p.class_id for p in second] == [7, 0, 1]

    @given(rows=finite_rows(-30, 30), top=st.integers(1, 12))
    def test_is_its_definition(self, rows: FloatArray, top: int) -> None:
        probabilities = softmax(rows).astype(np.float32)
        found = rank_classes(rows, NAMES, top)
        assert len(found) == len(rows)
        for row, chances, best in zip(rows.tolist(), probabilities.tolist(), found, strict=True):
            order = sorted(range(8), key=lambda i: (-row[i], i))[:top]
            assert [p.class_id for p in best] == order
            assert [p.probability for p in best] == [chances[i] for i in order]
            assert [p.rank for p in best] == list(range(1, len(order) + 1))

    def test_takes_the_lower_id_of_equal_ones(self) -> None:
        (best,) = rank_classes(logits([1, 2, 2, 1, 2, 1, 1, 1]), NAMES, 5)
        assert [p.class_id for p in best] == [1, 2, 4, 0, 3]

    @pytest.mark.parametrize(("top", "count"), [(1, 1), (8, 8), (9, 8), (1000, 8)])
    def test_is_clipped_to_the_classes(self, top: int, count: int) -> None:
        (best,) = rank_classes(logits([0] * 8), NAMES, top)
        assert len(best) == count

    @pytest.mark.parametrize(
        ("least", "count"), [(0, 8), (0.0001, 3), (0.2, 2), (0.5, 1), (0.7, 0), (1, 0)]
    )
    def test_leaves_out_what_is_less_probable(self, least: float, count: int) -> None:
        # e^2, e^1 and 1 of their sum: 0.665, 0.245, 0.090.
        rows = logits([20, 19, 18, 0, 0, 0, 0, 0], [3] + [-90] * 7)
        best, certain = rank_classes(rows, NAMES, 8, least)
        assert [p.rank for p in best] == list(range(1, count + 1))
        assert certain[0].probability == 1

    @given(rows=finite_rows(-30, 30), which=st.integers(0, 7))
    def test_keeps_what_has_just_the_probability_that_is_asked_for(
        self, rows: FloatArray, which: int
    ) -> None:
        for row in rows:
            (every,) = rank_classes(row[np.newaxis], NAMES, 8)
            limit = float(f"{every[which].probability:.9g}")
            (kept,) = rank_classes(row[np.newaxis], NAMES, 8, limit)
            assert kept == tuple(p for p in every if p.probability >= every[which].probability)

    def test_of_no_rows_is_nothing(self) -> None:
        assert rank_classes(np.empty((0, 8), np.float32), NAMES, 5) == []

    def test_gives_plain_numbers(self) -> None:
        # numpy's would not go into JSON.
        ((best,),) = rank_classes(logits([0, 1]), NAMES, 1)
        assert (type(best.class_id), type(best.probability)) == (int, float)
