"""One round of the soak, so that the script stays fit to run for hours."""

from __future__ import annotations

from tests.support.soak import soak


def test_a_round_loses_doubles_and_damages_nothing() -> None:
    figures = soak(0, seed=3)
    assert figures.bad == 0, figures
    assert figures.kills + figures.signals > 0
    assert figures.rounds == 1
