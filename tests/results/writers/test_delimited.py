"""CSV and TSV to the byte."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.results.readers.common import encode_path
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.types import Layout, Prediction, Table
from tests.support.results import (
    FLOATS32,
    NAN,
    ODD_TEXT,
    PATHS,
    SHARK,
    TENCH,
    encode,
    make_labels,
    make_vectors,
    parse_delimited,
)


class TestDelimited:
    LABELS = (
        make_labels(b"a.jpg", TENCH, SHARK),
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
        assert encode("csv", layout, self.LABELS[0]) == content

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
        assert encode("csv", layout, *self.LABELS) == content

    def test_image_without_a_label_has_no_row_and_a_blank_one_in_wide(self) -> None:
        assert encode("csv", Layout((1,), labels=True), make_labels(b"a.jpg")).count(b"\n") == 1
        wide = encode("csv", Layout((1,), labels=True, wide=True), make_labels(b"a.jpg"))
        assert wide.endswith(b"\na.jpg,,\n")

    def test_values_are_a_column_each(self) -> None:
        table = make_vectors([[0, 1.5, -2], [0.1, 1e10, 1e-10], [NAN, math.inf, -math.inf]])
        assert encode("csv", Layout((3,)), table) == (
            b"path,0,1,2\n"
            b"0.jpg,0,1.5,-2\n"
            b"1.jpg,0.100000001,1e+10,1.00000001e-10\n"
            b"2.jpg,nan,inf,-inf\n"
        )

    def test_values_of_bad_images_are_blank(self) -> None:
        table = make_vectors([[1, 2], [NAN, NAN]], ["", "no such file"])
        assert encode("csv", Layout((2,), errors=True), table) == (
            b"path,0,1,error\n0.jpg,1,2,\n1.jpg,,,no such file\n"
        )

    @pytest.mark.parametrize("layout", [Layout((2,)), Layout((2,), labels=True)])
    def test_no_images_give_only_the_header(self, layout: Layout) -> None:
        empty = Table((), (), values=np.empty((0, 2), np.float32))
        assert encode("csv", layout).count(b"\n") == 1
        assert encode("csv", layout) == encode("csv", layout, empty)

    def test_tables_follow_one_another_under_one_header(self) -> None:
        once = encode("csv", Layout((1,)), make_vectors([[1]]), make_vectors([[2]]))
        assert once == b"path,0\n0.jpg,1\n0.jpg,2\n"

    def test_tsv_differs_in_the_delimiter(self) -> None:
        layout = Layout((2,), labels=True, errors=True)
        assert encode("tsv", layout, *self.LABELS) == (
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
        assert encode("csv", Layout((1,)), table) == b"path,0\n" + in_csv + b",1\n"
        assert encode("tsv", Layout((1,)), table) == b"path\t0\n" + in_tsv + b"\t1\n"

    @given(paths=st.lists(PATHS, max_size=5), label=ODD_TEXT, error=ODD_TEXT)
    @pytest.mark.parametrize(("name", "delimiter"), [("csv", ","), ("tsv", "\t")])
    def test_any_names_come_back_through_a_csv_reader(
        self, name: str, delimiter: str, paths: list[bytes], label: str, error: str
    ) -> None:
        best = Prediction(1, 7, "n01440764", label, 0.5)
        predictions = tuple(() if error else (best,) for _ in paths)
        table = Table(tuple(paths), (error,) * len(paths), predictions=predictions)
        header, *rows = parse_delimited(encode(name, Layout((1,), True, True), table), delimiter)
        assert header[0] == "path"
        assert [encode_path(row[0]) for row in rows] == paths
        assert {row[4] for row in rows} <= {"" if error else label}
        assert {row[6] for row in rows} <= {error}

    @given(paths=st.lists(PATHS, max_size=5))
    def test_any_names_come_back_from_files_of_faults(self, paths: list[bytes]) -> None:
        rows = [(path.decode("utf-8", "surrogateescape"), "reason") for path in paths]
        assert [
            (encode_path(path), reason) for path, reason in parse_delimited(encode_rows(rows))
        ] == [(path, "reason") for path in paths]

    @given(values=st.lists(FLOATS32, min_size=1, max_size=20))
    @pytest.mark.parametrize("name", ["csv", "jsonl"])
    def test_numbers_come_back_to_the_bit(self, name: str, values: list[float]) -> None:
        content = encode(name, Layout((len(values),)), make_vectors([values]))
        if name == "csv":
            back = np.array(parse_delimited(content)[1][1:], np.float64)
        else:
            back = np.array(json.loads(content)["values"], np.float64)
        np.testing.assert_array_equal(
            back.astype(np.float32).view(np.uint32), np.array(values, np.float32).view(np.uint32)
        )
