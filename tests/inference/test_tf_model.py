"""The engine: pixels in, named arrays out, a row whatever its batch."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.errors import ModuleError
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules import hub_module, inspection

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bundled() -> hub_module.HubModule:
    return inspection.open_module("bundled")


@pytest.fixture(scope="module")
def both(bundled: hub_module.HubModule) -> TensorFlowModel:
    return TensorFlowModel(bundled, [bundled.logits(), bundled.features()])


def test_reference_pixels_give_the_reference_results(both: TensorFlowModel, shared: Path) -> None:
    reference = np.load(shared / "reference.npz")
    results = both(reference["pixels"])
    assert set(results) == {"logits", "features"}
    np.testing.assert_allclose(results["logits"], reference["logits"][:4], atol=0.02)
    np.testing.assert_allclose(results["features"], reference["features"][:4], atol=0.01)
    assert results["logits"].dtype == np.float32


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 24])
def test_a_row_does_not_depend_on_its_batch(both: TensorFlowModel, size: int) -> None:
    images = np.random.default_rng(0).random((24, 128, 128, 3), dtype=np.float32)
    whole = both(images)["logits"]
    parts = [both(images[i : i + size])["logits"] for i in range(0, 24, size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_module_with_damaged_variables_is_refused_in_one_line(
    bundled: hub_module.HubModule, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundled.path, tmp_path / "copy")
    data = copy / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    damaged = inspection.open_module(str(copy))
    with pytest.raises(ModuleError, match="cannot be loaded") as caught:
        TensorFlowModel(damaged, [damaged.logits()])
    assert "\n" not in str(caught.value)
