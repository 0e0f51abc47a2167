"""The memory of modules that no source served."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mnv1cli.modules import cache as store
from mnv1cli.modules import unreachable

if TYPE_CHECKING:
    from pathlib import Path

HANDLE = "https://modules.example/a/1"
SOURCES = ["https://one.example", "https://two.example"]
DAY = 24 * 60 * 60


def notes(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_file()]


def test_failure_is_remembered_until_it_is_forgotten(own_cache: Path) -> None:
    assert not unreachable.remembered(HANDLE, SOURCES)
    unreachable.remember(HANDLE, SOURCES)
    assert unreachable.remembered(HANDLE, SOURCES)
    unreachable.forget(HANDLE)
    assert not unreachable.remembered(HANDLE, SOURCES)
    unreachable.forget(HANDLE)


def test_failure_is_that_of_one_module_and_of_these_sources(own_cache: Path) -> None:
    unreachable.remember(HANDLE, SOURCES)
    assert not unreachable.remembered(f"{HANDLE}/other", SOURCES)
    for others in ([], SOURCES[:1], SOURCES[::-1], [*SOURCES, "https://three.example"]):
        assert not unreachable.remembered(HANDLE, others)


@pytest.mark.parametrize(
    ("age", "holds"), [(-60, False), (1, True), (DAY - 60, True), (DAY + 60, False)]
)
def test_failure_holds_for_a_day(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, age: float, holds: bool
) -> None:
    unreachable.remember(HANDLE, SOURCES)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + age)
    assert unreachable.remembered(HANDLE, SOURCES) is holds


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"time": "x"}', '{"time": 1}', "null"])
def test_damaged_note_is_none(own_cache: Path, content: str) -> None:
    unreachable.remember(HANDLE, SOURCES)
    (note,) = notes(own_cache)
    note.write_text(content)
    assert not unreachable.remembered(HANDLE, SOURCES)


def test_note_is_no_module(own_cache: Path) -> None:
    unreachable.remember(HANDLE, SOURCES)
    assert store.find(HANDLE) is None
    assert store.cached_modules(broken=True) == []


def test_cache_that_cannot_be_written_remembers_nothing(unwritable_cache: Path) -> None:
    unreachable.remember(HANDLE, SOURCES)
    assert not unreachable.remembered(HANDLE, SOURCES)
    unreachable.forget(HANDLE)
