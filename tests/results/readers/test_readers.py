"""What was written is read back, and what is damaged is named."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import MissingInputError, ResultError
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import FORMATS
from mnv1cli.results.readers import open_result
from mnv1cli.types import ImageInfo, Layout, Prediction, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

METADATA: dict[str, Any] = {"command": "test", "module": {"fingerprint": "f"}}
PATHS = st.binary(min_size=1, max_size=30).filter(lambda path: 0 not in path)
TEXT = st.text(st.sampled_from('a,"\t\n\r ü'), min_size=1, max_size=6)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ERRORS = st.sampled_from(["", "", "damaged, badly"])
K = 3


def write(file: Path, layout: Layout, tables: Iterable[Table]) -> None:
    chosen = FORMATS[file.suffix[1:]]
    outputs = ResultFiles(file, None, chosen.sidecars, with_meta=not chosen.holds_metadata)
    writer = chosen.create(outputs, layout)
    for table in tables:
        writer.write(table)
    writer.close(METADATA)
    if outputs.meta is not None:
        outputs.write_json(outputs.meta, METADATA)
    outputs.commit()


def entries(tables: Iterable[Table]) -> list[tuple[Any, ...]]:
    """List the images of tables, so that they can be compared."""
    images: list[tuple[Any, ...]] = []
    for table in tables:
        results: Any = table.predictions
        if table.values is not None:
            results = [row.tobytes() for row in table.values]
        images += zip(table.paths, table.errors, results, strict=True)
    return images


@st.composite
def vectors(draw: st.DrawFn, errors: bool) -> Table:
    paths = draw(st.lists(PATHS, min_size=1, max_size=5))
    reasons = [draw(ERRORS) if errors else "" for _ in paths]
    rows = [[draw(FLOATS) for _ in range(K)] for _ in paths]
    values = np.array(rows, np.float32)
    values[[bool(reason) for reason in reasons]] = np.nan
    return Table(tuple(paths), tuple(reasons), values=values)


@st.composite
def labels(draw: st.DrawFn, errors: bool, meta: bool = False) -> Table:
    paths = draw(st.lists(PATHS, min_size=1, max_size=5))
    reasons = [draw(ERRORS) if errors else "" for _ in paths]
    predictions = tuple(
        ()
        if reason
        else tuple(
            Prediction(rank, draw(st.integers(0, 1000)), "n1", draw(TEXT), draw(PROBABILITIES))
            for rank in range(1, K + 1)
        )
        for reason in reasons
    )
    image_info = (
        tuple(ImageInfo() if reason else draw(IMAGE_INFO) for reason in reasons) if meta else ()
    )
    return Table(tuple(paths), tuple(reasons), predictions=predictions, image_info=image_info)


IMAGE_INFO = st.builds(
    ImageInfo,
    st.integers(1, 9999),
    st.integers(1, 9999),
    st.sampled_from(["", "2024-05-17T08:09:10Z"]),
    st.sampled_from(["", "2023-01-02T03:04:05"]),
)
PROBABILITIES = st.floats(0, 1, width=32).map(lambda p: float(f"{p:.9g}"))


def all_info(tables: Iterable[Table]) -> list[ImageInfo]:
    return [info for table in tables for info in table.image_info]


def as_float32(tables: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Entries with probabilities as Parquet has them."""
    return [
        (path, error, [p._replace(probability=np.float32(p.probability)) for p in predictions])
        for path, error, predictions in tables
    ]


@pytest.mark.parametrize("name", ["csv", "tsv", "jsonl", "npy", "npz", "parquet"])
@settings(max_examples=25, deadline=None)
@given(data=st.data(), errors=st.booleans())
def test_vectors_come_back(name: str, data: st.DataObject, errors: bool) -> None:
    tables = data.draw(st.lists(vectors(errors), max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"x.{name}")
        write(file, Layout((K,), errors=errors), tables)
        result = open_result(file)
        assert list(result.paths()) == [path for table in tables for path in table.paths]
        assert result.metadata is not None
        assert result.metadata.to_json() == METADATA
        some = any(not error for table in tables for error in table.errors)
        # JSON lines of faults alone do not tell how long the others would be.
        if name != "jsonl" or some:
            assert entries(result.tables()) == entries(tables)
            assert result.layout == Layout((K,), errors=errors)


@pytest.mark.parametrize("name", ["csv", "tsv", "jsonl", "parquet"])
@settings(max_examples=25, deadline=None)
@given(data=st.data(), errors=st.booleans(), meta=st.booleans())
def test_labels_come_back(name: str, data: st.DataObject, errors: bool, meta: bool) -> None:
    tables = data.draw(st.lists(labels(errors, meta), max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"x.{name}")
        write(file, Layout((K,), labels=True, errors=errors, meta=meta), tables)
        result = open_result(file)
        assert all_info(result.tables()) == all_info(tables)
        assert as_float32(entries(result.tables())) == as_float32(entries(tables))
        assert list(result.paths()) == [path for table in tables for path in table.paths]
        if name != "jsonl" or tables:
            assert result.layout == Layout((0,), labels=True, errors=errors, meta=meta)


@settings(max_examples=25, deadline=None)
@given(tables=st.lists(labels(errors=False), max_size=3))
def test_wide_labels_come_back_without_their_ids(tables: list[Table]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "x.csv")
        write(file, Layout((K,), labels=True, wide=True), tables)
        result = open_result(file)
        assert result.layout == Layout((K,), labels=True, wide=True)
        assert [
            (path, error, [(p.rank, p.label, p.probability) for p in predictions])
            for path, error, predictions in entries(result.tables())
        ] == [
            (path, error, [(p.rank, p.label, p.probability) for p in predictions])
            for path, error, predictions in entries(tables)
        ]


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_images_are_more_than_are_read_at_once(tmp_path: Path, name: str) -> None:
    tench = tuple(Prediction(rank, 1, "n1", "tench", 0.5) for rank in (1, 2))
    paths = tuple(b"%d.jpg" % i for i in range(3000))
    table = Table(paths, ("",) * 3000, predictions=(tench,) * 3000)
    write(tmp_path / f"x.{name}", Layout((2,), labels=True), [table])
    result = list(open_result(tmp_path / f"x.{name}").tables())
    assert len(result) > 1
    assert entries(result) == entries([table])


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A result of two images in each format."""
    values = Table((b"a.jpg", b"b.jpg"), ("", ""), values=np.ones((2, 4), np.float32))
    for name in ("csv", "jsonl", "npy", "npz", "parquet"):
        write(tmp_path / f"x.{name}", Layout((4,)), [values])
    return tmp_path


@pytest.mark.parametrize("name", ["npy", "npz", "parquet"])
def test_file_that_was_cut_is_named(made: Path, name: str) -> None:
    file = made / f"x.{name}"
    os.truncate(file, file.stat().st_size - 9)
    with pytest.raises(ResultError, match=f"x.{name}"):
        list(open_result(file).tables())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"path,0,1\na.jpg,1\n", "row 2 of .*x.csv has 2 cells, not 3"),
        ("x.csv", b"path,0,1\na.jpg,1,x\n", "x.csv is damaged"),
        ("x.csv", b"path,size\na.jpg,1\n", "other columns"),
        ("x.csv", b"a.jpg,b.jpg\n", "is no result of mnv1"),
        ("x.csv", b"", "is no result of mnv1"),
        (
            "x.jsonl",
            b'{"path": "a.jpg", "values": [1]}\n{"path"',
            "line 2 of .*x.jsonl is not JSON",
        ),
        ("x.jsonl", b'{"path": 3}\n', "line 1"),
        ("x.jsonl", b'{"path": "a.jpg", "values": [1]}\n{"path": "a"}\n', "x.jsonl is damaged"),
        ("x.index.csv", b"row,path\n0,a.jpg\n", "x.index.csv has 1 rows, not 2"),
        ("x.index.csv", b"row,path\n0,a.jpg\n2,b.jpg\n", "x.index.csv is damaged at row 1"),
        ("x.index.csv", b"name\n", "is not an index"),
        ("x.csv.meta.json", b"{}", "x.csv.meta.json are damaged"),
        ("x.csv.meta.json", b"\xff", "cannot read .*x.csv.meta.json"),
    ],
)
def test_damage_is_named(made: Path, name: str, content: bytes, message: str) -> None:
    (made / name).write_bytes(content)
    file = made / {"x.index.csv": "x.npy", "x.csv.meta.json": "x.csv"}.get(name, name)
    with pytest.raises(ResultError, match=message):
        list(open_result(file).tables())


def test_index_that_is_missing_is_named(made: Path) -> None:
    (made / "x.index.csv").unlink()
    with pytest.raises(ResultError, match=r"x\.index\.csv"):
        open_result(made / "x.npy")


def test_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no such file: .*x\.csv"):
        open_result(tmp_path / "x.csv")


def test_arrays_of_others_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    np.savez(tmp_path / "x.npz", np.arange(3))
    with pytest.raises(ResultError, match=r"int64 \[3\]"):
        open_result(tmp_path / "x.npy")
    with pytest.raises(ResultError, match="no values and paths"):
        open_result(tmp_path / "x.npz")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(ResultError, match=r"x\.npy"):
        open_result(tmp_path / "x.npy")


def test_content_decides_not_the_name(made: Path) -> None:
    (made / "x.npz").rename(made / "renamed.csv")
    assert list(open_result(made / "renamed.csv").paths()) == [b"a.jpg", b"b.jpg"]


def test_result_without_metadata_has_none(made: Path) -> None:
    (made / "x.csv.meta.json").unlink()
    assert open_result(made / "x.csv").metadata is None
    metadata = open_result(made / "x.npy").metadata
    assert metadata is not None
    assert metadata.to_json() == json.loads((made / "x.npy.meta.json").read_text())
