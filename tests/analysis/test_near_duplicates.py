"""Groups of copies."""

from __future__ import annotations

import numpy as np

from mnv1cli.analysis.near_duplicates import group_copies


def test_copies_of_copies_are_one_group() -> None:
    rng = np.random.default_rng(0)
    base = rng.random((700, 256), dtype=np.float32) - 0.5
    # 0 is like 600, 600 like 650; 0 and 650 are less alike. Length says nothing.
    base[600] = 3 * base[0] + 0.15 * 3 * base[1]
    base[650] = base[600] / 3 + 0.15 * base[2]
    groups = group_copies(base)
    assert groups[0] == groups[600] == groups[650]
    assert len(set(groups.tolist())) == 698


def test_empty_features_are_copies_of_one_another_alone() -> None:
    rows = np.zeros((4, 8), np.float32)
    rows[0, 0] = rows[1, 1] = 1
    assert group_copies(rows).tolist() == [0, 1, 2, 2]
