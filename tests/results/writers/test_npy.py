"""NPY and its index to the byte."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import FORMATS
from mnv1cli.types import Layout, Table
from tests.support.results import (
    NAN,
    make_vectors,
)

if TYPE_CHECKING:
    from pathlib import Path


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
        array = self.write(tmp_path / "x.npy", Layout(shape), *map(make_vectors, values))
        expected = np.concatenate([np.empty((0, *shape), np.float32), *values])
        assert (array.dtype, array.shape) == (np.dtype("<f4"), (sum(counts), *shape))
        np.testing.assert_array_equal(array, expected)

    def test_is_what_numpy_saves(self, tmp_path: Path) -> None:
        values = np.arange(12, dtype=np.float32).reshape(4, 3)
        self.write(
            tmp_path / "x.npy", Layout((3,)), make_vectors(values[:1]), make_vectors(values[1:])
        )
        np.save(tmp_path / "y.npy", values)
        assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()

    def test_takes_arrays_in_any_layout_of_memory(self, tmp_path: Path) -> None:
        values = np.arange(24, dtype=np.float32).reshape(4, 6)
        tables = [
            Table((b"a",) * 4, ("",) * 4, values=rows)
            for rows in (np.asfortranarray(values), values[::-1], values.astype(">f4"))
        ]
        array = self.write(tmp_path / "x.npy", Layout((6,)), *tables)
        np.testing.assert_array_equal(array, np.concatenate([values, values[::-1], values]))

    def test_index_counts_the_rows_of_all_tables(self, tmp_path: Path) -> None:
        first = Table((b"a,b", b"\xff"), ("", ""), values=np.zeros((2, 1), np.float32))
        self.write(tmp_path / "x.npy", Layout((1,)), first, make_vectors([[1]]))
        index = (tmp_path / "x.index.csv").read_bytes()
        assert index == b'row,path\n0,"a,b"\n1,\xff\n2,0.jpg\n'

    def test_index_of_no_rows_is_its_header(self, tmp_path: Path) -> None:
        self.write(tmp_path / "x.npy", Layout((1,)))
        assert (tmp_path / "x.index.csv").read_bytes() == b"row,path\n"

    def test_bad_images_are_rows_of_nan_with_the_reason_in_the_index(self, tmp_path: Path) -> None:
        table = make_vectors([[1, 2], [NAN, NAN], [3, 4]], ["", "damaged, badly", ""])
        array = self.write(tmp_path / "x.npy", Layout((2,), errors=True), table)
        np.testing.assert_array_equal(array, [[1, 2], [NAN, NAN], [3, 4]])
        assert (tmp_path / "x.index.csv").read_bytes() == (
            b'row,path,error\n0,0.jpg,\n1,1.jpg,"damaged, badly"\n2,2.jpg,\n'
        )

    def test_memory_does_not_grow_with_the_rows(self, tmp_path: Path) -> None:
        outputs = ResultFiles(tmp_path / "x.npy", io.BytesIO(), FORMATS["npy"].sidecars)
        writer = FORMATS["npy"].create(outputs, Layout((1024,)))
        writer.write(make_vectors(np.zeros((256, 1024), np.float32)))
        # What went to the writer is in the file, but for a buffer's length.
        assert (tmp_path / "x.npy.part").stat().st_size >= 256 * 1024 * 4 - (1 << 16)
        outputs.abandon(keep=False)

    def test_stopped_before_the_end_is_readable_once_closed(self, tmp_path: Path) -> None:
        outputs = ResultFiles(tmp_path / "x.npy", io.BytesIO(), FORMATS["npy"].sidecars)
        writer = FORMATS["npy"].create(outputs, Layout((2,)))
        writer.write(make_vectors([[1, 2], [3, 4]]))
        writer.close()
        outputs.abandon(keep=True)
        with (tmp_path / "x.npy.part").open("rb") as file:
            np.testing.assert_array_equal(np.load(file), [[1, 2], [3, 4]])
        assert (tmp_path / "x.index.csv.part").read_bytes().count(b"\n") == 3
