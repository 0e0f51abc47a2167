"""One round of the soak, so that the script stays fit to run for hours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.soak import soak

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.modules.hub_module import HubModule


def test_a_round_loses_doubles_and_damages_nothing(
    compiled_cache: Path, bundled_module: HubModule
) -> None:
    compiled = compiled_cache / "compiled" / bundled_module.fingerprint
    figures = soak(0, seed=23, compiled=compiled)
    assert figures.bad == 0, figures
    assert figures.kills + figures.signals > 0
    assert figures.rounds == 1
