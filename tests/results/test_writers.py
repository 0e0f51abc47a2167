"""Result formats to the byte, and the files they go to."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.errors import OptionError, OutputError
from mnv1cli.path_text import path_fields
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import FORMATS, choose_format
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.types import Layout, Prediction, Table, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

CLASSIFY, LOGITS, EMBED = Task("classify"), Task("logits"), Task("embed")
SPATIAL = Task("embed", endpoint="Conv2d_5_pointwise", pool=False)

NAN = float("nan")
TENCH = Prediction(1, 1, "n01440764", "tench", 0.75)
SHARK = Prediction(2, 3, "n01484850", "shark, great white", 0.1)

# Any name that a file may have.
PATHS = st.binary(min_size=1, max_size=40).filter(lambda path: 0 not in path)
ODD_TEXT = st.text(st.sampled_from("a,\"'\t\n\r;\\ ü\x0b\x1b\u2028"), max_size=8)
FLOATS32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def written(name: str, layout: Layout, *tables: Table) -> bytes:
    """What a format's writer makes of tables on stdout."""
    stdout = io.BytesIO()
    writer = FORMATS[name].create(ResultFiles(None, stdout), layout)
    for table in tables:
        writer.write(table)
    writer.close()
    return stdout.getvalue()


def vectors(rows: Any, errors: Sequence[str] | None = None) -> Table:
    values = np.array(rows, np.float32)
    paths = tuple(b"%d.jpg" % i for i in range(len(values)))
    return Table(paths, tuple(errors or [""] * len(values)), values=values)


def labelled(path: bytes, *predictions: Prediction, error: str = "") -> Table:
    return Table((path,), (error,), predictions=(predictions,))


def parsed(content: bytes, delimiter: str = ",") -> list[list[str]]:
    text = content.decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class TestChoice:
    @pytest.mark.parametrize(
        ("name", "file", "task", "terminal", "chosen"),
        [
            (None, None, CLASSIFY, True, "table"),
            (None, None, CLASSIFY, False, "csv"),
            (None, None, LOGITS, True, "csv"),
            (None, None, EMBED, False, "csv"),
            (None, "x.csv", CLASSIFY, True, "csv"),
            (None, "x.CSV", LOGITS, False, "csv"),
            (None, "x.tsv", CLASSIFY, False, "tsv"),
            (None, "x.jsonl", CLASSIFY, False, "jsonl"),
            (None, "x.ndjson", EMBED, False, "jsonl"),
            (None, "x.tar.npy", EMBED, False, "npy"),
            (None, "x.npy", SPATIAL, False, "npy"),
            ("jsonl", None, CLASSIFY, True, "jsonl"),
            ("tsv", "x.csv", LOGITS, False, "tsv"),
            ("table", "x.txt", CLASSIFY, False, "table"),
            ("npy", "x", LOGITS, False, "npy"),
        ],
    )
    def test_follows_name_then_suffix_then_stdout(
        self, name: str | None, file: str | None, task: Task, terminal: bool, chosen: str
    ) -> None:
        path = Path(file) if file else None
        assert choose_format(name, path, task, terminal).name == chosen

    @pytest.mark.parametrize(
        ("name", "file", "task", "reason"),
        [
            (None, "x.xls", CLASSIFY, "x.xls tells no format.*csv.*jsonl.*-f"),
            (None, "x", EMBED, "tells no format"),
            (None, ".csv", EMBED, "tells no format"),
            ("npy", "x.npy", CLASSIFY, "holds numbers, and classify gives labels.*csv"),
            (None, "x.npy", CLASSIFY, "holds numbers"),
            ("npy", None, CLASSIFY, "holds numbers"),
            ("table", None, LOGITS, "for labels.*csv"),
            ("table", None, EMBED, "for labels"),
            ("npy", None, LOGITS, "needs a file.*-o"),
            ("npy", None, SPATIAL, "needs a file"),
            (None, None, SPATIAL, "--no-pool.*npy"),
            ("csv", "x.npy", SPATIAL, "--no-pool"),
            (None, "x.jsonl", SPATIAL, "--no-pool"),
        ],
    )
    def test_refuses_what_does_not_fit(
        self, name: str | None, file: str | None, task: Task, reason: str
    ) -> None:
        with pytest.raises(OptionError, match=reason) as caught:
            choose_format(name, Path(file) if file else None, task, True)
        assert caught.value.exit_code == 2


class TestDelimited:
    LABELS = (
        labelled(b"a.jpg", TENCH, SHARK),
        Table((b"b.jpg", b"c.jpg"), ("", "damaged, badly"), predictions=((TENCH,), ())),
    )

    @pytest.mark.parametrize(
        ("layout", "content"),
        [
            (
                Layout((2,), labels=True),
                b"path,rank,class_id,wnid,label,probability\n"
                b"a.jpg,1,1,n01440764,tench,0.75\n"
                b'a.jpg,2,3,n01484850,"shark, great white",0.1\n',
            ),
            (
                Layout((2,), labels=True, wide=True),
                b"path,label_1,probability_1,label_2,probability_2\n"
                b'a.jpg,tench,0.75,"shark, great white",0.1\n',
            ),
        ],
    )
    def test_labels_are_a_row_each_or_all_in_one(self, layout: Layout, content: bytes) -> None:
        assert written("csv", layout, self.LABELS[0]) == content

    @pytest.mark.parametrize(
        ("layout", "content"),
        [
            (
                Layout((2,), labels=True, errors=True),
                b"path,rank,class_id,wnid,label,probability,error\n"
                b"a.jpg,1,1,n01440764,tench,0.75,\n"
                b'a.jpg,2,3,n01484850,"shark, great white",0.1,\n'
                b"b.jpg,1,1,n01440764,tench,0.75,\n"
                b'c.jpg,,,,,,"damaged, badly"\n',
            ),
            (
                Layout((2,), labels=True, errors=True, wide=True),
                b"path,label_1,probability_1,label_2,probability_2,error\n"
                b'a.jpg,tench,0.75,"shark, great white",0.1,\n'
                b"b.jpg,tench,0.75,,,\n"
                b'c.jpg,,,,,"damaged, badly"\n',
            ),
        ],
    )
    def test_bad_images_keep_a_row_with_the_reason_last(
        self, layout: Layout, content: bytes
    ) -> None:
        assert written("csv", layout, *self.LABELS) == content

    def test_image_without_a_label_has_no_row_and_a_blank_one_in_wide(self) -> None:
        assert written("csv", Layout((1,), labels=True), labelled(b"a.jpg")).count(b"\n") == 1
        wide = written("csv", Layout((1,), labels=True, wide=True), labelled(b"a.jpg"))
        assert wide.endswith(b"\na.jpg,,\n")

    def test_values_are_a_column_each(self) -> None:
        table = vectors([[0, 1.5, -2], [0.1, 1e10, 1e-10], [NAN, math.inf, -math.inf]])
        assert written("csv", Layout((3,)), table) == (
            b"path,0,1,2\n"
            b"0.jpg,0,1.5,-2\n"
            b"1.jpg,0.100000001,1e+10,1.00000001e-10\n"
            b"2.jpg,nan,inf,-inf\n"
        )

    def test_values_of_bad_images_are_blank(self) -> None:
        table = vectors([[1, 2], [NAN, NAN]], ["", "no such file"])
        assert written("csv", Layout((2,), errors=True), table) == (
            b"path,0,1,error\n0.jpg,1,2,\n1.jpg,,,no such file\n"
        )

    @pytest.mark.parametrize("layout", [Layout((2,)), Layout((2,), labels=True)])
    def test_no_images_give_the_header_alone(self, layout: Layout) -> None:
        empty = Table((), (), values=np.empty((0, 2), np.float32))
        assert written("csv", layout).count(b"\n") == 1
        assert written("csv", layout) == written("csv", layout, empty)

    def test_tables_follow_one_another_under_one_header(self) -> None:
        once = written("csv", Layout((1,)), vectors([[1]]), vectors([[2]]))
        assert once == b"path,0\n0.jpg,1\n0.jpg,2\n"

    def test_tsv_differs_in_the_delimiter(self) -> None:
        layout = Layout((2,), labels=True, errors=True)
        assert written("tsv", layout, *self.LABELS) == (
            b"path\trank\tclass_id\twnid\tlabel\tprobability\terror\n"
            b"a.jpg\t1\t1\tn01440764\ttench\t0.75\t\n"
            b"a.jpg\t2\t3\tn01484850\tshark, great white\t0.1\t\n"
            b"b.jpg\t1\t1\tn01440764\ttench\t0.75\t\n"
            b"c.jpg\t\t\t\t\t\tdamaged, badly\n"
        )

    @pytest.mark.parametrize(
        ("path", "in_csv", "in_tsv"),
        [
            (b"a b", b"a b", b"a b"),
            (b"a,b", b'"a,b"', b"a,b"),
            (b"a\tb", b"a\tb", b'"a\tb"'),
            (b'a"b', b'"a""b"', b'"a""b"'),
            (b"a\nb", b'"a\nb"', b'"a\nb"'),
            (b"a\rb", b'"a\rb"', b'"a\rb"'),
            (b"a\r\nb", b'"a\r\nb"', b'"a\r\nb"'),
            (b"a\xffb", b"a\xffb", b"a\xffb"),
            (b"\xc3\xa4", b"\xc3\xa4", b"\xc3\xa4"),
            (b"'a'", b"'a'", b"'a'"),
            (b"\xed\xb2\x80", b"\xed\xb2\x80", b"\xed\xb2\x80"),
        ],
    )
    def test_paths_are_raw_bytes_quoted_where_they_must(
        self, path: bytes, in_csv: bytes, in_tsv: bytes
    ) -> None:
        table = Table((path,), ("",), values=np.ones((1, 1), np.float32))
        assert written("csv", Layout((1,)), table) == b"path,0\n" + in_csv + b",1\n"
        assert written("tsv", Layout((1,)), table) == b"path\t0\n" + in_tsv + b"\t1\n"

    @given(paths=st.lists(PATHS, max_size=5), label=ODD_TEXT, error=ODD_TEXT)
    @pytest.mark.parametrize(("name", "delimiter"), [("csv", ","), ("tsv", "\t")])
    def test_any_names_come_back_through_a_csv_reader(
        self, name: str, delimiter: str, paths: list[bytes], label: str, error: str
    ) -> None:
        found = Prediction(1, 7, "n01440764", label, 0.5)
        predictions = tuple(() if error else (found,) for _ in paths)
        table = Table(tuple(paths), (error,) * len(paths), predictions=predictions)
        header, *rows = parsed(written(name, Layout((1,), True, True), table), delimiter)
        assert header[0] == "path"
        assert [raw(row[0]) for row in rows] == paths
        assert {row[4] for row in rows} <= {"" if error else label}
        assert {row[6] for row in rows} <= {error}

    @given(paths=st.lists(PATHS, max_size=5))
    def test_any_names_come_back_from_files_of_faults(self, paths: list[bytes]) -> None:
        rows = [(path.decode("utf-8", "surrogateescape"), "reason") for path in paths]
        assert [(raw(path), reason) for path, reason in parsed(encode_rows(rows))] == [
            (path, "reason") for path in paths
        ]

    @given(values=st.lists(FLOATS32, min_size=1, max_size=20))
    @pytest.mark.parametrize("name", ["csv", "jsonl"])
    def test_numbers_come_back_to_the_bit(self, name: str, values: list[float]) -> None:
        content = written(name, Layout((len(values),)), vectors([values]))
        if name == "csv":
            back = np.array(parsed(content)[1][1:], np.float64)
        else:
            back = np.array(json.loads(content)["values"], np.float64)
        np.testing.assert_array_equal(
            back.astype(np.float32).view(np.uint32), np.array(values, np.float32).view(np.uint32)
        )


class TestJsonLines:
    def lines(self, layout: Layout, *tables: Table) -> list[Any]:
        content = written("jsonl", layout, *tables)
        assert content.endswith(b"\n") or not content
        return [json.loads(line) for line in content.split(b"\n")[:-1]]

    def test_labels_are_an_object_an_image(self) -> None:
        assert self.lines(Layout((2,), labels=True), labelled(b"a.jpg", TENCH, SHARK)) == [
            {
                "path": "a.jpg",
                "predictions": [
                    {
                        "rank": 1,
                        "class_id": 1,
                        "wnid": "n01440764",
                        "label": "tench",
                        "probability": 0.75,
                    },
                    {
                        "rank": 2,
                        "class_id": 3,
                        "wnid": "n01484850",
                        "label": "shark, great white",
                        "probability": 0.1,
                    },
                ],
            }
        ]

    def test_values_have_no_more_digits_than_float32(self) -> None:
        content = written("jsonl", Layout((2,)), vectors([[0.1, -3]]))
        assert content == b'{"path": "0.jpg", "values": [0.100000001, -3.0]}\n'

    def test_numbers_that_json_lacks_are_null(self) -> None:
        content = written("jsonl", Layout((4,)), vectors([[NAN, math.inf, -math.inf, 1]]))
        assert content == b'{"path": "0.jpg", "values": [null, null, null, 1.0]}\n'
        broken = labelled(b"a.jpg", TENCH._replace(probability=NAN))
        (line,) = self.lines(Layout((1,), labels=True), broken)
        assert line["predictions"][0]["probability"] is None

    @pytest.mark.parametrize("labels", [True, False])
    def test_errors_have_a_key_only_where_they_keep_their_row(self, labels: bool) -> None:
        table = Table(
            (b"a.jpg", b"b.jpg"),
            ("", "damaged"),
            values=np.array([[1], [NAN]], np.float32),
            predictions=((TENCH,), ()),
        )
        key = "predictions" if labels else "values"
        good, bad = self.lines(Layout((1,), labels, errors=True), table)
        assert (good["error"], bad["error"], bad[key]) == (None, "damaged", None)
        assert good[key] is not None
        without = self.lines(Layout((1,), labels), table)
        assert all("error" not in line for line in without)

    def test_image_without_a_label_has_an_empty_list(self) -> None:
        (line,) = self.lines(Layout((1,), labels=True, errors=True), labelled(b"a.jpg"))
        assert line == {"path": "a.jpg", "predictions": [], "error": None}

    def test_no_images_give_nothing(self) -> None:
        assert written("jsonl", Layout((2,), labels=True)) == b""

    @pytest.mark.parametrize(
        ("path", "fields"),
        [
            (b"a b.jpg", {"path": "a b.jpg"}),
            ("ä€.jpg".encode(), {"path": "ä€.jpg"}),
            (b'a\nb"\t\x01', {"path": 'a\nb"\t\x01'}),
            ("\ufffd".encode(), {"path": "\ufffd"}),
            (b"a\xffb", {"path": "a\ufffdb", "path_bytes": "Yf9i"}),
            (b"\xc3", {"path": "\ufffd", "path_bytes": "ww=="}),
        ],
    )
    def test_path_has_bytes_only_where_text_lost_something(
        self, path: bytes, fields: dict[str, str]
    ) -> None:
        assert path_fields(path) == fields
        assert self.lines(Layout((1,), labels=True), labelled(path)) == [
            {**fields, "predictions": []}
        ]

    @given(paths=st.lists(PATHS, max_size=5))
    def test_any_names_come_back_one_line_each(self, paths: list[bytes]) -> None:
        table = Table(tuple(paths), ("",) * len(paths), predictions=((),) * len(paths))
        lines = self.lines(Layout((1,), labels=True), table)
        back = [
            base64.b64decode(line["path_bytes"], validate=True)
            if "path_bytes" in line
            else line["path"].encode()
            for line in lines
        ]
        assert back == paths

    def test_text_is_utf8_without_escapes(self) -> None:
        assert "ä.jpg".encode() in written("jsonl", Layout((1,), True), labelled("ä.jpg".encode()))


class TestNpy:
    def write(self, file: Path, layout: Layout, *tables: Table) -> Any:
        outputs = ResultFiles(file, io.BytesIO(), FORMATS["npy"].sidecars)
        writer = FORMATS["npy"].create(outputs, layout)
        for table in tables:
            writer.write(table)
        writer.close()
        outputs.commit()
        return np.load(file, allow_pickle=False)

    @pytest.mark.parametrize("shape", [(3,), (1,), (2, 4, 3)])
    @pytest.mark.parametrize("counts", [[], [0], [1], [3, 0, 5], [1] * 20])
    def test_holds_the_rows_of_all_tables(
        self, tmp_path: Path, shape: tuple[int, ...], counts: list[int]
    ) -> None:
        random = np.random.default_rng(0)
        values = [random.standard_normal((n, *shape), np.float32) for n in counts]
        found = self.write(tmp_path / "x.npy", Layout(shape), *map(vectors, values))
        expected = np.concatenate([np.empty((0, *shape), np.float32), *values])
        assert (found.dtype, found.shape) == (np.dtype("<f4"), (sum(counts), *shape))
        np.testing.assert_array_equal(found, expected)

    def test_is_what_numpy_saves(self, tmp_path: Path) -> None:
        values = np.arange(12, dtype=np.float32).reshape(4, 3)
        self.write(tmp_path / "x.npy", Layout((3,)), vectors(values[:1]), vectors(values[1:]))
        np.save(tmp_path / "y.npy", values)
        assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()

    def test_takes_arrays_in_any_layout_of_memory(self, tmp_path: Path) -> None:
        values = np.arange(24, dtype=np.float32).reshape(4, 6)
        tables = [
            Table((b"a",) * 4, ("",) * 4, values=array)
            for array in (np.asfortranarray(values), values[::-1], values.astype(">f4"))
        ]
        found = self.write(tmp_path / "x.npy", Layout((6,)), *tables)
        np.testing.assert_array_equal(found, np.concatenate([values, values[::-1], values]))

    def test_index_counts_the_rows_of_all_tables(self, tmp_path: Path) -> None:
        first = Table((b"a,b", b"\xff"), ("", ""), values=np.zeros((2, 1), np.float32))
        self.write(tmp_path / "x.npy", Layout((1,)), first, vectors([[1]]))
        index = (tmp_path / "x.index.csv").read_bytes()
        assert index == b'row,path\n0,"a,b"\n1,\xff\n2,0.jpg\n'

    def test_index_of_no_rows_is_its_header(self, tmp_path: Path) -> None:
        self.write(tmp_path / "x.npy", Layout((1,)))
        assert (tmp_path / "x.index.csv").read_bytes() == b"row,path\n"

    def test_bad_images_are_rows_of_nan_with_the_reason_in_the_index(self, tmp_path: Path) -> None:
        table = vectors([[1, 2], [NAN, NAN], [3, 4]], ["", "damaged, badly", ""])
        found = self.write(tmp_path / "x.npy", Layout((2,), errors=True), table)
        np.testing.assert_array_equal(found, [[1, 2], [NAN, NAN], [3, 4]])
        assert (tmp_path / "x.index.csv").read_bytes() == (
            b'row,path,error\n0,0.jpg,\n1,1.jpg,"damaged, badly"\n2,2.jpg,\n'
        )

    def test_memory_does_not_grow_with_the_rows(self, tmp_path: Path) -> None:
        outputs = ResultFiles(tmp_path / "x.npy", io.BytesIO(), FORMATS["npy"].sidecars)
        writer = FORMATS["npy"].create(outputs, Layout((1024,)))
        writer.write(vectors(np.zeros((256, 1024), np.float32)))
        # What went to the writer is in the file, but for a buffer's length.
        assert (tmp_path / "x.npy.part").stat().st_size >= 256 * 1024 * 4 - (1 << 16)
        outputs.abandon(keep=False)

    def test_stopped_before_the_end_is_readable_once_closed(self, tmp_path: Path) -> None:
        outputs = ResultFiles(tmp_path / "x.npy", io.BytesIO(), FORMATS["npy"].sidecars)
        writer = FORMATS["npy"].create(outputs, Layout((2,)))
        writer.write(vectors([[1, 2], [3, 4]]))
        writer.close()
        outputs.abandon(keep=True)
        with (tmp_path / "x.npy.part").open("rb") as file:
            np.testing.assert_array_equal(np.load(file), [[1, 2], [3, 4]])
        assert (tmp_path / "x.index.csv.part").read_bytes().count(b"\n") == 3


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

    def printed(self, *tables: Table, stdout: io.BytesIO | None = None) -> str:
        stream = stdout or io.BytesIO()
        writer = FORMATS["table"].create(ResultFiles(None, stream), self.LAYOUT)
        for table in tables:
            writer.write(table)
        writer.close()
        assert not stream.closed
        return stream.getvalue().decode()

    def test_shows_each_image_once_with_its_ranks(self) -> None:
        lines = self.printed(labelled(b"a.jpg", TENCH, SHARK)).splitlines()
        assert [line.split() for line in lines] == [
            ["image", "rank", "label", "probability"],
            ["a.jpg", "1", "tench", "75.0", "%"],
            ["2", "shark,", "great", "white", "10.0", "%"],
        ]

    def test_columns_keep_their_places_from_table_to_table(self) -> None:
        lines = self.printed(
            labelled(b"a.jpg", TENCH), labelled(b"much longer name.jpg", SHARK)
        ).splitlines()
        header, first, second = lines
        assert header.index("label") == first.index("tench") == second.index("shark")

    def test_has_one_header(self) -> None:
        assert self.printed(*[labelled(b"a.jpg", TENCH)] * 3).count("probability") == 1

    def test_has_its_header_even_without_images(self) -> None:
        assert self.printed().split() == ["image", "rank", "label", "probability"]

    def test_shows_why_an_image_has_no_label(self) -> None:
        text = self.printed(
            labelled(b"a.jpg", error="damaged"), labelled(b"b.jpg"), labelled(b"c.jpg", TENCH)
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
        text = self.printed(labelled(path, TENCH))
        assert text.splitlines()[1].startswith(f"{shown} ")
        assert text.count("\n") == 2

    @pytest.mark.parametrize("columns", [60, 80, 200])
    def test_long_path_is_folded_and_complete(
        self, monkeypatch: pytest.MonkeyPatch, columns: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        path = b"folder/" * 30 + b"x.jpg"
        header, *lines = self.printed(labelled(path, TENCH)).splitlines()
        assert header.startswith("image")
        assert "".join(line.split()[0] for line in lines).encode() == path
        assert max(map(len, lines)) <= columns

    def test_has_no_escape_codes_where_there_is_no_terminal(self) -> None:
        text = self.printed(labelled(b"a.jpg", TENCH, SHARK), labelled(b"b.jpg", error="bad"))
        assert "\x1b" not in text

    def test_has_no_colours_if_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        colour = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
        bad = labelled(b"b.jpg", error="bad")
        assert colour.search(self.printed(bad, stdout=Terminal()))
        monkeypatch.setenv("NO_COLOR", "1")
        assert not colour.search(self.printed(bad, stdout=Terminal()))


class TestOutputs:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def fill(self, outputs: ResultFiles, *others: Path) -> None:
        """Write something into every file there may be."""
        outputs.open_main().write(b"main")
        for path in (*outputs.sidecars, *others):
            outputs.open(path).write(b"beside")
        if outputs.meta is not None:
            outputs.write_json(outputs.meta, {"key": "ä\udcff"})

    def names(self) -> set[str]:
        return set(os.listdir())

    def test_have_their_names_when_they_are_complete(self) -> None:
        outputs = ResultFiles(Path("x.npy"), io.BytesIO(), [".index.csv"], [Path("bad.csv")])
        self.fill(outputs, Path("bad.csv"))
        complete = {"x.npy", "x.index.csv", "x.npy.meta.json", "bad.csv"}
        assert self.names() == {f"{name}.part" for name in complete}
        outputs.commit()
        assert self.names() == complete
        assert Path("x.npy").read_bytes() == b"main"
        assert Path("x.index.csv").read_bytes() == b"beside"
        assert json.loads(Path("x.npy.meta.json").read_bytes()) == {"key": "ä?"}

    def test_main_one_gets_its_name_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        renamed = []
        replace = os.replace

        def record(source: Path, target: Path) -> None:
            renamed.append(target.name)
            replace(source, target)

        monkeypatch.setattr(os, "replace", record)
        outputs = ResultFiles(Path("x.npy"), io.BytesIO(), [".index.csv"], [Path("bad.csv")])
        self.fill(outputs, Path("bad.csv"))
        outputs.commit()
        assert len(renamed) == 4
        assert renamed[-1] == "x.npy"

    def test_main_one_is_not_there_if_another_could_not_be_renamed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replace = os.replace

        def fail(source: Path, target: Path) -> None:
            if target.name.endswith(".meta.json"):
                raise OSError(28, "No space left on device")
            replace(source, target)

        monkeypatch.setattr(os, "replace", fail)
        outputs = ResultFiles(Path("x.csv"), io.BytesIO())
        self.fill(outputs)
        with pytest.raises(OutputError, match=r"cannot write x\.csv\.meta\.json: No space left"):
            outputs.commit()
        outputs.abandon(keep=True)
        assert "x.csv" not in self.names()
        assert Path("x.csv.part").read_bytes() == b"main"

    def test_stdout_is_written_directly_and_left_open(self) -> None:
        stdout = io.BytesIO()
        outputs = ResultFiles(None, stdout, other_files=[Path("bad.csv"), None])
        self.fill(outputs, Path("bad.csv"))
        outputs.commit()
        assert stdout.getvalue() == b"main"
        assert self.names() == {"bad.csv"}
        assert (outputs.name, outputs.meta, outputs.sidecars) == ("stdout", None, ())

    def test_what_is_not_begun_is_not_there(self) -> None:
        outputs = ResultFiles(Path("x.csv"), io.BytesIO(), other_files=[Path("bad.csv")])
        assert self.names() == set()
        outputs.commit()
        assert self.names() == set()

    def test_abandoned_ones_keep_the_name_of_a_part_or_go(self) -> None:
        for keep, left in ((True, {"x.csv.part", "x.csv.meta.json.part"}), (False, set())):
            outputs = ResultFiles(Path("x.csv"), io.BytesIO(), force=True)
            self.fill(outputs)
            outputs.abandon(keep)
            assert self.names() == left

    def test_abandoned_parts_hold_what_was_written(self) -> None:
        outputs = ResultFiles(Path("x.csv"), io.BytesIO())
        self.fill(outputs)
        outputs.abandon(keep=True)
        assert Path("x.csv.part").read_bytes() == b"main"

    def test_abandoning_leaves_the_file_that_was_to_be_replaced(self) -> None:
        Path("x.csv").write_bytes(b"old")
        outputs = ResultFiles(Path("x.csv"), io.BytesIO(), force=True)
        self.fill(outputs)
        outputs.abandon(keep=False)
        assert Path("x.csv").read_bytes() == b"old"
        assert self.names() == {"x.csv"}

    @pytest.mark.parametrize("part", ["", ".part"])
    @pytest.mark.parametrize(
        "name", ["x.npy", "x.index.csv", "x.npy.meta.json", "bad.csv", "run.json"]
    )
    @pytest.mark.parametrize("broken_link", [False, True])
    def test_that_exist_are_replaced_only_by_force(
        self, name: str, part: str, broken_link: bool
    ) -> None:
        taken = Path(name + part)
        if broken_link:
            taken.symlink_to("nowhere")
        else:
            taken.write_bytes(b"precious")
        others = [Path("bad.csv"), Path("run.json")]
        with pytest.raises(OutputError, match=f"^{re.escape(str(taken))} .*--force"):
            ResultFiles(Path("x.npy"), io.BytesIO(), [".index.csv"], others)
        assert broken_link or taken.read_bytes() == b"precious"
        outputs = ResultFiles(Path("x.npy"), io.BytesIO(), [".index.csv"], others, force=True)
        self.fill(outputs, *others)
        outputs.commit()
        assert Path("x.npy").read_bytes() == b"main"
        assert not any(found.endswith(".part") for found in self.names())

    def test_do_not_empty_what_another_run_has_just_finished(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other run commits after its .part was opened and before it was locked."""
        theirs = ResultFiles(Path("x.csv"), io.BytesIO())
        theirs.open_main().write(b"theirs")
        ours = ResultFiles(Path("y.csv"), io.BytesIO())
        opened = os.open

        def open_too_early(path: Path, flags: int, mode: int) -> int:
            descriptor = opened(Path("x.csv.part"), flags, mode)
            theirs.commit()
            return descriptor

        monkeypatch.setattr(os, "open", open_too_early)
        with pytest.raises(OutputError, match="another run"):
            ours.open_main()
        assert Path("x.csv").read_bytes() == b"theirs"

    @pytest.mark.parametrize("force", [True, False])
    @pytest.mark.parametrize("name", ["gone/x.csv", "a file/x.csv"])
    def test_need_a_folder(self, name: str, force: bool) -> None:
        Path("a file").touch()
        with pytest.raises(OutputError, match=f"cannot write {name}: there is no folder"):
            ResultFiles(Path(name), io.BytesIO(), force=force)
        with pytest.raises(OutputError, match="there is no folder"):
            ResultFiles(None, io.BytesIO(), other_files=[Path(name)], force=force)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_need_a_folder_that_may_be_written(self) -> None:
        Path("closed").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="read-only"):
            ResultFiles(Path("closed/x.csv"), io.BytesIO())

    @pytest.mark.parametrize("force", [True, False])
    @pytest.mark.parametrize("name", ["folder", "folder/", "..", ".", "/"])
    def test_cannot_be_a_folder(self, name: str, force: bool) -> None:
        Path("folder").mkdir()
        with pytest.raises(OutputError, match="is a folder"):
            ResultFiles(Path(name), io.BytesIO(), force=force)
        with pytest.raises(OutputError, match="is a folder"):
            ResultFiles(None, io.BytesIO(), other_files=[Path(name)], force=force)

    @pytest.mark.parametrize(
        ("main", "others"),
        [
            ("x.csv", ["x.csv"]),
            ("x.csv", ["./x.csv"]),
            ("x.csv", ["folder/../x.csv"]),
            ("x.csv", ["x.csv.meta.json"]),
            ("x.npy", ["x.index.csv"]),
            (None, ["bad.csv", "bad.csv"]),
            ("x.csv", ["bad.csv", "bad.csv"]),
            ("folder/x.csv", ["link/x.csv"]),
        ],
    )
    @pytest.mark.parametrize("force", [True, False])
    def test_are_different_ones(self, main: str | None, others: list[str], force: bool) -> None:
        Path("folder").mkdir()
        Path("link").symlink_to("folder")
        sidecars = [".index.csv"] if main == "x.npy" else []
        with pytest.raises(OptionError, match="the same"):
            ResultFiles(
                Path(main) if main else None,
                io.BytesIO(),
                sidecars,
                [Path(name) for name in others],
                force,
            )

    def test_do_not_mix_where_one_is_named_like_the_part_of_another(self) -> None:
        try:
            outputs = ResultFiles(Path("x.csv"), io.BytesIO(), other_files=[Path("x.csv.part")])
        except OptionError:
            return
        self.fill(outputs, Path("x.csv.part"))
        outputs.commit()
        assert Path("x.csv").read_bytes() == b"main"
        assert Path("x.csv.part").read_bytes() == b"beside"

    def test_that_cannot_be_begun_are_told_by_name(self) -> None:
        outputs = ResultFiles(Path("x.csv"), io.BytesIO())
        Path("x.csv.part").mkdir()
        with pytest.raises(OutputError, match=r"cannot write x\.csv: "):
            outputs.open_main()

    def test_names_may_be_other_than_text(self) -> None:
        name = Path(os.fsdecode(b"\xff.csv"))
        outputs = ResultFiles(name, io.BytesIO())
        self.fill(outputs)
        outputs.commit()
        assert os.fsencode(name) in os.listdir(b".")

    def test_flush_reaches_stdout(self) -> None:
        flushed = []

        class Stdout(io.BytesIO):
            def flush(self) -> None:
                flushed.append(self.getvalue())

        outputs = ResultFiles(None, Stdout())
        outputs.open_main().write(b"row")
        outputs.flush()
        assert flushed == [b"row"]


def test_what_lies_beside_stdout_goes_where_the_run_is_stopped(tmp_path: Path) -> None:
    beside = tmp_path / "errors.csv"
    outputs = ResultFiles(None, io.BytesIO(), other_files=[beside])
    outputs.open(beside).write(b"path,reason\n")
    outputs.abandon(keep=True)
    assert os.listdir(tmp_path) == []
