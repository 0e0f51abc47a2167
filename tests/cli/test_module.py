"""`mnv1 module`: show, list, path and remove."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.modules import artifacts, cache, files, locate
from mnv1cli.modules.artifacts import CompiledModel
from tests.support.laid import lay
from tests.support.shell import mnv1, rows

if TYPE_CHECKING:
    from pathlib import Path

HANDLE = "https://modules.example/a/1"
LOGITS = CompiledModel(b"x" * 2_000_000, ("logits",), "float32", "1/2.20")
SMALL = CompiledModel(b"x" * 500_000, ("logits", "features"), "int8", "1/2.20", {"samples": 3})


def fill(directory: Path) -> None:
    lay(directory)


@pytest.fixture
def module(own_cache: Path) -> Path:
    """A module in the cache, compiled twice, and the compiled model of one outside it."""
    place = cache.install(HANDLE, fill)
    for model in (LOGITS, SMALL):
        artifacts.save_model(files.compute_fingerprint(place), model)
    artifacts.save_model("0" * 64, LOGITS)
    return place


def listed() -> list[dict[str, Any]]:
    result = mnv1("module", "list", "--json")
    assert result.exit_code == 0
    entries: list[dict[str, Any]] = json.loads(result.stdout)
    return entries


def test_list_shows_what_was_compiled(module: Path) -> None:
    here, elsewhere = listed()
    assert (here["handle"], here["path"], here["complete"]) == (HANDLE, str(module), True)
    assert {(tuple(c["outputs"]), c["precision"], c["size"]) for c in here["compiled"]} == {
        (("logits",), "float32", 2_000_000),
        (("logits", "features"), "int8", 500_000),
    }
    assert elsewhere["handle"] == ""
    assert [c["outputs"] for c in elsewhere["compiled"]] == [["logits"]]
    text = mnv1("module", "list").stdout
    for word in (HANDLE, "logits + features int8", "logits float32", str(module)):
        assert word in text


def test_list_of_modules_that_were_not_compiled(own_cache: Path) -> None:
    assert listed() == []
    cache.install(HANDLE, fill)
    (entry,) = listed()
    assert entry["compiled"] == []


def test_records_alone_are_not_listed(own_cache: Path) -> None:
    artifacts.write_record("0" * 64, "key", {"size": 128})
    assert listed() == []


def test_remove_takes_along_what_was_compiled(module: Path) -> None:
    assert mnv1("module", "remove", HANDLE).exit_code == 0
    assert not module.exists()
    assert artifacts.list_fingerprints() == ["0" * 64]


def test_remove_all_leaves_nothing(module: Path, own_cache: Path) -> None:
    assert mnv1("module", "remove", "--all").exit_code == 0
    assert listed() == []
    assert [path for path in own_cache.rglob("*") if path.is_file()] == []


def test_list_bears_damaged_records(module: Path, own_cache: Path) -> None:
    for record in own_cache.rglob("*-*.json"):
        record.write_bytes(b"{")
    (entry,) = listed()
    assert entry["compiled"] == []


def test_module_show_tells_signatures_and_endpoints() -> None:
    facts = json.loads(mnv1("module", "show", "bundled", "--json").stdout)
    assert facts["tags"] == [[], ["train"]]
    assert facts["signatures"]["default"]["outputs"]["default"]["shape"] == [None, 1001]
    assert (facts["image_size"], facts["classes"], facts["features"]) == (128, 1001, 1024)
    assert "MobilenetV1/Conv2d_5_pointwise" in facts["endpoints"]
    assert facts == json.loads(mnv1("module", "show", "--module", "bundled", "--json").stdout)
    table = mnv1("module", "show", "bundled").stdout
    for fact in (facts["fingerprint"], facts["handle"], "image_feature_vector", "[train]"):
        assert fact in table


def test_module_path_and_list_agree() -> None:
    path = mnv1("module", "path", "bundled").stdout.strip()
    assert json.loads(mnv1("module", "path", "bundled", "--json").stdout)["path"] == path
    cached = json.loads(mnv1("module", "list", "--json").stdout)
    assert path in [entry["path"] for entry in cached]
    assert path in mnv1("module", "list").stdout


def test_module_list_of_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNV1_CACHE_DIR", str(tmp_path / "none"))
    assert json.loads(mnv1("module", "list", "--json").stdout) == []
    assert "no modules" in mnv1("module", "list").stdout


def test_module_comes_from_the_environment(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNV1_MODULE", "nowhere")
    result = mnv1("classify", few)
    assert result.exit_code == 1
    assert "no module 'nowhere'" in result.stderr


def test_image_size_that_the_module_does_not_take_is_refused(few: Path) -> None:
    built = locate.locate("bundled").path
    result = mnv1("classify", few, "--module", built, "--image-size", 224)
    assert result.exit_code == 2
    assert "states that its images are 128x128, not 224x224" in result.stderr
    assert mnv1("classify", few, "--module", built, "--image-size", 128).exit_code == 0


@pytest.mark.parametrize("name", ["br [1]*?", "back\\slash", "na\u00efve"])
def test_any_name_of_a_modules_folder_works(few: Path, tmp_path: Path, name: str) -> None:
    place = mnv1("module", "path", "bundled").stdout.strip()
    copy = shutil.copytree(place, tmp_path / name)
    result = mnv1("classify", few, "--module", copy, "-f", "csv", "--top", 1)
    assert result.exit_code == 0, result.stderr
    assert len(rows(result.stdout)) == 4


def test_path_of_a_module_that_would_not_stay_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNV1_CACHE_DIR", str(tmp_path / "file" / "cache"))
    result = mnv1("module", "path", "bundled")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "MNV1_CACHE_DIR" in result.stderr
