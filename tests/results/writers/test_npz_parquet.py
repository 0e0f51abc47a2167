"""NPZ and Parquet: what other programs read out of them, and what they cost to write."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import FORMATS
from mnv1cli.types import Layout, Prediction, Table
from tests.conftest import ROOT
from tests.support.shell import mnv1, rows

if TYPE_CHECKING:
    from pathlib import Path

BUNDLED = ("--module", "bundled")
PHOTOS = ROOT / "examples" / "photos"
PATHS = (b"a b.jpg", b"latin\xe9.jpg", b"new\nline \xf0\x9f\x90\xb1.jpg", b"last")


def write(file: Path, layout: Layout, *tables: Table, metadata: Any = None) -> None:
    outputs = ResultFiles(file, None, with_meta=False)
    writer = FORMATS[file.suffix[1:]].create(outputs, layout)
    for table in tables:
        writer.write(table)
    writer.close(metadata or {"command": "test"})
    outputs.commit()


def vectors(*errors: str) -> Table:
    values = np.arange(12, dtype=np.float32).reshape(4, 3) / np.float32(7)
    values[[bool(error) for error in errors]] = np.nan
    return Table(PATHS, errors, values=values)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """`embed` of the example photos in three formats, with one bad image."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    for name in ("f.npy", "f.npz", "f.parquet"):
        run = mnv1("embed", PHOTOS, bad, *BUNDLED, "--on-error", "row", "-q", "-o", tmp_path / name)
        assert run.exit_code == 3
    return tmp_path


def test_npz_holds_values_paths_errors_and_metadata(results: Path) -> None:
    assert not (results / "f.npz.meta.json").exists()
    with np.load(results / "f.npz") as arrays:
        np.testing.assert_array_equal(arrays["values"], np.load(results / "f.npy"))
        index = rows((results / "f.index.csv").read_bytes())
        assert arrays["paths"].tolist() == [row["path"] for row in index]
        assert arrays["errors"].tolist() == ["", "", "", "the file is empty"]
        meta = json.loads(str(arrays["meta"]))
    theirs = json.loads((results / "f.npy.meta.json").read_text())
    assert {**meta, "seconds": 0} == {**theirs, "seconds": 0}


def test_parquet_reads_in_pyarrow_pandas_and_duckdb(results: Path) -> None:
    file = results / "f.parquet"
    values = np.load(results / "f.npy")
    table = pq.read_table(file)
    assert table.column_names == ["path", "path_bytes", "values", "error"]
    assert str(table.schema.field("values").type) == "fixed_size_list<element: float>[1024]"
    frame = pd.read_parquet(file)
    np.testing.assert_array_equal(np.stack(frame["values"][:3]), values[:3])
    assert frame["values"][3] is None
    assert frame["error"].tolist() == ["", "", "", "the file is empty"]
    assert frame["path_bytes"].isna().all()
    records = duckdb.sql(f"select path, values[1] from '{file}' where error = ''").fetchall()
    assert [value for _, value in records] == values[:3, 0].tolist()
    footer = pq.read_metadata(file).metadata or {}
    meta = json.loads(footer[b"mnv1"])
    assert meta["counts"] == {"done": 3, "failed": 1}
    assert not (results / "f.parquet.meta.json").exists()


def test_parquet_of_labels_has_a_row_an_image_and_rank(tmp_path: Path) -> None:
    file = tmp_path / "l.parquet"
    mnv1("classify", PHOTOS, *BUNDLED, "--top", 2, "-o", file)
    expected = rows(mnv1("classify", PHOTOS, *BUNDLED, "--top", 2, "-f", "csv").stdout)
    records = pq.read_table(file).drop_columns(["path_bytes"]).to_pylist()
    assert [{k: str(v) for k, v in row.items() if k != "probability"} for row in records] == [
        {k: v for k, v in row.items() if k != "probability"} for row in expected
    ]
    np.testing.assert_array_equal(
        np.array([row["probability"] for row in records], np.float32),
        np.array([row["probability"] for row in expected], np.float32),
    )


def test_names_that_are_not_text_come_back(tmp_path: Path) -> None:
    layout = Layout((3,))
    for name in ("x.npz", "x.parquet"):
        write(tmp_path / name, layout, vectors("", "", "", ""), vectors("", "", "", ""))
    with np.load(tmp_path / "x.npz") as arrays:
        assert tuple(os.fsencode(str(path)) for path in arrays["paths"]) == PATHS * 2
        assert "errors" not in arrays.files
    table = pq.read_table(tmp_path / "x.parquet").to_pylist()
    back = [row["path_bytes"] or row["path"].encode() for row in table]
    assert tuple(back) == PATHS * 2
    assert [row["path_bytes"] is None for row in table[:4]] == [True, False, True, True]


def test_failed_labels_have_a_row_with_the_reason(tmp_path: Path) -> None:
    best = (Prediction(1, 7, "n7", "seven", 0.5),)
    table = Table(PATHS[:2], ("", "broken"), predictions=(best, ()))
    write(tmp_path / "x.parquet", Layout((1,), labels=True, errors=True), table)
    good, bad = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert (good["label"], good["error"]) == ("seven", "")
    assert (bad["label"], bad["rank"], bad["error"]) == (None, None, "broken")


@pytest.mark.parametrize("name", ["x.npz", "x.parquet"])
def test_no_rows_are_a_file_too(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, Layout((3,)))
    if name == "x.npz":
        with np.load(tmp_path / name) as arrays:
            assert arrays["values"].shape == (0, 3)
            assert arrays["paths"].shape == (0,)
    else:
        assert pq.read_table(tmp_path / name).num_rows == 0


def test_equal_results_are_equal_npz_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write(tmp_path / name, Layout((3,)), vectors("", "", "", ""))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_labels_do_not_fit_into_npz(tmp_path: Path) -> None:
    result = mnv1("classify", PHOTOS, *BUNDLED, "-o", tmp_path / "x.npz")
    assert result.exit_code == 2
    assert "npz holds numbers" in result.stderr


def test_missing_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = mnv1("embed", PHOTOS, *BUNDLED, "-o", tmp_path / "x.parquet")
    assert result.exit_code == 2
    assert "pip install 'mnv1cli[parquet]'" in result.stderr
    assert os.listdir(tmp_path) == []


MANY = """
import sys
from pathlib import Path
import numpy as np
from mnv1cli.types import Layout, Table
from mnv1cli.results.formats import FORMATS
from mnv1cli.results.files import ResultFiles
from tests.support.memory import most
file, total = Path(sys.argv[1]), int(sys.argv[2])
outputs = ResultFiles(file, None, with_meta=False)
writer = FORMATS[file.suffix[1:]].create(outputs, Layout((8,)))
values = np.random.default_rng(0).random((1000, 8), dtype=np.float32)
for start in range(0, total, 1000):
    paths = tuple(b"photos/%09d.jpg" % i for i in range(start, start + 1000))
    writer.write(Table(paths, ("",) * 1000, values=values))
writer.close({})
outputs.commit()
print(most())
"""


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_million_rows_are_written_in_flat_memory(tmp_path: Path, suffix: str) -> None:
    def peak(total: int) -> int:
        words = [sys.executable, "-c", MANY, str(tmp_path / f"{total}.{suffix}"), str(total)]
        return int(subprocess.run(words, capture_output=True, check=True, cwd=ROOT).stdout)

    # Several row groups in both, so that what a row group takes is not counted as growth.
    assert peak(1_000_000) < 1.2 * peak(200_000)
    if suffix == "parquet":
        assert pq.read_metadata(tmp_path / "1000000.parquet").num_rows == 1_000_000
    else:
        with np.load(tmp_path / "1000000.npz") as arrays:
            assert arrays["paths"][-1] == "photos/000999999.jpg"


def count_calls(file: Path, batches: int) -> int:
    """Count the calls of Python while so many waiting batches become a Parquet file."""
    outputs = ResultFiles(file, None)
    writer = FORMATS["parquet"].create(outputs, Layout((3,)))
    for _ in range(batches):
        writer.write(vectors("", "", "", ""))
    calls = itertools.count()
    sys.setprofile(lambda *_: next(calls) and None)
    writer.close({})
    sys.setprofile(None)
    outputs.commit()
    return next(calls)


def test_work_at_the_end_grows_with_the_rows_and_no_faster(tmp_path: Path) -> None:
    few, many = (count_calls(tmp_path / f"{n}.parquet", n) for n in (100, 1600))
    assert many < 17 * few


def test_batches_without_rows_are_not_kept(tmp_path: Path) -> None:
    outputs = ResultFiles(tmp_path / "x.parquet", None)
    writer = FORMATS["parquet"].create(outputs, Layout((3,)))
    before = outputs.sync()
    for _ in range(9):
        writer.write(vectors("bad", "bad", "bad", "bad").without_faults())
    assert outputs.sync() == before
    writer.close()
    outputs.abandon(keep=False)
