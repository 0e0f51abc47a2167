"""The memory of modules that no source served."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mnv1cli.modules import cache, fetch

if TYPE_CHECKING:
    from pathlib import Path

HANDLE = "https://modules.example/a/1"
SOURCES = ["https://one.example", "https://two.example"]
DAY = 24 * 60 * 60


def notes(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_file()]


def test_failure_is_remembered_until_it_is_forgotten(own_cache: Path) -> None:
    assert not fetch.is_unreachable(HANDLE, SOURCES)
    fetch.remember_unreachable(HANDLE, SOURCES)
    assert fetch.is_unreachable(HANDLE, SOURCES)
    fetch.forget_unreachable(HANDLE)
    assert not fetch.is_unreachable(HANDLE, SOURCES)
    fetch.forget_unreachable(HANDLE)


def test_failure_is_that_of_one_module_and_of_these_sources(own_cache: Path) -> None:
    fetch.remember_unreachable(HANDLE, SOURCES)
    assert not fetch.is_unreachable(f"{HANDLE}/other", SOURCES)
    for others in ([], SOURCES[:1], SOURCES[::-1], [*SOURCES, "https://three.example"]):
        assert not fetch.is_unreachable(HANDLE, others)


@pytest.mark.parametrize(
    ("age", "holds"), [(-60, False), (1, True), (DAY - 60, True), (DAY + 60, False)]
)
def test_failure_holds_for_a_day(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, age: float, holds: bool
) -> None:
    fetch.remember_unreachable(HANDLE, SOURCES)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + age)
    assert fetch.is_unreachable(HANDLE, SOURCES) is holds


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"time": "x"}', '{"time": 1}', "null"])
def test_damaged_note_is_none(own_cache: Path, content: str) -> None:
    fetch.remember_unreachable(HANDLE, SOURCES)
    (note,) = notes(own_cache)
    note.write_text(content)
    assert not fetch.is_unreachable(HANDLE, SOURCES)


def test_note_is_no_module(own_cache: Path) -> None:
    fetch.remember_unreachable(HANDLE, SOURCES)
    assert cache.find_cached(HANDLE) is None
    assert cache.list_modules(broken=True) == []


def test_cache_that_cannot_be_written_remembers_nothing(unwritable_cache: Path) -> None:
    fetch.remember_unreachable(HANDLE, SOURCES)
    assert not fetch.is_unreachable(HANDLE, SOURCES)
    fetch.forget_unreachable(HANDLE)
