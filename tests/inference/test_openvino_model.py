"""OpenVINO: the same results as LiteRT, a row whatever its batch, and refusals in one line."""

from __future__ import annotations

import errno
import itertools
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.errors import EngineError, Mnv1Error, ModuleError, OptionError
from mnv1cli.inference import models, openvino_model
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.inference.openvino_model import OpenVINOModel, _handle_errors
from tests.inference.test_litert_model import DAMAGES, equal
from tests.support.engines import require_bf16

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.types import Engine, FloatArray, Precision

COUNT = 24


@pytest.fixture(scope="module")
def images() -> FloatArray:
    return np.random.default_rng(0).random((COUNT, 128, 128, 3), dtype=np.float32)


@pytest.fixture(scope="module", params=["float32", "bf16"])
def model(request: pytest.FixtureRequest, compiled_both: CompiledModel) -> OpenVINOModel:
    if request.param == "bf16":
        require_bf16()
    return OpenVINOModel(compiled_both.model, compiled_both.outputs, 2, request.param)


@pytest.fixture(scope="module")
def expected(model: OpenVINOModel, images: FloatArray) -> Mapping[str, FloatArray]:
    return model(images)


def test_float32_is_that_of_litert(compiled_both: CompiledModel, photo_pixels: FloatArray) -> None:
    arguments = compiled_both.model, compiled_both.outputs, 1
    computed, expected = (
        OpenVINOModel(*arguments)(photo_pixels),
        LiteRTModel(*arguments)(photo_pixels),
    )
    for name, values in expected.items():
        np.testing.assert_allclose(computed[name], values, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(computed["logits"].argmax(1), expected["logits"].argmax(1))


def test_bf16_gives_nearly_the_same_labels(
    compiled_both: CompiledModel, photo_pixels: FloatArray
) -> None:
    require_bf16()
    arguments = compiled_both.model, compiled_both.outputs, 1
    computed = OpenVINOModel(*arguments, "bf16")(photo_pixels)["logits"].argmax(1)
    expected = LiteRTModel(*arguments)(photo_pixels)["logits"].argmax(1)
    assert (computed == expected).mean() >= 0.94


@pytest.mark.parametrize("sizes", [(1,), (8, 8), (3, 17, 1), (5, 5, 5, 5), (16, 7)])
def test_a_row_does_not_depend_on_its_batch_and_those_before(
    model: OpenVINOModel,
    images: FloatArray,
    expected: Mapping[str, FloatArray],
    sizes: tuple[int, ...],
) -> None:
    for start, size in enumerate(sizes):
        rows = slice(start, start + size)
        assert equal(model(images[rows]), expected, rows)


def test_images_need_not_be_writable_or_side_by_side(
    model: OpenVINOModel, images: FloatArray, expected: Mapping[str, FloatArray]
) -> None:
    assert equal(model(images[::3]), expected, slice(None, None, 3))
    fixed = images.copy()
    fixed.flags.writeable = False
    assert equal(model(fixed), expected, slice(None))
    np.testing.assert_array_equal(fixed, images)


def test_calls_at_once_do_not_disturb_each_other(
    model: OpenVINOModel, images: FloatArray, expected: Mapping[str, FloatArray]
) -> None:
    parts = [slice(i, i + n) for i, n in zip(range(0, 20, 2), itertools.cycle([1, 4, 3]))]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda rows: model(images[rows]), parts))
    assert all(equal(result, expected, rows) for result, rows in zip(results, parts, strict=True))


def test_is_the_same_in_another_process(
    model: OpenVINOModel, images: FloatArray, expected: Mapping[str, FloatArray]
) -> None:
    copied = pickle.loads(pickle.dumps(model.for_workers(3)))
    described = (copied.engine, copied.precision, copied.device, copied.calibrated)
    assert described == ("openvino", model.precision, "CPU", None)
    assert (model.workers, copied.workers) == (2, 3)
    assert equal(copied(images[:3]), expected, slice(0, 3))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_model_is_refused_in_one_line_and_nothing_is_printed(
    compiled_both: CompiledModel, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModuleError, match="OpenVINO cannot load the compiled module") as caught:
        OpenVINOModel(DAMAGES[damage](compiled_both.model), compiled_both.outputs, workers=1)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["GPU.7", "NPU.7", "", "CPUS"])
def test_unknown_device_is_refused_with_those_that_it_has(
    compiled_both: CompiledModel, device: str
) -> None:
    with pytest.raises(OptionError, match=f"no device {device}.*CPU"):
        OpenVINOModel(compiled_both.model, compiled_both.outputs, 1, device=device)


class _OldProcessor:
    """A Core of a processor without bfloat16."""

    def get_property(self, device: str, name: str) -> list[str]:
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return ["FP32", "INT8"]


def test_processor_without_bf16_is_told_before_anything_is_compiled(
    bundled_module: HubModule, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_model, "make_core", _OldProcessor)
    with pytest.raises(OptionError, match="processor has no bf16"):
        models.open_model(bundled_module, [bundled_module.logits()], 1, precision="bf16")
    assert not own_cache.exists()


@pytest.mark.parametrize(("engine", "precision"), [("openvino", "float32"), (None, "bf16")])
def test_missing_extra_is_named(
    bundled_module: HubModule, monkeypatch: pytest.MonkeyPatch, engine: Engine | None,
    precision: Precision,
) -> None:  # fmt: skip
    monkeypatch.setattr(openvino_model, "is_available", lambda: False)
    openvino_model.make_core.cache_clear()
    with pytest.raises(EngineError, match="not installed") as caught:
        models.open_model(bundled_module, [bundled_module.logits()], 1, engine, precision)
    assert "mnv1cli[openvino]" in caught.value.remedy


@pytest.mark.parametrize(
    ("engine", "precision", "device", "message"),
    [
        ("litert", "bf16", "CPU", "litert has no bf16"),
        ("tf", "bf16", "CPU", "tf has no bf16"),
        ("litert", "float32", "GPU", "litert has no device GPU"),
        (None, "float32", "GPU", "litert has no device GPU"),
    ],
)
def test_other_engines_have_neither_bf16_nor_devices(
    bundled_module: HubModule, engine: Engine | None, precision: Precision,
    device: str, message: str,
) -> None:  # fmt: skip
    with pytest.raises(Mnv1Error, match=message) as caught:
        models.open_model(bundled_module, [bundled_module.logits()], 1, engine, precision, device)
    assert "--engine openvino" in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("std::bad_alloc"), MemoryError()])
def test_lack_of_memory_says_what_to_do(error: Exception) -> None:
    with pytest.raises(EngineError, match="no memory to run") as caught, _handle_errors("run"):
        raise error
    assert "--threads" in caught.value.remedy


def test_folder_for_temporary_files_that_is_full_is_named(
    compiled_both: CompiledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    with pytest.raises(EngineError, match=r"copy of the compiled module in .*No space") as caught:
        OpenVINOModel(compiled_both.model, compiled_both.outputs, 1)
    assert "TMPDIR" in caught.value.remedy


def test_import_sends_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, socket\n"
        "def refuse(*arguments): raise AssertionError('a connection')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from mnv1cli.inference.openvino_model import import_openvino\n"
        "openvino = import_openvino()\n"
        "assert openvino.convert_model\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
