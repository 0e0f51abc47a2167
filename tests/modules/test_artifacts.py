"""Compiled models and records of modules, and what becomes of damaged ones."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.modules import artifacts, cache
from mnv1cli.modules.artifacts import CompiledModel, StoredModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PRINT = "f" * 64
LOGITS, BOTH = ("logits",), ("logits", "features")
MODEL = CompiledModel(b"model" * 100, LOGITS, "float32", "1/2.20")
CALIBRATED = CompiledModel(b"small", BOTH, "int8", "1/2.20", {"samples": 200, "seed": 0})


def files(cache: Path, suffix: str = "") -> list[Path]:
    return sorted(path for path in cache.rglob(f"*{suffix}") if path.is_file())


# Models


@pytest.mark.parametrize("model", [MODEL, CALIBRATED])
def test_what_is_kept_is_found(own_cache: Path, model: CompiledModel) -> None:
    assert artifacts.find_model(PRINT, model.outputs, model.precision) is None
    assert artifacts.save_model(PRINT, model)
    assert artifacts.find_model(PRINT, model.outputs, model.precision) == model


def test_another_module_output_or_precision_is_another_model(own_cache: Path) -> None:
    artifacts.save_model(PRINT, MODEL)
    assert artifacts.find_model("0" * 64, LOGITS, "float32") is None
    assert artifacts.find_model(PRINT, ("features",), "float32") is None
    assert artifacts.find_model(PRINT, BOTH, "float32") is None
    assert artifacts.find_model(PRINT, LOGITS, "int8") is None
    artifacts.save_model(PRINT, CALIBRATED)
    assert artifacts.find_model(PRINT, BOTH[::-1], "int8") is None
    assert artifacts.find_model(PRINT, LOGITS, "float32") == MODEL
    assert artifacts.find_model(PRINT, BOTH, "int8") == CALIBRATED


def test_later_model_takes_the_place_of_the_earlier(own_cache: Path) -> None:
    artifacts.save_model(PRINT, MODEL)
    later = CompiledModel(b"later", LOGITS, "float32", "2/2.21")
    artifacts.save_model(PRINT, later)
    assert artifacts.find_model(PRINT, LOGITS, "float32") == later
    assert len(files(own_cache)) == 2


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.binary(max_size=50))
def test_names_of_outputs_may_hold_anything(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNV1_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        model = CompiledModel(data, tuple(names), "float32", "1")
        artifacts.save_model(PRINT, model)
        assert artifacts.find_model(PRINT, tuple(names), "float32") == model
        assert artifacts.list_models(PRINT) == [StoredModel(tuple(names), "float32", len(data))]


def damage(place: Path, change: Callable[[bytes], bytes]) -> None:
    place.write_bytes(change(place.read_bytes()))


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "model changed": (".tflite", lambda data: b"M" + data[1:]),
    "model cut short": (".tflite", lambda data: data[:-1]),
    "model empty": (".tflite", lambda data: b""),
    "model of another": (".tflite", lambda data: b"small"),
    "record cut short": (".json", lambda data: data[:-10]),
    "record empty": (".json", lambda data: b""),
    "record no text": (".json", lambda data: b"\xff\xfe\0"),
    "record a list": (".json", lambda data: b"[1, 2]"),
    "record without facts": (".json", lambda data: b"{}"),
    "record of other types": (
        ".json",
        lambda data: json.dumps(dict.fromkeys(json.loads(data), 5)).encode(),
    ),
    "record of other outputs": (".json", lambda data: data.replace(b'"logits"', b'"features"')),
    "record of another digest": (
        ".json",
        lambda data: json.dumps({**json.loads(data), "sha256": "0" * 64}).encode(),
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_model_counts_as_absent(own_cache: Path, kind: str) -> None:
    suffix, change = DAMAGES[kind]
    artifacts.save_model(PRINT, MODEL)
    (place,) = files(own_cache, suffix)
    damage(place, change)
    assert artifacts.find_model(PRINT, LOGITS, "float32") is None
    assert artifacts.save_model(PRINT, MODEL)
    assert artifacts.find_model(PRINT, LOGITS, "float32") == MODEL


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_no_changed_byte_of_a_model_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("MNV1_CACHE_DIR", str(cache))
        artifacts.save_model(PRINT, MODEL)
        (place,) = files(cache, ".tflite")
        content = bytearray(place.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        place.write_bytes(content)
        assert artifacts.find_model(PRINT, LOGITS, "float32") is None


@pytest.mark.parametrize("suffix", [".tflite", ".json"])
def test_half_a_model_counts_as_absent(own_cache: Path, suffix: str) -> None:
    artifacts.save_model(PRINT, MODEL)
    (place,) = files(own_cache, suffix)
    place.unlink()
    assert artifacts.find_model(PRINT, LOGITS, "float32") is None
    assert artifacts.list_models(PRINT) == []


def test_nothing_unfinished_is_left(own_cache: Path) -> None:
    artifacts.save_model(PRINT, MODEL)
    assert [path.suffix for path in files(own_cache)] == [".json", ".tflite"]


def test_readers_see_one_model_or_another_while_it_is_replaced(own_cache: Path) -> None:
    both = [MODEL, CompiledModel(b"other" * 1000, LOGITS, "float32", "1/2.21")]
    artifacts.save_model(PRINT, MODEL)
    done = threading.Event()

    def replace() -> None:
        for i in range(60):
            artifacts.save_model(PRINT, both[i % 2])
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set():
        assert artifacts.find_model(PRINT, LOGITS, "float32") in [None, *both]
    writer.join()
    assert artifacts.find_model(PRINT, LOGITS, "float32") == both[1]


# Records


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none(), max_size=4),
)
def test_what_is_noted_is_recalled(
    tmp_path_factory: pytest.TempPathFactory, key: str, facts: dict[str, Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNV1_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        assert artifacts.read_record(PRINT, key) == {}
        artifacts.write_record(PRINT, key, facts)
        assert artifacts.read_record(PRINT, key) == facts
        assert artifacts.read_record(PRINT, f"{key}.") == {}
        assert artifacts.read_record("0" * 64, key) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe"])
def test_damaged_record_counts_as_absent(own_cache: Path, content: bytes) -> None:
    artifacts.write_record(PRINT, "key", {"size": 128})
    (place,) = files(own_cache)
    place.write_bytes(content)
    assert artifacts.read_record(PRINT, "key") == {}


def test_records_are_no_models(own_cache: Path) -> None:
    artifacts.write_record(PRINT, "key", {"size": 128})
    assert artifacts.list_models(PRINT) == []


# The cache


def test_models_of_a_module_are_listed(own_cache: Path) -> None:
    assert artifacts.list_models(PRINT) == []
    assert artifacts.list_fingerprints() == []
    artifacts.save_model(PRINT, MODEL)
    artifacts.save_model(PRINT, CALIBRATED)
    artifacts.save_model("0" * 64, MODEL)
    found = {StoredModel(LOGITS, "float32", 500), StoredModel(BOTH, "int8", 5, "static")}
    assert set(artifacts.list_models(PRINT)) == found
    assert artifacts.list_fingerprints() == ["0" * 64, PRINT]


def test_removing_forgets_one_module(own_cache: Path) -> None:
    for fingerprint in (PRINT, "0" * 64):
        artifacts.save_model(fingerprint, MODEL)
        artifacts.write_record(fingerprint, "key", {"size": 128})
    artifacts.remove(PRINT)
    assert artifacts.find_model(PRINT, LOGITS, "float32") is None
    assert artifacts.read_record(PRINT, "key") == {}
    assert artifacts.find_model("0" * 64, LOGITS, "float32") == MODEL
    artifacts.remove("0" * 64)
    assert artifacts.list_fingerprints() == []
    assert not files(own_cache)
    artifacts.remove(PRINT)


def test_removing_all_forgets_every_module(own_cache: Path) -> None:
    artifacts.remove_all()
    for fingerprint in (PRINT, "0" * 64):
        artifacts.save_model(fingerprint, MODEL)
    artifacts.remove_all()
    assert artifacts.list_fingerprints() == []
    assert not files(own_cache)


def test_lies_beside_modules_and_is_none(own_cache: Path) -> None:
    artifacts.save_model(PRINT, MODEL)
    assert artifacts.artifact_directory(PRINT).is_relative_to(own_cache)
    assert cache.list_modules(broken=True) == []


def test_cache_that_cannot_be_written_keeps_nothing_and_says_so(unwritable_cache: Path) -> None:
    assert not artifacts.save_model(PRINT, MODEL)
    artifacts.write_record(PRINT, "key", {"size": 128})
    assert artifacts.find_model(PRINT, LOGITS, "float32") is None
    assert artifacts.read_record(PRINT, "key") == {}
    assert artifacts.list_models(PRINT) == []
    assert artifacts.list_fingerprints() == []
    artifacts.remove(PRINT)
