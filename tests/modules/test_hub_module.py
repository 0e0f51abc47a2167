"""The description of a module, and its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import SignatureError
from mnv1cli.modules import hub_module, inspection
from mnv1cli.modules.hub_module import HubModule
from mnv1cli.modules.signatures import Signature, TensorSpec

PLACE = Path("/cache/module")

names = st.text(max_size=8)
specs = st.builds(TensorSpec, names, names, st.lists(st.integers(-1, 2000), max_size=4).map(tuple))
signatures = st.builds(
    Signature,
    st.dictionaries(names, specs, max_size=3),
    st.dictionaries(names, specs, max_size=3),
)
modules = st.builds(
    HubModule,
    handle=names,
    path=st.just(PLACE),
    fingerprint=names,
    format=names,
    tags=st.lists(st.lists(names, max_size=2).map(tuple), max_size=3).map(tuple),
    signatures=st.dictionaries(names, signatures, max_size=3),
    image_size=st.none() | st.integers(1, 1000),
)


@pytest.fixture(scope="module")
def bundled() -> HubModule:
    return inspection.open_module("bundled")


@settings(derandomize=True, deadline=None, max_examples=60)
@given(modules)
def test_record_gives_the_module_back(found: HubModule) -> None:
    record = json.loads(json.dumps(hub_module.to_record(found)))
    again = hub_module.from_record(record, found.handle, found.path, found.fingerprint)
    assert again == found


def test_record_of_a_genuine_module_gives_it_back(bundled: HubModule) -> None:
    record = json.loads(json.dumps(hub_module.to_record(bundled)))
    again = hub_module.from_record(record, bundled.handle, bundled.path, bundled.fingerprint)
    assert again == bundled
    assert again.logits() == bundled.logits()
    assert list(again.endpoints()) == list(bundled.endpoints())
    assert (again.classes(), again.feature_length()) == (1001, 1024)


def test_record_says_nothing_of_where_the_module_lies(bundled: HubModule) -> None:
    text = json.dumps(hub_module.to_record(bundled))
    assert str(bundled.path) not in text
    assert bundled.fingerprint not in text


RECORD: dict[str, Any] = {
    "format": "TF1 Hub module",
    "tags": [[]],
    "signatures": {
        "image_classification": {
            "inputs": {"images": {"tensor": "x:0", "dtype": "float32", "shape": [-1, 8, 8, 3]}},
            "outputs": {"default": {"tensor": "y:0", "dtype": "float32", "shape": [-1, 5]}},
        }
    },
    "image_size": 8,
    "labels": None,
    "foreign": [["WriteFile", "a/b"]],
    "foreign_training": [],
}


def test_record_of_a_small_module() -> None:
    found = hub_module.from_record(RECORD, "h", PLACE, "f")
    assert found is not None
    assert (found.classes(), found.image_size, found.tags) == (5, 8, ((),))
    assert found.foreign == (("WriteFile", "a/b"),)
    assert [output.name for output in found.main_outputs()] == ["logits"]
    with pytest.raises(SignatureError, match="it has image_classification"):
        found.features()


@pytest.mark.parametrize("lacking", RECORD)
def test_record_without_a_fact_is_none(lacking: str) -> None:
    record = {key: value for key, value in RECORD.items() if key != lacking}
    assert hub_module.from_record(record, "h", PLACE, "f") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"signatures": []},
        {"signatures": 5},
        {"signatures": {"a": {}}},
        {"signatures": {"a": None}},
        {"signatures": {"a": {"inputs": {"x": {}}, "outputs": {}}}},
        {"signatures": {"a": {"inputs": [], "outputs": {}}}},
        {"tags": None},
        {"tags": [1]},
    ],
)
def test_record_of_another_make_is_none(wrong: dict[str, Any]) -> None:
    assert hub_module.from_record({**RECORD, **wrong}, "h", PLACE, "f") is None
    assert hub_module.from_record({}, "h", PLACE, "f") is None
