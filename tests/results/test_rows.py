"""Rows of named columns: each format gives back what went in."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from mnv1cli.errors import OutputError
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.rows import write_rows
from tests.support.shell import rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

COLUMNS: Mapping[str, type] = {"path": bytes, "number": int, "label": str, "share": float}
ROWS = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=20).filter(lambda path: b"\0" not in path),
        st.integers(0, 2**40),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    max_size=8,
)


def write(file: Path, made: Iterable[Sequence[Any]], **options: Any) -> Path:
    form = file.suffix[1:]
    outputs = ResultFiles(file, None, with_meta=form != "parquet", **options)
    write_rows(outputs, form, COLUMNS, made, lambda: {"command": "test"})
    return file


def are_equal(back: Iterable[Sequence[Any]], made: Iterable[Sequence[Any]]) -> bool:
    """Return whether rows are equal, their numbers as float32."""

    def plain(rows: Iterable[Sequence[Any]]) -> list[Any]:
        return [(*row[:3], np.float32(row[3]).tobytes()) for row in rows]

    return plain(back) == plain(made)


@pytest.mark.parametrize(("name", "delimiter"), [("csv", ","), ("tsv", "\t")])
@given(made=ROWS)
@settings(max_examples=40, deadline=None)
def test_delimited_rows_come_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, delimiter: str, made: Any
) -> None:
    file = write(tmp_path_factory.mktemp("rows") / f"x.{name}", made)
    records = rows(file.read_bytes(), delimiter)
    assert are_equal(
        [
            (
                row["path"].encode("utf-8", "surrogateescape"),
                int(row["number"]),
                row["label"],
                float(row["share"]),
            )
            for row in records
        ],
        made,
    )


@given(made=ROWS)
@settings(max_examples=40, deadline=None)
def test_json_lines_come_back(tmp_path_factory: pytest.TempPathFactory, made: Any) -> None:
    file = write(tmp_path_factory.mktemp("rows") / "x.jsonl", made)
    records = [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]
    assert are_equal(
        [
            (
                base64.b64decode(record["path_bytes"])
                if "path_bytes" in record
                else record["path"].encode(),
                record["number"],
                record["label"],
                record["share"],
            )
            for record in records
        ],
        made,
    )


@given(made=ROWS)
@settings(max_examples=40, deadline=None)
def test_parquet_comes_back_with_its_metadata(
    tmp_path_factory: pytest.TempPathFactory, made: Any
) -> None:
    file = write(tmp_path_factory.mktemp("rows") / "x.parquet", made)
    records = parquet.read_table(file).to_pylist()
    assert are_equal(
        [
            (
                row["path"].encode() if row["path_bytes"] is None else row["path_bytes"],
                row["number"],
                row["label"],
                row["share"],
            )
            for row in records
        ],
        made,
    )
    footer: Any = parquet.read_metadata(file).metadata
    assert json.loads(footer[b"mnv1"]) == {"command": "test"}
    assert os.listdir(file.parent) == ["x.parquet"]


def test_many_rows_are_written_in_groups(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", ((b"a", i, "", 0.0) for i in range(9000)))
    assert parquet.read_metadata(file).num_row_groups == 3
    assert parquet.read_table(file)["number"].to_pylist() == list(range(9000))


def test_what_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [(b"a", 1, "b", math.nan)])
    assert json.loads(file.read_text())["share"] is None


def test_table_shows_names_that_a_terminal_does_not_obey(tmp_path: Path) -> None:
    file = tmp_path / "x.table"
    made = [(b"l\xe9\x1b[2J.jpg", 1, "[red]b[/red] :cat:", 0.12345)]
    outputs = ResultFiles(file, None)
    write_rows(outputs, "table", COLUMNS, made, dict)
    header, line = file.read_text().splitlines()
    assert header.split() == list(COLUMNS)
    assert line.split() == ["l\\xe9\\x1b[2J.jpg", "1", "[red]b[/red]", ":cat:", "0.123"]


def test_metadata_are_made_after_the_last_row(tmp_path: Path) -> None:
    seen: list[int] = []
    outputs = ResultFiles(tmp_path / "x.csv", None)
    made = ((b"a", seen.append(i) or i, "", 0.0) for i in range(3))  # type: ignore[func-returns-value]
    write_rows(outputs, "csv", COLUMNS, made, lambda: {"seen": len(seen)})
    assert json.loads((tmp_path / "x.csv.meta.json").read_text()) == {"seen": 3}


@pytest.mark.parametrize("name", ["csv", "tsv", "jsonl", "parquet", "table"])
def test_failure_leaves_nothing(tmp_path: Path, name: str) -> None:
    def failing() -> Any:
        yield b"a", 1, "b", 0.5
        # A table is as wide as its rows: it waits for them.
        assert name == "table" or list(tmp_path.glob("x.*.part"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / f"x.{name}", failing())
    assert os.listdir(tmp_path) == []


def test_stdout_has_rows_and_no_metadata() -> None:
    stream = io.BytesIO()
    write_rows(ResultFiles(None, stream), "csv", COLUMNS, [(b"a", 1, "b", 0.5)], dict)
    assert stream.getvalue() == b"path,number,label,share\na,1,b,0.5\n"


def test_existing_file_stays(tmp_path: Path) -> None:
    file = write(tmp_path / "x.csv", [])
    with pytest.raises(OutputError, match="exists"):
        write(file, [(b"a", 1, "b", 0.5)])
    assert file.read_bytes().count(b"\n") == 1
    write(file, [(b"a", 1, "b", 0.5)], force=True)
    assert file.read_bytes().count(b"\n") == 2
