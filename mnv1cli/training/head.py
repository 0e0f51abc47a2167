"""The classification head of a module, fitted to features: multinomial logistic regression."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.modules.weights import HEAD
from mnv1cli.system.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Numbers = NDArray[np.int64]

log = logging.getLogger(__name__)

# scikit-learn's C, the inverse of the penalty on the squares of the weights.
STRENGTHS: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(-8, 3))
# Where there is too little to choose by.
_USUAL_STRENGTH = 1e-2
_FOLDS = 5
_ITERATIONS = 500


@dataclass(frozen=True, slots=True)
class Head:
    """Weights [features, classes], biases [classes], and the C that they were fitted with."""

    weights: Doubles
    biases: Doubles
    strength: float

    def compute_logits(self, features: Any) -> Doubles:
        """Compute the logits [n, classes] of features [n, features]."""
        logits: Doubles = np.asarray(features, np.float64) @ self.weights + self.biases
        return logits

    def to_variables(self) -> dict[str, NDArray[np.float32]]:
        """Return the head as the variables of a MobileNet V1, by their TF-Slim names."""
        return {
            f"{HEAD}/weights": self.weights[None, None].astype(np.float32),
            f"{HEAD}/biases": self.biases.astype(np.float32),
        }


def fit_head(
    features: Any, classes: Numbers, groups: Numbers, seed: int = 0, threads: int = 1
) -> Head:
    """Fit a head to features [n, d] of the `classes` 0 to k-1, every class with the same weight.

    The strength of the penalty is the one with the least loss in a 5-fold
    cross-validation, drawn by `seed`, whose folds keep `groups` together. The
    features are centred and scaled; both are folded into the result.
    """
    # First: a library that is not loaded yet cannot be limited.
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits

    rows = np.asarray(features, np.float64)
    # One scale for all: a feature of its own scale that hardly varies here would get a
    # weight that is far too large for images where it does.
    mean, scale = rows.mean(axis=0), math.sqrt(rows.var(axis=0).mean()) or 1.0
    standard = (rows - mean) / scale
    # Each fold on a core of its own: within one, threads wait for each other longer than
    # they work, and the last digits would depend on their number.
    with threadpool_limits(1), warnings.catch_warnings():
        # That it stopped short of its tolerance, or that a class is in few folds.
        warnings.simplefilter("ignore")
        # The weights are in the span of the rows, so with fewer rows than columns they
        # can be fitted in that span, which gives the same and takes less time.
        back = np.linalg.svd(standard, full_matrices=False)[2] if len(rows) < len(mean) else None
        inputs = standard if back is None else standard @ back.T
        strength = _choose_strength(inputs, classes, groups, seed, threads)
        model = _make_model(strength).fit(inputs, classes)
    coefficients = model.coef_.T if back is None else back.T @ model.coef_.T
    biases = model.intercept_
    if coefficients.shape[1] == 1:
        # Of two classes there is one score, whose sign decides.
        coefficients = np.concatenate([-coefficients, coefficients], axis=1) / 2
        biases = np.concatenate([-biases, biases]) / 2
    weights = coefficients / scale
    return Head(weights, biases - mean @ weights, strength)


def split_folds(classes: Numbers, groups: Numbers, seed: int) -> Iterator[tuple[Any, Any]]:
    """Split rows into folds: masks of the rows to fit to and of those to test on.

    Groups stay together; folds are stratified by the class of a group's first image.
    There are none where no class has two groups.
    """
    from sklearn.model_selection import StratifiedKFold

    names, first = np.unique(groups, return_index=True)
    group_classes = classes[first]
    count = min(_FOLDS, np.bincount(group_classes).max())
    if count < 2:
        return
    folds = StratifiedKFold(count, shuffle=True, random_state=seed)
    for _, test in folds.split(names, group_classes):
        testing = np.isin(groups, names[test])
        # A class with a single group is in one fold, and cannot be learnt without it.
        learnt = np.isin(classes, classes[~testing])
        if len(np.unique(classes[~testing])) > 1 and (testing & learnt).any():
            yield ~testing, testing & learnt


def _make_model(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        C=strength, class_weight="balanced", max_iter=_ITERATIONS, warm_start=True
    )


def _choose_strength(
    inputs: Doubles, classes: Numbers, groups: Numbers, seed: int, threads: int
) -> float:
    """Choose the C with the least mean loss over the folds; of equal ones the least."""

    def measure(fold: tuple[Any, Any]) -> list[float]:
        return _measure_losses(inputs, classes, *fold)

    losses = list(ordered_map(measure, split_folds(classes, groups, seed), threads))
    if not losses:
        log.warning(
            "too few images to choose the regularisation by: C is %g, as usual", _USUAL_STRENGTH
        )
        return _USUAL_STRENGTH
    best = int(np.mean(losses, axis=0).argmin())
    return STRENGTHS[best]


def _measure_losses(inputs: Doubles, classes: Numbers, fitting: Any, testing: Any) -> list[float]:
    """Measure the loss of each strength on the rows `testing`, with equal weight of the classes."""
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_sample_weight

    model = _make_model(1)
    balance = compute_sample_weight("balanced", classes[testing])
    losses = []
    # From the strongest penalty to the weakest: each begins where the one before stopped.
    for strength in STRENGTHS:
        model.set_params(C=strength).fit(inputs[fitting], classes[fitting])
        shares = model.predict_proba(inputs[testing])
        losses.append(
            log_loss(classes[testing], shares, sample_weight=balance, labels=model.classes_)
        )
    return losses
