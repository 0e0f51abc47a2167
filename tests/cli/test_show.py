"""What `module list` shows of the cache, and what `module remove` takes along."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.modules import artifacts, cache, files
from mnv1cli.modules.artifacts import CompiledModel
from tests.support.laid import lay
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

HANDLE = "https://modules.example/a/1"
LOGITS = CompiledModel(b"x" * 2_000_000, ("logits",), "float32", "1/2.20")
SMALL = CompiledModel(b"x" * 500_000, ("logits", "features"), "int8", "1/2.20", {"samples": 3})


def fill(directory: Path) -> None:
    lay(directory)


@pytest.fixture
def module(own_cache: Path) -> Path:
    """A module in the cache, compiled twice, and one that lies elsewhere, compiled once."""
    place = cache.install(HANDLE, fill)
    for model in (LOGITS, SMALL):
        artifacts.save_model(files.compute_fingerprint(place), model)
    artifacts.save_model("0" * 64, LOGITS)
    return place


def listed() -> list[dict[str, Any]]:
    result = mnv1("module", "list", "--json")
    assert result.exit_code == 0
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


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
