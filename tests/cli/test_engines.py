"""Engines and precisions, and what a start with a warm cache loads."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.modules import artifacts
from tests.support.engines import require_bf16
from tests.support.shell import BUNDLED, EXAMPLES, mnv1, program

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule


def test_engines_agree_and_are_named(photos: Path, tmp_path: Path) -> None:
    values = {}
    for engine in ("litert", "openvino", "tf"):
        out = tmp_path / f"{engine}.npy"
        assert mnv1("logits", photos, *BUNDLED, "--engine", engine, "-o", out).exit_code == 0
        values[engine] = np.load(out)
        meta = json.loads((tmp_path / f"{engine}.npy.meta.json").read_text())
        assert (meta["engine"], meta["precision"]) == (engine, "float32")
        assert "device" not in meta
    for engine in ("openvino", "tf"):
        np.testing.assert_allclose(values["litert"], values[engine], rtol=0, atol=1e-3)
        np.testing.assert_array_equal(values["litert"].argmax(1), values[engine].argmax(1))


@pytest.mark.parametrize("options", ["--engine litert", "--engine tf", "--engine openvino"])
def test_threads_do_not_change_a_digit(photos: Path, options: str) -> None:
    some = sorted(photos.iterdir())[:20]
    run = ("logits", *some, *BUNDLED, *options.split(), "-q")
    results = {mnv1(*run, "--threads", n).stdout_bytes for n in (1, 2, 5)}
    assert len(results) == 1


def test_bf16_chooses_its_engine_and_goes_on_only_with_itself(few: Path, tmp_path: Path) -> None:
    require_bf16()
    out = tmp_path / "x.csv"
    run = ("classify", few, *BUNDLED, "-o", out)
    assert mnv1(*run, "--precision", "bf16", "--loader", "tf.data").exit_code == 0
    meta = json.loads((tmp_path / "x.csv.meta.json").read_text())
    assert (meta["engine"], meta["precision"]) == ("openvino", "bf16")
    first = out.read_bytes()
    refused = mnv1(*run, "--append", "--engine", "openvino")
    assert refused.exit_code == 1
    assert "was made with --precision bf16, not float32" in refused.stderr
    assert mnv1(*run, "--force", "--precision", "bf16", "--batch-size", 3).exit_code == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--engine openvino --device gpu.9", "OpenVINO has no device GPU.9 on this machine"),
        ("--device GPU", "the engine litert has no device GPU"),
        ("--engine tf --precision bf16", "the engine tf has no bf16"),
        ("--engine litert --precision bf16", "the engine litert has no bf16"),
    ],
)
def test_engine_that_lacks_a_choice_says_so_in_one_line(
    few: Path, options: str, message: str
) -> None:
    result = program("classify", few, *BUNDLED, *options.split())
    assert (result.returncode, result.stdout) == (2, b"")
    assert message in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1


def test_int8_works_at_once_and_the_metadata_name_the_recipe(
    few: Path, tmp_path: Path, own_cache: Path, bundled_module: HubModule
) -> None:
    out = tmp_path / "x.csv"
    result = mnv1(
        "classify", few, "--module", bundled_module.path, "--precision", "int8", "-o", out
    )
    assert result.exit_code == 0, result.stderr
    meta = json.loads((tmp_path / "x.csv.meta.json").read_text())
    facts = [meta.get(key) for key in ("engine", "precision", "recipe", "calibrated")]
    assert facts == ["litert", "int8", "dynamic", None]


@pytest.mark.parametrize("engine", ["litert", "openvino"])
def test_calibrated_model_stands_in_the_metadata(
    few: Path, tmp_path: Path, own_cache: Path, bundled_module: HubModule,
    compiled_both: CompiledModel, engine: str,
) -> None:  # fmt: skip
    kept = dataclasses.replace(compiled_both, precision="int8", calibration={"samples": 1})
    artifacts.save_model(bundled_module.fingerprint, kept)
    run = ("embed", few, "--module", bundled_module.path, "--precision", "int8", "--engine", engine)
    assert mnv1(*run, "-o", tmp_path / "x.npy").exit_code == 0
    meta = json.loads((tmp_path / "x.npy.meta.json").read_text())
    assert (meta["engine"], meta["precision"]) == (engine, "int8")
    assert meta["calibrated"] == kept.sha256


def test_module_is_prepared_once_and_says_so(
    few: Path, own_cache: Path, bundled_module: HubModule
) -> None:
    run = ("classify", few, "--module", bundled_module.path, "-f", "csv")
    first, second = mnv1(*run), mnv1(*run)
    assert first.stderr.count("preparing the module (once)") == 1
    assert "preparing" not in second.stderr
    assert first.stdout == second.stdout


WITHOUT_TENSORFLOW = """
import sys
from mnv1cli.cli.main import cli
try: cli(sys.argv[1:])
except SystemExit as end: assert not end.code, end.code
loaded = {"tensorflow", "google.protobuf", "requests", "openvino"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize(
    "task",
    [
        ("classify",),
        ("logits",),
        ("embed",),
        ("embed", "--endpoint", "Conv2d_5_pointwise"),
        ("classify", "--preprocess", "pad", "--decode", "full", "--no-exif", "--threads", "1"),
    ],
)
def test_start_with_a_warm_cache_pays_for_no_tensorflow(task: tuple[str, ...]) -> None:
    run = (*task, str(EXAMPLES), *BUNDLED, "-f", "csv", "-q")
    expected = mnv1(*run)
    assert expected.exit_code == 0
    words = [sys.executable, "-c", WITHOUT_TENSORFLOW, *run]
    process = subprocess.run(words, capture_output=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout == expected.stdout_bytes
    assert process.stderr == b""
