"""The fitted head is scikit-learn's, in whatever way it is fitted; and Wilson's interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnv1cli.analysis import metrics
from mnv1cli.modules.weights import HEAD
from mnv1cli.training.head import Head, fit_head, split_folds


def make_clouds(classes: int, size: int, width: int, seed: int = 0) -> tuple[Any, Any]:
    """Make `size` points around the corner of each class, far from the origin."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(classes), size)
    corners = rng.normal(size=(classes, width)) * 1.5
    return (corners[numbers] + rng.normal(size=(len(numbers), width)) + 3) * 2, numbers


@pytest.mark.parametrize("width", [8, 300], ids=["more rows", "more columns"])
@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_those_of_scikit_learn(classes: int, width: int) -> None:
    from sklearn.linear_model import LogisticRegression

    points, numbers = make_clouds(classes, 30, width)
    head = fit_head(points, numbers, np.arange(len(points)))
    assert head.weights.shape == (width, classes)
    scale = np.sqrt(points.var(axis=0).mean())
    standard = (points - points.mean(axis=0)) / scale
    model = LogisticRegression(C=head.strength, class_weight="balanced", tol=1e-8, max_iter=9999)
    wanted = model.fit(standard, numbers).predict_proba(standard)
    powers = np.exp(head.compute_logits(points))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), wanted, atol=0.01)


def test_the_same_in_threads_and_again() -> None:
    points, numbers = make_clouds(3, 20, 16)
    first, second = (fit_head(points, numbers, np.arange(60), 1, n) for n in (1, 3))
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.biases, second.biases)


def test_rare_classes_count_as_much_as_frequent_ones() -> None:
    points, numbers = make_clouds(2, 100, 2, seed=3)
    kept = np.concatenate([np.arange(100), np.arange(100, 105)])
    head = fit_head(points[kept], numbers[kept], np.arange(105))
    right = head.compute_logits(points).argmax(axis=1) == numbers
    assert right[100:].mean() > 0.8


def test_folds_keep_groups_together_and_test_every_row_once() -> None:
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 40, 120))
    classes = groups % 3
    folds = list(split_folds(classes, groups, 0))
    assert len(folds) == 5
    for fitting, testing in folds:
        assert not set(groups[fitting]) & set(groups[testing])
        assert set(classes[fitting]) == {0, 1, 2}
    assert (np.sum([testing for _, testing in folds], axis=0) == 1).all()


def test_too_few_to_choose_by(caplog: pytest.LogCaptureFixture) -> None:
    head = fit_head(np.eye(2), np.array([0, 1]), np.arange(2))
    assert "too few images to choose the regularisation" in caplog.text
    assert head.compute_logits(np.eye(2)).argmax(axis=1).tolist() == [0, 1]


def test_a_class_with_one_group_is_fitted() -> None:
    points, numbers = make_clouds(3, 10, 8)
    kept = numbers.tolist().index(2) + 1
    head = fit_head(points[:kept], numbers[:kept], np.arange(kept))
    assert head.compute_logits(points).shape == (30, 3)


def test_features_that_do_not_vary_are_fitted() -> None:
    head = fit_head(np.ones((6, 4)), np.array([0, 1] * 3), np.arange(6))
    assert np.isfinite(head.compute_logits(np.ones((1, 4)))).all()


def test_variables_have_the_names_and_shapes_of_the_network() -> None:
    variables = Head(np.ones((8, 3)), np.zeros(3), 1.0).to_variables()
    assert variables[f"{HEAD}/weights"].shape == (1, 1, 8, 3)
    assert variables[f"{HEAD}/biases"].shape == (3,)
    assert {value.dtype for value in variables.values()} == {np.dtype(np.float32)}


def test_interval_is_that_of_wilson() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I.
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        assert metrics.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert metrics.wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert metrics.wilson(29, 29) == pytest.approx((0.8830, 1), abs=5e-5)
    assert metrics.wilson(0, 0) == (0, 1)
