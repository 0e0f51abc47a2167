"""An evaluation's figures and confusions, as a page shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli.path_text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mnv1cli.analysis.evaluate import Evaluation

# More rows and columns nobody reads.
MAX_CONFUSED = 30
_MAX_PAIRS = 12


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """How often the labels are right, with intervals, and what is taken for what."""
    told = evaluation.figures()
    rates = []
    for name, key in (("first label right", "top1"), ("among the first five", "top5")):
        low, high = told[f"{key}_interval"]
        rates.append(
            {
                "name": name,
                "value": f"{100 * told[key]:.1f} %",
                "interval": f"{100 * low:.1f} to {100 * high:.1f} %",
                "at": round(100 * told[key], 2),
                "low": round(100 * low, 2),
                "width": round(100 * (high - low), 2),
            }
        )
    return {
        "n": told["n"],
        "rates": rates,
        "mean_per_class": f"{100 * told['mean_per_class']:.1f} %",
        "ece": f"{100 * told['ece']:.1f} %",
        "classes": len(evaluation.per_class()),
        **_confusions(evaluation),
    }


def _confusions(evaluation: Evaluation) -> dict[str, Any]:
    """The classes that are taken for others most often, as pairs and as a matrix."""
    counts = {
        (truth.class_id, found.class_id): count for truth, found, count in evaluation.confusion()
    }
    names = {
        name.class_id: one_line(name.label) for pair in evaluation.confusion() for name in pair[:2]
    }
    pairs = sorted(
        (pair for pair in counts if pair[0] != pair[1]), key=lambda pair: (-counts[pair], pair)
    )
    images = {score.name.class_id: score.n for score in evaluation.per_class()}
    chosen = _most_confused(pairs)
    return {
        "pairs": [
            {"truth": names[a], "found": names[b], "count": counts[a, b], "of": images[a]}
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


def _most_confused(pairs: Iterable[tuple[int, int]]) -> list[int]:
    chosen: set[int] = set()
    for pair in pairs:
        if len(chosen.union(pair)) <= MAX_CONFUSED:
            chosen.update(pair)
    return sorted(chosen)


def _cell(count: int, of: int, right: bool) -> dict[str, Any]:
    # A tenth at least, so that it is seen.
    return {"count": count, "shade": max(round(10 * count / of), 1) if count else 0, "right": right}
