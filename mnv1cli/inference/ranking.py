"""Probabilities of logits, and the most probable classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnv1cli.types import Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mnv1cli.labels.names import ClassName
    from mnv1cli.types import FloatArray


def softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Return the probabilities of logits [n, classes], summed in float64."""
    import numpy as np

    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    normalised: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return normalised


def _sort_classes(logits: FloatArray, top: int) -> NDArray[np.int64]:
    """Return the ids of the `top` highest logits of each row; of equal ones the lower id first."""
    import numpy as np

    if np.isnan(logits).any() or top >= logits.shape[1]:
        order: NDArray[np.int64] = np.argsort(-logits, axis=1, kind="stable")[:, :top]
        return order
    # Floats sort like their bits, once those of negative ones are inverted; with the id in
    # the lower half no two keys are equal, and a partition is enough.
    bits = (-logits + np.float32(0)).view(np.int32).astype(np.int64)
    bits = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = (bits << 32) | np.arange(logits.shape[1])
    best = np.partition(keys, top - 1, axis=1)[:, :top]
    best.sort(axis=1)
    ids: NDArray[np.int64] = best & 0xFFFFFFFF
    return ids


def rank_classes(
    scores: FloatArray,
    names: tuple[ClassName, ...],
    top: int,
    min_probability: float = 0.0,
    are_probabilities: bool = False,
) -> list[tuple[Prediction, ...]]:
    """Return the `top` most probable classes of each row of scores [n, classes], best first.

    The scores are logits, or probabilities, which are taken as they are. Of equally probable
    classes the one with the lower id comes first. Classes below `min_probability` are left out.
    """
    import numpy as np

    probabilities = scores if are_probabilities else softmax(scores).astype(np.float32)
    order = _sort_classes(scores, top)
    best = np.take_along_axis(probabilities, order, axis=1)
    # As float32, so that a limit copied from a result keeps the row that it was copied from.
    limit = float(np.float32(min_probability))
    return [
        tuple(
            Prediction(rank, i, names[i].wnid, names[i].label, p)
            for rank, (i, p) in enumerate(zip(ids, values, strict=True), start=1)
            if p >= limit
        )
        for ids, values in zip(order.tolist(), best.tolist(), strict=True)
    ]
