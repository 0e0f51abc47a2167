"""Counts, faults, progress, and what they come to."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.runs.tally import Tally
from mnv1cli.types import Fault, Prediction, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

TENCH = Prediction(1, 1, "n01440764", "tench", 0.75)


def table(*errors: str, paths: Sequence[bytes] | None = None) -> Table:
    """Values of as many images, with these errors."""
    names = tuple(paths or (b"%d.jpg" % i for i in range(len(errors))))
    return Table(names, errors, values=np.zeros((len(errors), 1), np.float32))


def labelled(*errors: str | None) -> Table:
    """Labels of as many images; None is a good one without any."""
    paths = tuple(b"%d.jpg" % i for i in range(len(errors)))
    predictions = tuple((TENCH,) if error == "" else () for error in errors)
    return Table(paths, tuple(error or "" for error in errors), predictions=predictions)


@pytest.mark.parametrize(
    ("tables", "done", "failed", "unlabelled", "exit_code"),
    [
        ([], 0, 0, 0, 0),
        ([table()], 0, 0, 0, 0),
        ([table("", "")], 2, 0, 0, 0),
        ([table("", "bad"), table("")], 2, 1, 0, 3),
        ([table("bad", "worse")], 0, 2, 0, 3),
        ([labelled("", "", "")], 3, 0, 0, 0),
        ([labelled("", None, "")], 3, 0, 1, 0),
        ([labelled("", None, "bad"), labelled(None, "bad")], 3, 2, 2, 3),
        ([labelled("bad")], 0, 1, 0, 3),
        ([labelled()], 0, 0, 0, 0),
    ],
)
def test_counts_come_to_an_exit_code(
    tables: list[Table], done: int, failed: int, unlabelled: int, exit_code: int
) -> None:
    tally = Tally()
    for part in tables:
        tally.add(part)
    assert (tally.done, tally.failed, tally.unlabelled) == (done, failed, unlabelled)
    assert tally.exit_code == exit_code


def test_faults_are_those_of_the_table_and_add_up() -> None:
    tally = Tally()
    assert tally.add(table("", "")) == []
    first = tally.add(table("bad", "", "worse"))
    second = tally.add(table("gone", paths=[b"\xff"]))
    assert first == [Fault(b"0.jpg", "bad"), Fault(b"2.jpg", "worse")]
    assert second == [Fault(b"\xff", "gone")]
    assert tally.faults == first + second


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"a b.jpg", "a b.jpg"),
        ("ä.jpg".encode(), "ä.jpg"),
        (b"a\nb\r.jpg", r"a\nb\r.jpg"),
        (b"\xff.jpg", r"\xff.jpg"),
        (b"\x1b[31m.jpg", r"\x1b[31m.jpg"),
        (b"%s %d.jpg", "%s %d.jpg"),
        ("\u202e.jpg".encode(), r"\u202e.jpg"),
        ("\u2028.jpg".encode(), r"\u2028.jpg"),
    ],
)
def test_a_fault_is_one_line_that_no_terminal_obeys(
    caplog: pytest.LogCaptureFixture, path: bytes, shown: str
) -> None:
    with caplog.at_level(logging.ERROR, "mnv1cli"):
        Tally().add(table("", "damaged %s", paths=[b"good.jpg", path]))
    assert caplog.messages == [f"{shown}: damaged %s"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_every_fault_has_its_line_in_order(caplog: pytest.LogCaptureFixture) -> None:
    tally = Tally()
    with caplog.at_level(logging.ERROR, "mnv1cli"):
        tally.add(table("one", "", "two"))
        tally.add(table("", "three"))
    assert caplog.messages == ["0.jpg: one", "2.jpg: two", "1.jpg: three"]


class TestSummary:
    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        times = iter([100.0, *[102.0] * 10])
        monkeypatch.setattr("mnv1cli.runs.tally.time.monotonic", lambda: next(times))

    @pytest.mark.parametrize(
        ("tables", "text"),
        [
            ([], "0 images in 2.0 s (0/s)"),
            ([table("")], "1 image in 2.0 s (0/s)"),
            ([table(*[""] * 3000)], "3,000 images in 2.0 s (1500/s)"),
            ([table("", "", "", "", "bad")], "4 images in 2.0 s (2/s), 1 failed"),
            ([table(*["bad"] * 1234)], "0 images in 2.0 s (0/s), 1,234 failed"),
            ([labelled("", None)], "2 images in 2.0 s (1/s), 1 without a label"),
            (
                [labelled("", None, "bad", ""), labelled(None)],
                "4 images in 2.0 s (2/s), 1 failed, 2 without a label",
            ),
        ],
    )
    def test_tells_number_time_rate_and_what_is_missing(
        self, tables: list[Table], text: str
    ) -> None:
        tally = Tally()
        for part in tables:
            tally.add(part)
        assert tally.summary() == text


def test_summary_at_once_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnv1cli.runs.tally.time.monotonic", lambda: 1.0)
    assert Tally().summary() == "0 images in 0.0 s"


class TestProgress:
    def test_shows_images_and_failures_and_goes_away(self) -> None:
        stream = io.StringIO()
        tally = Tally(stream)
        tally.add(table("", "", "bad"))
        with tally.hidden():
            stream.write("something else\n")
        tally.close()
        shown = stream.getvalue()
        assert re.search(r"3 images.*failed=1", shown)
        # The last thing drawn is an empty line in the bar's place.
        assert shown.rpartition("\r")[0].rpartition("\r")[2].strip() == ""

    def test_is_not_in_the_way_of_what_is_printed_meanwhile(self) -> None:
        stream = io.StringIO()
        tally = Tally(stream)
        tally.add(table(""))
        with tally.hidden():
            before = stream.getvalue()
        tally.close()
        # The cursor stands at the beginning of a line that was wiped.
        assert before.endswith("\r")
        assert before.rstrip("\r").rpartition("\r")[2].strip() == ""

    def test_is_not_in_the_way_of_faults(self) -> None:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        log = logging.getLogger("mnv1cli.runs.tally")
        log.addHandler(handler)
        tally = Tally(stream)
        try:
            tally.add(table("bad", "", "worse"))
        finally:
            log.removeHandler(handler)
            tally.close()
        # Each line begins where a line does, and ends before the bar comes back.
        assert "\r0.jpg: bad\n2.jpg: worse\n" in stream.getvalue()

    def test_without_a_stream_there_is_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        tally = Tally()
        tally.add(table("", ""))
        with tally.hidden():
            pass
        tally.close()
        assert capsys.readouterr() == ("", "")


def test_terminal_without_a_width_has_a_bar() -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        tally = Tally(terminal)
        tally.add(Table((b"a.jpg",), ("",), values=np.zeros((1, 1), np.float32)))
        tally.close()
        shown = os.read(ours, 1000)
    os.close(ours)
    assert b"images" in shown
