"""The journal: what was noted is read again, whatever was cut off behind it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.errors import ResumeError
from mnv1cli.runs import journal
from mnv1cli.runs.journal import Checkpoint, Journal, Prefix
from mnv1cli.types import Fault, ImageRef

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {"command": "classify", "--top": 5}
FAULTS = (Fault(b"a\xff.jpg", "damaged"), Fault(b"b\n.jpg", "empty"))


def checkpoint(images: int, faults: tuple[Fault, ...] = (), complete: bool = False) -> Checkpoint:
    counts = {"done": images, "unlabelled": 0, "seconds": 1.5}
    return Checkpoint(images, "0" * 64, {"x.csv": 10 * images}, {}, counts, faults, complete)


def written(file: Path, *states: Checkpoint) -> bytes:
    book = Journal(file, file.open("wb"), SETTINGS, None)
    for state in states:
        book.write(state)
    book.close()
    return file.read_bytes()


def test_last_state_is_read_with_all_the_faults(tmp_path: Path) -> None:
    file = tmp_path / "x.journal"
    written(file, checkpoint(1), checkpoint(5, FAULTS[:1]), checkpoint(9, FAULTS))
    assert journal.read(file) == (SETTINGS, checkpoint(9, FAULTS))


def test_journal_cut_at_any_byte_is_as_good_as_its_last_whole_line(tmp_path: Path) -> None:
    file = tmp_path / "x.journal"
    states = (checkpoint(1), checkpoint(5, FAULTS[:1]), checkpoint(9, FAULTS, complete=True))
    data = written(file, *states)
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for length in range(len(data) + 1):
        file.write_bytes(data[:length])
        whole = sum(end <= length for end in ends) - 1
        expected = (SETTINGS, states[whole - 1]) if whole > 0 else None
        assert journal.read(file) == expected


def test_journal_that_goes_on_drops_half_a_line(tmp_path: Path) -> None:
    file = tmp_path / "x.journal"
    data = written(file, checkpoint(1, FAULTS[:1]), checkpoint(5, FAULTS[:1]))
    file.write_bytes(data[:-7])
    found = journal.read(file)
    assert found is not None
    os.truncate(file, journal.length_of_lines(file))
    book = Journal(file, file.open("ab"), SETTINGS, found[1])
    book.write(checkpoint(9, FAULTS))
    book.close()
    assert journal.read(file) == (SETTINGS, checkpoint(9, FAULTS))


def test_no_journal_is_none(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "x.journal") is None


@pytest.mark.parametrize(
    "lines",
    [b"nonsense\n", b"[]\n", b"{}\n{}\n", b'{"format": 1, "settings": {}}\n{}\n', b"\xff\n"],
)
def test_damaged_journal_is_refused(tmp_path: Path, lines: bytes) -> None:
    file = tmp_path / "x.journal"
    file.write_bytes(lines)
    with pytest.raises(ResumeError, match="damaged"):
        journal.read(file)


def test_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.journal"
    file.write_text(json.dumps({"format": 99, "settings": {}}) + "\n{}\n")
    with pytest.raises(ResumeError, match="another version"):
        journal.read(file)


names = st.lists(st.binary(min_size=1, max_size=6), max_size=8)


def prefix_of(paths: list[bytes]) -> Prefix:
    prefix = Prefix()
    prefix.add(paths)
    return prefix


@given(names, names)
def test_only_equal_paths_have_an_equal_digest(a: list[bytes], b: list[bytes]) -> None:
    assert (prefix_of(a).digest() == prefix_of(b).digest()) == (a == b)


def at(paths: list[bytes]) -> Checkpoint:
    prefix = prefix_of(paths)
    return Checkpoint(prefix.images, prefix.digest(), {}, {}, {})


@given(names, names)
def test_what_was_done_is_skip_done(done: list[bytes], more: list[bytes]) -> None:
    refs = [ImageRef(i, path) for i, path in enumerate(done + more)]
    rest, prefix = journal.skip_done(refs, at(done))
    assert [ref.path for ref in rest] == more
    assert prefix.digest() == prefix_of(done).digest()


@pytest.mark.parametrize("now", [[], [b"a"], [b"a", b"c", b"d"], [b"b", b"a"]])
def test_other_inputs_are_refused(now: list[bytes]) -> None:
    refs = [ImageRef(i, path) for i, path in enumerate(now)]
    with pytest.raises(ResumeError, match="the first 2 inputs"):
        journal.skip_done(refs, at([b"a", b"b"]))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"command": "logits", "--top": 5}, "command classify, not logits"),
        ({"command": "classify", "--top": 3}, "--top 5, not 3"),
        ({"command": "classify"}, "--top 5, not null"),
        ({**SETTINGS, "--wide": True}, "--wide null, not True"),
    ],
)
def test_other_settings_are_refused_by_name(now: dict[str, Any], told: str) -> None:
    with pytest.raises(ResumeError) as caught:
        journal.check_settings("x.csv", SETTINGS, now)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("begun", "now", "difference"),
    [
        (("0", "bundled", 128), ("1", "hub", 128), "module bundled, not hub"),
        (("0", "bundled", 128), ("1", "hub", 224), "module bundled, not hub"),
        (("0", "bundled", 128), ("1", "bundled", 128), "another version of module bundled"),
        (("0", "bundled", 128), ("1", "bundled", 224), "--image-size 128, not 224"),
        (("0", None, 128), ("1", "hub", 128), "another module than hub"),
    ],
)
def test_modules_are_named_by_handle(begun: Any, now: Any, difference: str) -> None:
    with pytest.raises(ResumeError, match=f"^x.csv was begun with {difference}; "):
        journal.check_settings("x.csv", of_module(*begun), of_module(*now))


@pytest.mark.parametrize("handle", [None, "./tuned", "tuned"])
def test_fingerprint_decides_and_not_the_handle(handle: str | None) -> None:
    journal.check_settings("x.csv", of_module("0", handle, 128), of_module("0", "tuned", 128))


def of_module(fingerprint: str, handle: str | None, image_size: int) -> dict[str, Any]:
    """Settings of a run; earlier versions did not note the handle."""
    settings = {"module": fingerprint, "handle": handle, "--image-size": image_size}
    return {name: value for name, value in settings.items() if value is not None}


def test_same_settings_are_taken() -> None:
    journal.check_settings("x.csv", SETTINGS, dict(SETTINGS))
