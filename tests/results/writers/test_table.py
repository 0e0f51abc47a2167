"""The table for people, on terminals and elsewhere."""

from __future__ import annotations

import io
import re

import pytest

from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import FORMATS
from mnv1cli.types import Layout, Table
from tests.support.results import (
    SHARK,
    TENCH,
    make_labels,
)


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


class TestTable:
    LAYOUT = Layout((2,), labels=True)

    @pytest.fixture(autouse=True)
    def _plain_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "80")

    def print_tables(self, *tables: Table, stdout: io.BytesIO | None = None) -> str:
        stream = stdout or io.BytesIO()
        writer = FORMATS["table"].create(ResultFiles(None, stream), self.LAYOUT)
        for table in tables:
            writer.write(table)
        writer.close()
        assert not stream.closed
        return stream.getvalue().decode()

    def test_shows_each_image_once_with_its_ranks(self) -> None:
        lines = self.print_tables(make_labels(b"a.jpg", TENCH, SHARK)).splitlines()
        assert [line.split() for line in lines] == [
            ["image", "rank", "label", "probability"],
            ["a.jpg", "1", "tench", "75.0", "%"],
            ["2", "shark,", "great", "white", "10.0", "%"],
        ]

    def test_columns_keep_their_places_from_table_to_table(self) -> None:
        lines = self.print_tables(
            make_labels(b"a.jpg", TENCH), make_labels(b"much longer name.jpg", SHARK)
        ).splitlines()
        header, first, second = lines
        assert header.index("label") == first.index("tench") == second.index("shark")

    def test_has_one_header(self) -> None:
        assert self.print_tables(*[make_labels(b"a.jpg", TENCH)] * 3).count("probability") == 1

    def test_has_its_header_even_without_images(self) -> None:
        assert self.print_tables().split() == ["image", "rank", "label", "probability"]

    def test_shows_why_an_image_has_no_label(self) -> None:
        text = self.print_tables(
            make_labels(b"a.jpg", error="damaged"),
            make_labels(b"b.jpg"),
            make_labels(b"c.jpg", TENCH),
        )
        first, second, third = text.splitlines()[1:]
        assert first.split() == ["a.jpg", "damaged"]
        assert second.split() == ["b.jpg", "none", "this", "probable"]
        assert third.split()[:2] == ["c.jpg", "1"]

    @pytest.mark.parametrize(
        ("path", "shown"),
        [
            (b"\x1b[31mred\x07", r"\x1b[31mred\x07"),
            (b"a\nb\rc\td", r"a\nb\rc\td"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"[bold]a[/bold]", "[bold]a[/bold]"),
            (b":smile:", ":smile:"),
            ("\u202eevil".encode(), r"\u202eevil"),
            ("\u009b1m".encode(), r"\x9b1m"),
            ("ä€".encode(), "ä€"),
        ],
    )
    def test_path_is_shown_and_never_obeyed(self, path: bytes, shown: str) -> None:
        text = self.print_tables(make_labels(path, TENCH))
        assert text.splitlines()[1].startswith(f"{shown} ")
        assert text.count("\n") == 2

    @pytest.mark.parametrize("columns", [60, 80, 200])
    def test_long_path_is_folded_and_complete(
        self, monkeypatch: pytest.MonkeyPatch, columns: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        path = b"folder/" * 30 + b"x.jpg"
        header, *lines = self.print_tables(make_labels(path, TENCH)).splitlines()
        assert header.startswith("image")
        assert "".join(line.split()[0] for line in lines).encode() == path
        assert max(map(len, lines)) <= columns

    def test_has_no_escape_codes_where_there_is_no_terminal(self) -> None:
        text = self.print_tables(
            make_labels(b"a.jpg", TENCH, SHARK), make_labels(b"b.jpg", error="bad")
        )
        assert "\x1b" not in text

    def test_has_no_colours_with_no_color(self, monkeypatch: pytest.MonkeyPatch) -> None:
        colour = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
        bad = make_labels(b"b.jpg", error="bad")
        assert colour.search(self.print_tables(bad, stdout=Terminal()))
        monkeypatch.setenv("NO_COLOR", "1")
        assert not colour.search(self.print_tables(bad, stdout=Terminal()))
