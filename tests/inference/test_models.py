"""A module made ready to run: compiled once, mended in silence, or run as it is."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.errors import EngineError, ModuleError, OptionError
from mnv1cli.inference import compiled, convert, litert_model, models
from mnv1cli.modules import artifacts, build
from mnv1cli.modules import inspection as module
from tests.conftest import ROOT
from tests.modules.test_build import write_npz

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import Engine, FloatArray

PHOTO = ROOT / "examples" / "photos" / "coffee.jpg"
CALIBRATION = {"samples": 3}


@pytest.fixture(scope="module")
def images() -> FloatArray:
    return np.random.default_rng(7).random((2, 128, 128, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> HubModule:
    """The smallest of the family: what is kept of it is soon written."""
    folder = tmp_path_factory.mktemp("small")
    build.build_module(None, write_npz(folder, 0.25, 128), None, None, folder / "module")
    return module.open_module(str(folder / "module"))


@pytest.fixture(scope="module")
def compiled_small(small: HubModule) -> CompiledModel:
    return convert.compile_module(small, small.main_outputs())


class Kitchen:
    """Stands in for the conversion, which takes seconds; counts how often it is done."""

    def __init__(self, model: CompiledModel) -> None:
        self.model = model
        self.count = 0
        self.seconds = 0.0
        self._counting = threading.Lock()

    def compile_module(self, module: HubModule, outputs: Sequence[Output]) -> CompiledModel:
        with self._counting:
            self.count += 1
        time.sleep(self.seconds)
        assert tuple(output.name for output in outputs) == self.model.outputs
        return self.model


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch, compiled_small: CompiledModel) -> Kitchen:
    kitchen = Kitchen(compiled_small)
    monkeypatch.setattr(convert, "compile_module", kitchen.compile_module)
    return kitchen


@pytest.fixture
def hub(small: HubModule, own_cache: Path) -> HubModule:
    """A module of which nothing has been kept yet."""
    assert artifacts.list_fingerprints() == []
    return small


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_default_engine_is_litert_compiled_once(
    bundled_module: HubModule, own_cache: Path, images: FloatArray, caplog: pytest.LogCaptureFixture
) -> None:
    """The one test here that compiles in earnest."""
    hub = bundled_module
    with caplog.at_level(logging.INFO):
        model = models.open_model(hub, [hub.logits()], workers=2)
    assert (model.engine, model.precision, model.calibrated) == ("litert", "float32", None)
    assert model.workers == 2
    assert [m for m in caplog.messages if "preparing" in m] == ["preparing the module (once)"]
    assert [kept.outputs for kept in artifacts.list_models(hub.fingerprint)] == [("logits",)]
    assert warnings(caplog) == []
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = models.open_model(hub, [hub.logits()], workers=1)
    assert caplog.messages == []
    np.testing.assert_array_equal(model(images)["logits"], again(images)["logits"])
    reference = models.open_model(hub, [hub.logits()], 2, "tf")(images)["logits"]
    np.testing.assert_allclose(again(images)["logits"], reference, rtol=0, atol=1e-3)


def test_other_outputs_are_other_models(hub: HubModule, kitchen: Kitchen) -> None:
    for _ in range(2):
        models.open_model(hub, hub.main_outputs(), 1)
    assert kitchen.count == 1
    kitchen.model = dataclasses.replace(kitchen.model, outputs=("features", "logits"))
    models.open_model(hub, hub.main_outputs()[::-1], 1)
    assert kitchen.count == 2


def damaged_model(cache: Path) -> None:
    (place,) = cache.rglob("*.tflite")
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)


def model_lost(cache: Path) -> None:
    (place,) = cache.rglob("*.tflite")
    place.unlink()


def model_cut_short(cache: Path) -> None:
    (place,) = cache.rglob("*.tflite")
    place.write_bytes(place.read_bytes()[:1000])


def record_lost(cache: Path) -> None:
    (place,) = cache.rglob("float32*.json")
    place.unlink()


def record_damaged(cache: Path) -> None:
    (place,) = cache.rglob("float32*.json")
    place.write_bytes(b"\xff{")


def of_another_version(cache: Path) -> None:
    (place,) = cache.rglob("float32*.json")
    record = json.loads(place.read_text())
    place.write_text(json.dumps({**record, "converter": "0/1.0"}))


@pytest.mark.parametrize(
    "harm",
    [damaged_model, model_lost, model_cut_short, record_lost, record_damaged, of_another_version],
)
def test_damaged_or_outdated_model_is_made_anew_without_a_word(
    hub: HubModule,
    kitchen: Kitchen,
    own_cache: Path,
    images: FloatArray,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path], None],
) -> None:
    expected = models.open_model(hub, hub.main_outputs(), 1)(images)
    harm(own_cache)
    found = models.open_model(hub, hub.main_outputs(), 1)(images)
    assert kitchen.count == 2
    np.testing.assert_array_equal(found["logits"], expected["logits"])
    models.open_model(hub, hub.main_outputs(), 1)
    assert kitchen.count == 2
    assert warnings(caplog) == []


def test_several_at_once_compile_once(hub: HubModule, kitchen: Kitchen) -> None:
    kitchen.seconds = 0.2
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: models.open_model(hub, hub.main_outputs(), 1), "abcd"))
    assert kitchen.count == 1
    assert {model.engine for model in opened} == {"litert"}


def test_cache_that_cannot_be_written_is_no_reason_to_fail(
    small: HubModule,
    unwritable_cache: Path,
    kitchen: Kitchen,
    images: FloatArray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for count in (1, 2):
        model = models.open_model(small, small.main_outputs(), 1)
        assert kitchen.count == count
        assert model(images)["logits"].shape == (2, 1001)
    assert warnings(caplog) == []


def test_reference_engine_compiles_nothing(
    hub: HubModule, kitchen: Kitchen, images: FloatArray
) -> None:
    model = models.open_model(hub, [hub.logits()], 2, "tf")
    assert (model.engine, model.precision, model.calibrated) == ("tf", "float32", None)
    assert model(images)["logits"].shape == (2, 1001)
    assert kitchen.count == 0
    assert artifacts.list_models(hub.fingerprint) == []


# Where it cannot be compiled


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(module: HubModule, outputs: Sequence[Output]) -> CompiledModel:
        raise ModuleError("module x cannot be compiled for LiteRT: so", "--engine tf does it")

    monkeypatch.setattr(convert, "compile_module", refuse)


@pytest.mark.usefixtures("stubborn")
def test_module_that_cannot_be_compiled_is_run_as_it_is_with_one_warning(
    hub: HubModule, images: FloatArray, caplog: pytest.LogCaptureFixture
) -> None:
    model = models.open_model(hub, [hub.logits()], 1)
    assert model.engine == "tf"
    assert model(images)["logits"].shape == (2, 1001)
    (warning,) = warnings(caplog)
    assert "cannot be compiled for LiteRT: so" in warning
    assert "\n" not in warning


@pytest.mark.usefixtures("stubborn")
def test_module_that_cannot_be_compiled_is_an_error_where_the_engine_is_named(
    hub: HubModule,
) -> None:
    with pytest.raises(ModuleError, match="cannot be compiled"):
        models.open_model(hub, [hub.logits()], 1, "litert")


def test_damaged_module_is_told_once(
    small: HubModule, own_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(small.path, tmp_path / "copy")
    data = copy / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    damaged = dataclasses.replace(small, path=copy, fingerprint="0" * 64)
    with pytest.raises(ModuleError, match="cannot be loaded") as caught:
        models.open_model(damaged, [damaged.logits()], 1)
    assert "\n" not in str(caught.value)
    assert warnings(caplog) == []


# int8


@pytest.mark.parametrize("endpoint", ["", "global_pool"])
def test_int8_with_openvino_says_how_a_module_is_calibrated(hub: HubModule, endpoint: str) -> None:
    output = hub.endpoint(endpoint) if endpoint else hub.logits()
    with pytest.raises(ModuleError, match="not calibrated for int8 with OpenVINO") as caught:
        models.open_model(hub, [output], 1, "openvino", "int8")
    assert "mnv1 module quantize DIR --engine openvino" in caught.value.remedy
    assert ("--endpoint MobilenetV1/global_pool" in caught.value.remedy) == bool(endpoint)
    assert "\n" not in str(caught.value)


def test_int8_is_litert_s_alone(hub: HubModule) -> None:
    with pytest.raises(OptionError, match="tf has no int8") as caught:
        models.open_model(hub, [hub.logits()], 1, "tf", "int8")
    assert caught.value.exit_code == 2


def calibrated(model: CompiledModel, version: str) -> CompiledModel:
    """A model that passes for one of int8."""
    return dataclasses.replace(model, precision="int8", converter=version, calibration=CALIBRATION)


@pytest.mark.parametrize("engine", [None, "litert"])
def test_int8_is_what_was_calibrated_for_both_outputs(
    hub: HubModule, kitchen: Kitchen, images: FloatArray, engine: Engine | None
) -> None:
    kept = calibrated(kitchen.model, convert.version())
    artifacts.save_model(hub.fingerprint, kept)
    for output in hub.main_outputs():
        model = models.open_model(hub, [output], 2, engine, "int8")
        assert (model.engine, model.precision) == ("litert", "int8")
        assert model.calibrated == kept.sha256
        assert output.name in model(images)
        assert model.recipe is None
    assert kitchen.count == 0


def test_int8_outlives_another_tensorflow_but_no_other_revision(
    hub: HubModule, compiled_small: CompiledModel
) -> None:
    artifacts.save_model(hub.fingerprint, calibrated(compiled_small, f"{convert.REVISION}/1.0"))
    found = compiled.find_calibrated(hub, hub.logits())
    assert found is not None
    assert found.calibration == CALIBRATION
    artifacts.save_model(hub.fingerprint, calibrated(compiled_small, f"{convert.REVISION + 1}/1.0"))
    assert compiled.find_calibrated(hub, hub.logits()) is None


def test_damaged_int8_model_counts_as_not_calibrated(
    hub: HubModule, compiled_small: CompiledModel, own_cache: Path
) -> None:
    artifacts.save_model(hub.fingerprint, calibrated(compiled_small, convert.version()))
    damaged_model(own_cache)
    assert compiled.find_calibrated(hub, hub.logits()) is None


# Without LiteRT


def test_without_litert_tensorflow_is_the_default(
    hub: HubModule, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    assert not litert_model.is_available()
    assert models.default_engine() == "tf"
    assert models.open_model(hub, [hub.logits()], 1).engine == "tf"
    assert warnings(caplog) == []
    with pytest.raises(EngineError, match="LiteRT is not installed") as caught:
        models.open_model(hub, [hub.logits()], 1, "litert")
    assert "--engine tf" in caught.value.remedy
    with pytest.raises(OptionError, match="int8"):
        models.open_model(hub, [hub.logits()], 1, precision="int8")


WITHOUT_LITERT = """
import sys
sys.modules["ai_edge_litert"] = None
from mnv1cli.cli.main import cli
cli(sys.argv[1:])
"""


def test_command_without_litert_runs_in_tensorflow(tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "r.csv"
    run = ("classify", str(PHOTO), "--module", "bundled", "--top", "1", "-o", str(out))
    words = [sys.executable, "-c", WITHOUT_LITERT, *run]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert "espresso" in out.read_text()
    assert json.loads((tmp_path / "r.csv.meta.json").read_text())["engine"] == "tf"
