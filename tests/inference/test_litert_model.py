"""The default engine: a row whatever its batch, its neighbours and the number of workers."""

from __future__ import annotations

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import ModuleError
from mnv1cli.inference import litert_model
from mnv1cli.inference.litert_model import LiteRTModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.types import FloatArray

COUNT = 24


@pytest.fixture(scope="module")
def images() -> FloatArray:
    return np.random.default_rng(0).random((COUNT, 128, 128, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def model(compiled_both: CompiledModel) -> LiteRTModel:
    return LiteRTModel(compiled_both.model, compiled_both.outputs, workers=2)


@pytest.fixture(scope="module")
def expected(model: LiteRTModel, images: FloatArray) -> Mapping[str, FloatArray]:
    return model(images)


def equal(found: Mapping[str, FloatArray], expected: Mapping[str, FloatArray], rows: slice) -> bool:
    """Whether every output has the bits of these rows."""
    assert list(found) == list(expected)
    return all(np.array_equal(found[name], expected[name][rows]) for name in expected)


def test_says_what_it_is(compiled_both: CompiledModel, model: LiteRTModel) -> None:
    assert litert_model.is_available()
    assert (model.engine, model.precision, model.calibrated) == ("litert", "float32", None)
    assert model.workers == 2
    other = LiteRTModel(compiled_both.model, compiled_both.outputs, 3, "int8", "digest")
    assert (other.precision, other.calibrated, other.workers) == ("int8", "digest", 3)


def test_outputs_have_their_names_and_shapes(expected: Mapping[str, FloatArray]) -> None:
    assert {name: values.shape for name, values in expected.items()} == {
        "logits": (COUNT, 1001),
        "features": (COUNT, 1024),
    }
    assert all(values.dtype == np.float32 for values in expected.values())


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 17), min_size=1, max_size=6), st.integers(0, 7))
def test_a_row_does_not_depend_on_its_batch_and_those_before(
    model: LiteRTModel,
    images: FloatArray,
    expected: Mapping[str, FloatArray],
    sizes: list[int],
    start: int,
) -> None:
    for size in sizes:
        rows = slice(start, start + size)
        assert equal(model(images[rows]), expected, rows)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_calls_at_once_do_not_disturb_each_other(
    compiled_both: CompiledModel,
    images: FloatArray,
    expected: Mapping[str, FloatArray],
    workers: int,
) -> None:
    model = LiteRTModel(compiled_both.model, compiled_both.outputs, workers)
    parts = [slice(i, i + n) for i, n in zip(range(0, 20, 2), itertools.cycle([1, 4, 3]))]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda rows: model(images[rows]), parts))
    assert all(equal(found, expected, rows) for found, rows in zip(results, parts, strict=True))


def test_results_stay_what_they_are_and_so_do_the_images(
    model: LiteRTModel, images: FloatArray, expected: Mapping[str, FloatArray]
) -> None:
    before = images.copy()
    first = model(images[:4])
    model(images[4:8])
    assert equal(first, expected, slice(0, 4))
    np.testing.assert_array_equal(images, before)


def test_images_need_not_lie_side_by_side(
    model: LiteRTModel, images: FloatArray, expected: Mapping[str, FloatArray]
) -> None:
    assert equal(model(images[::3]), expected, slice(None, None, 3))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda model: b"",
    "text": lambda model: b"not a model",
    "zeros": lambda model: bytes(1000),
    "cut short": lambda model: model[:-100],
    "half": lambda model: model[: len(model) // 2],
    "another mark": lambda model: model[:4] + b"XXXX" + model[8:],
    "head lost": lambda model: model[:100] + bytes(2000) + model[2100:],
    "end lost": lambda model: model[:-3000] + b"\xff" * 3000,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_model_is_refused(compiled_both: CompiledModel, damage: str) -> None:
    with pytest.raises(ModuleError, match="LiteRT cannot load the compiled module"):
        LiteRTModel(DAMAGES[damage](compiled_both.model), compiled_both.outputs, workers=1)


def test_refusal_is_one_line(compiled_both: CompiledModel) -> None:
    for damage in DAMAGES.values():
        with pytest.raises(ModuleError) as caught:
            LiteRTModel(damage(compiled_both.model), compiled_both.outputs, workers=1)
        assert "\n" not in str(caught.value)


def test_is_not_available_where_it_is_not_installed() -> None:
    code = (
        "import sys\n"
        "sys.modules['ai_edge_litert'] = None\n"
        "from mnv1cli.inference import litert_model, models\n"
        "print(litert_model.is_available(), models.default_engine())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False tf\n"
