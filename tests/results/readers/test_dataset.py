"""Datasets read back: by every command that reads results, whole or damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from mnv1cli.api import Classifier
from mnv1cli.errors import Mnv1Error, ResultError
from mnv1cli.results.dataset import Dataset, dataset_layout
from mnv1cli.results.metadata import Counts, RunMetadata
from mnv1cli.results.readers import open_result
from mnv1cli.results.writers.arrow import ArrowRows
from mnv1cli.runs import dataset_sink
from mnv1cli.storage.location import Location
from mnv1cli.storage.sources import to_result_source
from mnv1cli.types import Table, Task
from tests.conftest import ROOT
from tests.support.datasets import COUNT, album, parts, rows, runs
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BUNDLED = ("--module", "bundled")
PATHS = (b"a b.jpg", b"latin\xe9.jpg", b"new\nline", b"last")
METADATA = RunMetadata(
    version="0",
    command="embed",
    module={"handle": "bundled", "fingerprint": "f" * 64, "image_size": 128},
    engine="litert",
    output="features",
)


def write(
    folder: Path, values: Any, paths: Sequence[bytes] = PATHS, errors: Sequence[str] = (),
    **metadata: Any,
) -> Dataset:  # fmt: skip
    """Write one part of vectors, float32 [n, d], and finish the run, which took 1.5 s."""
    dataset = Dataset(Location(f"{folder}/"))
    kind = dataset_layout(Task("embed"), values.shape[1:])
    of_run = replace(METADATA, **metadata)
    table = Table(tuple(paths), tuple(errors) or ("",) * len(paths), values=values)
    batch = ArrowRows(kind).batch(table)
    dataset.begin()
    dataset.write(pa.Table.from_batches([batch]).cast(dataset.make_schema(kind, of_run)))
    dataset.finish(replace(of_run, seconds=1.5))
    return dataset


def vectors(count: int = 4, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An album, labels and features of it as a dataset of many parts, and as files beside."""
    folder = tmp_path_factory.mktemp("results")
    pictures = album(folder / "album")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(dataset_sink, "PART_IMAGES", 3)
        for command, out in (("classify", "labels"), ("embed", "features")):
            for place in (f"{out}/", f"{out}.parquet"):
                run = mnv1(command, pictures.name, *BUNDLED, "-q", "-o", place,
                           "--on-error", "row", "--batch-size", 1)  # fmt: skip
                assert run.exit_code == 3, run.stderr
        assert len(parts(folder / "labels")) == 4
        yield folder


def are_equal(one: Table, other: Table) -> bool:
    values = one.values is other.values is None or np.array_equal(
        one.values, other.values, equal_nan=True  # type: ignore[arg-type]
    )  # fmt: skip
    return (one.paths, one.errors, one.predictions, one.image_info) == (
        other.paths, other.errors, other.predictions, other.image_info
    ) and values  # fmt: skip


def split_images(tables: Iterator[Table]) -> list[Table]:
    """Split tables into one for each image."""
    return [
        Table(
            (table.paths[i],),
            (table.errors[i],),
            None if table.values is None else table.values[i : i + 1],
            table.predictions[i : i + 1],
            table.image_info[i : i + 1],
        )
        for table in tables
        for i in range(len(table.paths))
    ]


# --- whole datasets ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["labels", "features"])
def test_dataset_is_read_as_the_file_is(results: Path, kind: str) -> None:
    one = open_result(to_result_source(Location(f"{results / kind}/")))
    other = open_result(results / f"{kind}.parquet")
    assert one.layout == other.layout
    assert list(one.paths()) == list(other.paths())
    pairs = zip(split_images(one.tables()), split_images(other.tables()), strict=True)
    assert all(are_equal(*pair) for pair in pairs)
    assert one.metadata
    assert other.metadata
    assert replace(one.metadata, seconds=0) == replace(other.metadata, seconds=0)
    document = json.loads(runs(results / kind)[0].read_bytes())
    assert one.metadata.to_json() == document


def test_part_alone_is_a_result(results: Path) -> None:
    every = [open_result(file) for file in parts(results / "labels")]
    counts = [part.metadata.counts for part in every if part.metadata and part.metadata.counts]
    assert sum(count.done for count in counts) == COUNT
    assert sum(count.failed for count in counts) == 2
    whole = open_result(results / "labels")
    assert [path for part in every for path in part.paths()] == list(whole.paths())


def test_commands_read_a_dataset_as_a_file(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results)
    truth = results / "truth.csv"
    lines = [b"album/%s,tabby" % name for name in os.listdir(b"album") if name.startswith(b"0-")]
    truth.write_bytes(b"path,label\n" + b"\n".join(lines) + b"\n")
    for arguments in (
        ("evaluate", "--from", "labels{}", "--truth", truth, "--json"),
        ("similar", "features{}", "album/0-00003.jpg", "--top", 2, "--module", "bundled"),
        ("similar", "features.parquet", "--from", "features{}", "--top", 3),
        ("similar", "features{}", "--all-pairs", "--threshold", "0.1"),
        ("classify", "album", *BUNDLED, "--skip-existing", "labels{}", "-f", "csv"),
    ):
        outputs = []
        for name in (".parquet", "/", ""):
            result = mnv1(*(str(word).format(name) for word in arguments))
            outputs.append((result.exit_code, result.stdout_bytes))
        assert outputs[0] == outputs[1] == outputs[2], arguments
        assert outputs[0][1]


def test_report_shows_a_dataset(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results)
    for name in ("labels/", "labels.parquet"):
        result = mnv1("report", name, "-o", "-", "--title", "x")
        assert result.exit_code == 0, result.stderr
        assert f"{COUNT} images" in result.stderr
        assert result.stdout.count("<figure") == COUNT or "0-00003.jpg" in result.stdout
        assert "the file is empty" in result.stdout


def test_python_takes_datasets(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results)
    [matches] = Classifier("bundled").similar("features/", "album/0-00003.jpg", top=1)
    assert matches[0].path == b"album/0-00003.jpg"


def test_runs_add_up(tmp_path: Path) -> None:
    write(tmp_path / "out", vectors(), errors=("", "", "bad", ""))
    write(tmp_path / "out", vectors(2, 1), paths=(b"x", b"\xff"), errors=("", "worse"))
    metadata = open_result(tmp_path / "out").metadata
    assert metadata
    assert metadata.counts == Counts(4, 2)
    assert metadata.seconds == 3.0
    assert [fault.reason for fault in metadata.failures or ()] == ["bad", "worse"]
    runs(tmp_path / "out")[0].write_bytes(b"{half")
    metadata = open_result(tmp_path / "out").metadata
    assert metadata
    assert metadata.seconds == 1.5
    assert metadata.counts == Counts(4, 2)


def test_rows_of_two_runs_that_did_the_same_count_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [b"%d.jpg" % i for i in range(6)]
    write(tmp_path / "out", vectors(4), paths[:4])
    write(tmp_path / "out", vectors(4), paths[2:])
    result = open_result(Location(f"{tmp_path}/out/"))
    assert list(result.paths()) == paths
    tables = list(result.tables())
    assert [path for table in tables for path in table.paths] == paths
    assert sum(len(table.values) for table in tables if table.values is not None) == 6
    assert result.metadata is not None
    assert result.metadata.counts == Counts(6, 0)
    assert "rows of 2 images twice" in caplog.text


def test_memory_does_not_grow_with_the_parts(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mnv1cli.results.readers import open_result\n"
        "from tests.support.memory import most\n"
        "result = open_result(Path(sys.argv[1]))\n"
        "before = count = 0\n"
        "for table in result.tables():\n"
        "    count += len(table.paths)\n"
        "    before = before or (most() if count > 8000 else 0)\n"
        "print(count, most() - before)\n"
    )
    values = np.random.default_rng(0).standard_normal((4000, 512)).astype(np.float32)
    for k in range(8):
        write(tmp_path / "out", values, paths=[b"%d-%d" % (k, i) for i in range(4000)])
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    count, grown = map(int, run.stdout.split())
    assert count == 32_000
    # All of it is 64 MB, a part 8.
    assert grown < 12_000


# --- damaged and mixed datasets ----------------------------------------------------------


def test_parts_with_other_settings_are_named_both(tmp_path: Path) -> None:
    write(tmp_path / "out", vectors())
    other = Dataset(Location(f"{tmp_path}/other/"))
    assert other.metadata is None
    write(tmp_path / "other", vectors(), preprocess="pad")
    one, two = parts(tmp_path / "out")[0], parts(tmp_path / "other")[0]
    two.rename(tmp_path / "out" / two.name)
    with pytest.raises(ResultError) as caught:
        open_result(tmp_path / "out")
    second = tmp_path / "out" / two.name
    assert f"{one} was made with --preprocess None, {second} with pad; " in str(caught.value)
    with pytest.raises(ResultError):
        Dataset(Location(f"{tmp_path}/out/"))


def test_parts_with_other_columns_are_named_both(tmp_path: Path) -> None:
    write(tmp_path / "out", vectors())
    write(tmp_path / "out", vectors()[:, :2])
    with pytest.raises(ResultError, match="have different columns"):
        open_result(tmp_path / "out")


@pytest.mark.parametrize("what", ["half", "empty", "garbage", "foreign"])
def test_damaged_part_is_named(tmp_path: Path, what: str) -> None:
    write(tmp_path / "out", vectors())
    write(tmp_path / "out", vectors(1), paths=(b"x",))
    bad = parts(tmp_path / "out")[1]
    data = bad.read_bytes()
    if what == "foreign":
        pa.parquet.write_table(pa.table({"path": ["x"]}), bad)
    else:
        bad.write_bytes(
            {"half": data[: len(data) // 2], "empty": b"", "garbage": b"PAR1" * 9}[what]
        )
    for read in (open_result, lambda folder: Dataset(Location(str(folder)))):
        with pytest.raises(ResultError, match=bad.name):
            read(tmp_path / "out")


def test_no_flipped_byte_is_taken_for_a_value(tmp_path: Path) -> None:
    write(tmp_path / "out", vectors(400), paths=[b"%d" % i for i in range(400)])
    part = parts(tmp_path / "out")[0]
    data = part.read_bytes()
    good = np.concatenate([t.values for t in open_result(part).tables() if t.values is not None])
    caught = 0
    for at in range(0, len(data), max(1, len(data) // 150)):
        part.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        said = ""
        try:
            result = open_result(part.parent)
            tables = [t.values for t in result.tables() if t.values is not None]
        except Mnv1Error as error:
            said = str(error)
            caught += 1
        assert part.name in said if said else np.array_equal(np.concatenate(tables), good), at
    assert caught > 100


@pytest.mark.parametrize("command", ["evaluate", "similar", "report"])
def test_dataset_without_parts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.makedirs("out/_mnv1")
    words = {
        "evaluate": ("evaluate", "--from"),
        "similar": ("similar", "--all-pairs"),
        "report": ("report", "-o", "x.html"),
    }[command]
    for name, code, said in (
        ("out/", 1, "out/ is an empty dataset: it has no part-*.parquet"),
        ("none/", 2, "no such dataset: none/"),
    ):
        result = mnv1(*words, name)
        assert result.exit_code == code
        assert said in result.stderr
    (tmp_path / "out" / "x.csv").touch()
    result = mnv1(*words, "out")
    assert result.exit_code == 1
    assert "out is no dataset of mnv1: it has x.csv" in result.stderr


def test_dataset_of_labels_is_no_index(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results)
    result = mnv1("similar", "labels/", "--all-pairs")
    assert result.exit_code == 1
    assert "labels/ holds no features" in result.stderr


def test_faults_are_left_out_of_an_index(tmp_path: Path) -> None:
    write(tmp_path / "out", vectors(), errors=("", "bad", "", ""))
    result = mnv1("similar", tmp_path / "out", "--all-pairs", "--threshold", "-1")
    assert result.exit_code == 0
    assert "among 3 images" in result.stderr
    assert len(rows(tmp_path / "out")) == 4
