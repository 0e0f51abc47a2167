"""The metadata of runs: as JSON and back, and what counts as the same settings."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from mnv1cli.errors import ResultError
from mnv1cli.results.metadata import Difference, RunMetadata
from mnv1cli.types import Fault

MODULE = {"handle": "bundled", "fingerprint": "f" * 64, "image_size": 128}
SETTINGS = RunMetadata(version="1", command="classify", module=MODULE, engine="litert", exif=True)
FAULTS = [Fault(b"a.jpg", "damaged"), Fault(b"\xff.jpg", "the file is empty")]


def test_json_has_what_is_known_in_one_order() -> None:
    metadata = replace(SETTINGS, output="labels", top=3, meta=True, shard={"index": 0})
    document = metadata.ended(5, FAULTS, 1.23456).to_json()
    assert list(document.items()) == [
        ("version", "1"),
        ("command", "classify"),
        ("module", MODULE),
        ("engine", "litert"),
        ("exif", True),
        ("output", "labels"),
        ("top", 3),
        ("meta", True),
        ("counts", {"done": 5, "failed": 2}),
        ("seconds", 1.235),
        (
            "failures",
            [
                {"path": "a.jpg", "reason": "damaged"},
                {"path": "\ufffd.jpg", "path_bytes": "/y5qcGc=", "reason": "the file is empty"},
            ],
        ),
        ("shard", {"index": 0}),
    ]
    assert RunMetadata.from_json(document, "x.csv") == metadata.ended(5, FAULTS, 1.235)


def test_what_is_so_by_default_is_left_out() -> None:
    assert list(RunMetadata(module={}).to_json()) == ["module"]
    found = RunMetadata.from_json({"module": {}}, "x.csv")
    assert (found.top, found.pool, found.exif, found.counts) == (5, True, None, None)


def test_what_another_version_has_written_stays() -> None:
    document = {"version": "9", "module": MODULE, "colour": "linear", "seconds": 1.0}
    found = RunMetadata.from_json(document, "x.csv")
    assert list(found.to_json().items()) == list(document.items())


@pytest.mark.parametrize(
    "members",
    [
        {"counts": None}, {"counts": {"done": 1}}, {"counts": {"done": "x", "failed": 0}},
        {"seconds": "long"}, {"failures": 3}, {"failures": [{}]}, {"failures": ["a.jpg"]},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_members_are_refused(members: Any) -> None:
    with pytest.raises(ResultError, match=r"^the metadata of x\.csv are damaged$"):
        RunMetadata.from_json({"module": {}, **members}, "x.csv")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"module": {**MODULE, "handle": "hub", "fingerprint": "0"}},
         Difference("module", "bundled", "hub")),
        ({"module": {**MODULE, "handle": "hub", "fingerprint": "0", "image_size": 224}},
         Difference("module", "bundled", "hub")),
        ({"module": {**MODULE, "fingerprint": "0", "image_size": 224}},
         Difference("--image-size", 128, 224)),
        ({"module": {"fingerprint": "0"}}, Difference("module", "bundled", "0")),
        ({"module": {**MODULE, "image_size": 160}}, Difference("--image-size", 128, 160)),
        ({"engine": "tf", "top": 3}, Difference("--engine", "litert", "tf")),
        ({"min_probability": 0.5}, Difference("--min-probability", 0.0, 0.5)),
        ({"labels": "0123"}, Difference("labels", None, "0123")),
        ({"version": "2", "more": {"colour": 1}, "run": "x", "seconds": 1.0}, None),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_decide_rows_are_compared(changes: Any, difference: Any) -> None:
    other = replace(SETTINGS, **changes)
    assert SETTINGS.difference(other) == difference
    if difference is None:
        SETTINGS.require_same("x.csv", other)
        return
    with pytest.raises(ResultError, match=rf"^x\.csv was made with {difference.name} "):
        SETTINGS.require_same("x.csv", other)


def test_modules_are_named_by_handle_and_the_fingerprints_are_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    version = replace(SETTINGS, module={**MODULE, "fingerprint": "0" * 64})
    other = replace(SETTINGS, module={**MODULE, "handle": "hub", "fingerprint": "0" * 64})
    same_files = replace(SETTINGS, module={**MODULE, "handle": "./bundled"})
    SETTINGS.require_same("x.csv", same_files)
    assert not caplog.records
    with caplog.at_level(logging.DEBUG), pytest.raises(ResultError) as caught:
        SETTINGS.require_same("x.csv", version)
    assert caught.value.what == "x.csv was made with another version of module bundled"
    assert "f" * 64 in caplog.text
    assert "0" * 64 in caplog.text
    with pytest.raises(ResultError) as caught:
        SETTINGS.require_same("x.csv", other)
    assert caught.value.what == "x.csv was made with module bundled, not hub"
    assert caught.value.remedy == "give --module bundled, or write another result"


def test_settings_are_what_is_so_from_the_beginning() -> None:
    assert replace(SETTINGS, run="x").ended(5, FAULTS, 1.0).settings() == SETTINGS
