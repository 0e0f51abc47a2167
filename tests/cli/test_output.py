"""Formats and files of results."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest

import mnv1cli
from tests.support.shell import BUNDLED, command, mnv1, rows

if TYPE_CHECKING:
    from pathlib import Path


def test_formats_hold_the_same_labels(few: Path) -> None:
    run = ("classify", few, *BUNDLED, "--top", 2, "-f")
    long = rows(mnv1(*run, "csv").stdout)
    assert rows(mnv1(*run, "tsv").stdout, "\t") == long
    objects = [json.loads(line) for line in mnv1(*run, "jsonl").stdout.splitlines()]
    flat = [
        {"path": o["path"], **{k: str(v) for k, v in p.items() if k != "probability"}}
        for o in objects
        for p in o["predictions"]
    ]
    assert flat == [{k: v for k, v in row.items() if k != "probability"} for row in long]
    wide = rows(mnv1(*run, "csv", "--wide").stdout)
    assert [row["label_2"] for row in wide] == [r["label"] for r in long if r["rank"] == "2"]
    assert list(wide[0]) == ["path", "label_1", "probability_1", "label_2", "probability_2"]
    table = mnv1(*run, "table").stdout
    assert all(row["label"] in table for row in long)


def test_values_round_trip_in_every_format(few: Path, tmp_path: Path) -> None:
    run = ("embed", few, *BUNDLED)
    assert mnv1(*run, "-o", tmp_path / "x.npy").exit_code == 0
    array = np.load(tmp_path / "x.npy")
    table = rows(mnv1(*run).stdout)
    assert list(table[0]) == ["path", *map(str, range(1024))]
    parsed = np.array([[float(row[str(i)]) for i in range(1024)] for row in table], np.float32)
    np.testing.assert_array_equal(parsed, array)
    objects = [json.loads(line) for line in mnv1(*run, "-f", "jsonl").stdout.splitlines()]
    np.testing.assert_array_equal(np.array([o["values"] for o in objects], np.float32), array)


def test_narrow_terminal_keeps_every_column(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = mnv1("classify", few, *BUNDLED, "-f", "table", "--top", 1).stdout.splitlines()
    assert lines[0].split() == ["image", "rank", "label", "prob."]
    assert max(map(len, lines)) <= 40
    assert sum(line.rstrip().endswith("%") for line in lines) == 4


def test_a_file_gets_its_name_and_its_metadata_when_it_is_complete(
    few: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    (few / "bad.jpg").write_bytes(b"")
    assert mnv1("classify", few, *BUNDLED, "-o", out, "--preprocess", "pad").exit_code == 3
    assert sorted(os.listdir(tmp_path)) == ["few", "r.csv", "r.csv.meta.json"]
    meta = json.loads((tmp_path / "r.csv.meta.json").read_text())
    assert list(meta) == [
        "version", "command", "module", "engine", "precision", "preprocess", "exif", "decode",
        "output", "counts", "seconds", "failures",
    ]  # fmt: skip
    assert meta["version"] == mnv1cli.__version__
    assert meta["module"].keys() == {"handle", "fingerprint", "image_size"}
    assert (meta["command"], meta["engine"], meta["preprocess"]) == ("classify", "litert", "pad")
    assert meta["counts"] == {"done": 4, "failed": 1}
    assert meta["failures"] == [{"path": str(few / "bad.jpg"), "reason": "the file is empty"}]


@pytest.mark.parametrize("name", ["x.npy", "x.npy.meta.json", "x.index.csv", "x.npy.part"])
def test_no_file_is_overwritten_without_force(few: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    result = mnv1("embed", few, *BUNDLED, "-o", tmp_path / "x.npy")
    assert result.exit_code == 1
    assert name in result.stderr
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["few", name]
    assert mnv1("embed", few, *BUNDLED, "-o", tmp_path / "x.npy", "--force").exit_code == 0
    assert np.load(tmp_path / "x.npy").shape == (4, 1024)


def test_manifest_tells_of_results_on_stdout(few: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "run.json"
    mnv1("logits", few, *BUNDLED, "--manifest", manifest)
    meta = json.loads(manifest.read_text())
    assert (meta["command"], meta["output"], meta["counts"]["done"]) == ("logits", "logits", 4)


def test_dash_is_stdout(few: Path) -> None:
    assert rows(mnv1("classify", few, *BUNDLED, "-o", "-").stdout)


@pytest.mark.parametrize("place", ["missing/r.csv", "few"])
def test_place_that_cannot_be_written_is_found_before_any_work(
    few: Path, tmp_path: Path, place: str
) -> None:
    result = mnv1("classify", few, "--module", "nowhere", "-o", tmp_path / place, "-f", "csv")
    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert result.stderr.count("\n") == 1


def test_two_runs_do_not_write_one_file(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    words = command("classify", "-", *BUNDLED, "-o", out, "--batch-size", 1, "-q")
    with subprocess.Popen(words, stdin=subprocess.PIPE) as first:
        assert first.stdin is not None
        first.stdin.write(f"{few}/a.jpg\n".encode() * 2)
        first.stdin.flush()
        while not (tmp_path / "r.csv.part").exists():
            assert first.poll() is None
        for options in ((), ("--force",)):
            second = mnv1("classify", few, *BUNDLED, "-o", out, *options)
            assert second.exit_code == 1
            assert "another run is writing" in second.stderr
        first.stdin.close()
    assert first.returncode == 0
    assert len(rows(out.read_bytes())) == 10


def test_link_stays_a_link_when_its_file_is_replaced(few: Path, tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert mnv1("classify", few, *BUNDLED, "-o", tmp_path / "link.csv").exit_code == 1
    run = mnv1("classify", few, *BUNDLED, "-o", tmp_path / "link.csv", "--force")
    assert run.exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert rows((tmp_path / "real.csv").read_bytes())


@pytest.mark.parametrize("name", ["out.jpg", ".JPG", "x.tiff"])
def test_results_are_not_written_into_images(few: Path, tmp_path: Path, name: str) -> None:
    result = mnv1("classify", few, *BUNDLED, "-f", "csv", "-o", tmp_path / name, "--force")
    assert result.exit_code == 2
    assert "name of an image" in result.stderr


def test_summary_names_the_file(few: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "r.csv") in mnv1(
        "classify", few, *BUNDLED, "-o", tmp_path / "r.csv"
    ).stderr  # fmt: skip
