"""The figures and confusions of an evaluation, as a page shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli.path_text import to_one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mnv1cli.analysis.evaluation import Evaluation

# Nobody reads a matrix with more rows and columns, or a list of more pairs.
MAX_CONFUSED = 30
_MAX_PAIRS = 12


def summarize(evaluation: Evaluation) -> dict[str, Any]:
    """Summarize an evaluation: accuracy with 95 % intervals, calibration, and confusions."""
    figures = evaluation.figures()
    rates = []
    for name, key in (("first label is right", "top1"), ("right among the first five", "top5")):
        low, high = figures[f"{key}_interval"]
        rates.append(
            {
                "name": name,
                "value": f"{100 * figures[key]:.1f} %",
                "interval": f"{100 * low:.1f} to {100 * high:.1f} %",
                "at": round(100 * figures[key], 2),
                "low": round(100 * low, 2),
                "width": round(100 * (high - low), 2),
            }
        )
    return {
        "n": figures["n"],
        "rates": rates,
        "mean_per_class": f"{100 * figures['mean_per_class']:.1f} %",
        "ece": f"{100 * figures['ece']:.1f} %",
        "classes": len(evaluation.per_class()),
        **_summarize_confusions(evaluation),
    }


def _summarize_confusions(evaluation: Evaluation) -> dict[str, Any]:
    """List the classes that are most often mistaken for others, as pairs and as a matrix."""
    counts = {
        (truth.class_id, label.class_id): count for truth, label, count in evaluation.confusion()
    }
    names = {
        name.class_id: to_one_line(name.label)
        for pair in evaluation.confusion()
        for name in pair[:2]
    }
    pairs = sorted(
        (pair for pair in counts if pair[0] != pair[1]), key=lambda pair: (-counts[pair], pair)
    )
    images = {score.name.class_id: score.n for score in evaluation.per_class()}
    chosen = _select_most_confused(pairs)
    return {
        "pairs": [
            {"truth": names[a], "label": names[b], "count": counts[a, b], "of": images[a]}
            for a, b in pairs[:_MAX_PAIRS]
        ],
        "more_pairs": max(len(pairs) - _MAX_PAIRS, 0),
        "columns": [names[i] for i in chosen],
        "occurring": len(names),
        "rows": [
            {
                "name": names[a],
                "cells": [_cell(counts.get((a, b), 0), images.get(a, 0), a == b) for b in chosen],
            }
            for a in chosen
            if a in images
        ],
    }


def _select_most_confused(pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Select the classes of the first pairs, as many as the matrix shows."""
    chosen: set[int] = set()
    for pair in pairs:
        if len(chosen.union(pair)) <= MAX_CONFUSED:
            chosen.update(pair)
    return sorted(chosen)


def _cell(count: int, of: int, right: bool) -> dict[str, Any]:
    # At least a tenth, so that it can be seen.
    return {"count": count, "shade": max(round(10 * count / of), 1) if count else 0, "right": right}
