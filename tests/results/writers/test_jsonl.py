"""JSON lines to the byte."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.path_text import make_path_fields
from mnv1cli.types import Layout, Table
from tests.support.results import (
    NAN,
    PATHS,
    SHARK,
    TENCH,
    encode,
    make_labels,
    make_vectors,
)


class TestJsonLines:
    def lines(self, layout: Layout, *tables: Table) -> list[Any]:
        content = encode("jsonl", layout, *tables)
        assert content.endswith(b"\n") or not content
        return [json.loads(line) for line in content.split(b"\n")[:-1]]

    def test_labels_are_an_object_an_image(self) -> None:
        assert self.lines(Layout((2,), labels=True), make_labels(b"a.jpg", TENCH, SHARK)) == [
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
        content = encode("jsonl", Layout((2,)), make_vectors([[0.1, -3]]))
        assert content == b'{"path": "0.jpg", "values": [0.100000001, -3.0]}\n'

    def test_numbers_that_json_lacks_are_null(self) -> None:
        content = encode("jsonl", Layout((4,)), make_vectors([[NAN, math.inf, -math.inf, 1]]))
        assert content == b'{"path": "0.jpg", "values": [null, null, null, 1.0]}\n'
        broken = make_labels(b"a.jpg", TENCH._replace(probability=NAN))
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
        (line,) = self.lines(Layout((1,), labels=True, errors=True), make_labels(b"a.jpg"))
        assert line == {"path": "a.jpg", "predictions": [], "error": None}

    def test_no_images_give_nothing(self) -> None:
        assert encode("jsonl", Layout((2,), labels=True)) == b""

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
        assert make_path_fields(path) == fields
        assert self.lines(Layout((1,), labels=True), make_labels(path)) == [
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
        assert "ä.jpg".encode() in encode(
            "jsonl", Layout((1,), True), make_labels("ä.jpg".encode())
        )
