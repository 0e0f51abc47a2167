"""The examples run as their comments say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mnv1cli.modules import locate
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "examples"


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two cats and a coffee, under names that trip up scripts."""
    album = tmp_path / "my album"
    (album / "sub").mkdir(parents=True)
    cat, coffee = EXAMPLES / "photos" / "chelsea.png", EXAMPLES / "photos" / "coffee.jpg"
    shutil.copy(cat, album / "a\nb 'c\".png")
    shutil.copy(cat, album / "sub" / "same.png")
    shutil.copy(coffee, album / "same.png")
    return album


def run(
    *words: object, module: str = "bundled", check: bool = True
) -> subprocess.CompletedProcess[bytes]:
    """Run a script with `mnv1` on the PATH, as after an installation."""
    scripts = os.path.dirname(sys.executable)
    env = {
        **os.environ,
        "MNV1_MODULE": module,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
    }
    result = subprocess.run(
        [str(word) for word in words], capture_output=True, env=env, check=False
    )
    assert not check or result.returncode == 0, result.stderr.decode()
    return result


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["copy", "link", "move"])
def test_photos_are_sorted_by_label(album: Path, tmp_path: Path, how: str) -> None:
    sorted_ = tmp_path / "sorted"
    before = files(album)
    options = [] if how == "copy" else [f"--{how}"]
    run(sys.executable, EXAMPLES / "sort_by_label.py", album, sorted_, *options)
    assert files(sorted_) == {
        "Egyptian cat/a\nb 'c\".png",
        "Egyptian cat/sub/same.png",
        "espresso/same.png",
    }
    assert files(album) == (set() if how == "move" else before)


def test_sorting_overwrites_nothing_and_tells_what_it_left(album: Path, tmp_path: Path) -> None:
    sorted_ = tmp_path / "sorted"
    taken = sorted_ / "espresso" / "same.png"
    taken.parent.mkdir(parents=True)
    taken.write_text("mine")
    (album / "bad.jpg").write_bytes(b"")
    script = EXAMPLES / "sort_by_label.py"
    result = run(sys.executable, script, album, sorted_, check=False)
    assert result.returncode == 3
    assert taken.read_text() == "mine"
    assert b"exists" in result.stderr
    assert b"the file is empty" in result.stderr


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_photos_of_something_are_listed_with_nul(album: Path) -> None:
    found = run("sh", EXAMPLES / "photos_of.sh", "CAT", album).stdout
    paths = [os.path.relpath(os.fsdecode(p), album) for p in found.split(b"\0")[:-1]]
    assert paths == ["a\nb 'c\".png", "sub/same.png"]


def test_nightly_script_adds_what_is_new(album: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    script = EXAMPLES / "classify_new.sh"
    run("sh", script, album, file)
    first = file.read_bytes()
    assert first.count(b"Egyptian cat") == 2
    run("sh", script, album, file)
    assert file.read_bytes() == first
    # Its own time is that of the original, which is older than the first run.
    shutil.copy2(EXAMPLES / "photos" / "rocket.jpg", album / "new.jpg")
    (album / "bad.jpg").write_bytes(b"")
    run("sh", script, album, file)
    assert file.read_bytes().startswith(first)
    assert file.read_bytes().count(b"new.jpg") == 5


def test_nightly_script_loses_nothing_when_the_folder_is_away(album: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    script = EXAMPLES / "classify_new.sh"
    run("sh", script, album, file)
    before = file.read_bytes()
    album.rename(tmp_path / "away")
    assert run("sh", script, album, file, check=False).returncode != 0
    assert file.read_bytes() == before


def test_dataset_is_asked_in_sql(album: Path, tmp_path: Path) -> None:
    import duckdb

    (album / "bad.jpg").write_bytes(b"")
    words = ("-m", "mnv1cli", "classify", album, "--with-meta", "-q", "-o", f"{tmp_path}/labels/")
    assert run(sys.executable, *words, check=False).returncode == 3
    script = (EXAMPLES / "dataset.sql").read_text()
    asked = script.replace("'labels/", f"'{tmp_path}/labels/")
    counts, certain, faults = (
        duckdb.execute(each.query.strip().rstrip(";")).fetchall()
        for each in duckdb.extract_statements(asked)
    )
    assert counts == [("Egyptian cat", 2), ("espresso", 1)]
    assert [label for _, label, _ in certain] == ["espresso", "Egyptian cat", "Egyptian cat"]
    assert faults == [(f"{album}/bad.jpg", "the file is empty")]


def test_dataset_is_read_by_spark(album: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    (album / "bad.jpg").write_bytes(b"")
    for command, told in (("classify", "Egyptian cat,2"), ("embed", "3,")):
        out = f"{tmp_path}/{command}/"
        words = ("-m", "mnv1cli", command, album, "-q", "-o", out)
        assert run(sys.executable, *words, check=False).returncode == 3
        lines = run(sys.executable, EXAMPLES / "dataset_spark.py", out).stdout.decode().splitlines()
        assert any(line.startswith(told) for line in lines)
        assert lines[-1] == "1 could not be used"


def test_job_array_does_what_one_run_does(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, merged, whole = tmp_path / "parts", tmp_path / "merged.csv", tmp_path / "whole.csv"
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    for task in "010":
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        run("sh", EXAMPLES / "slurm_shard.sh", album, parts)
    run("mnv1", "merge", parts / "0.csv", parts / "1.csv", "-o", merged)
    run("mnv1", "classify", album, "-o", whole)
    assert merged.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        (sys.executable, "sort_by_label.py", "{album}", "sorted"),
        pytest.param(
            ("sh", "photos_of.sh", "cat", "{album}"),
            marks=pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed"),
        ),
        ("sh", "classify_new.sh", "{album}", "labels.csv"),
        ("sh", "slurm_shard.sh", "{album}", "parts"),
    ],
    ids=lambda words: words[1],
)
def test_scripts_take_a_module_that_overrides_the_environment(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(locate.locate("bundled").path, tmp_path / "mine")
    program, script, *arguments = (word.format(album=album) for word in words)
    line = (program, EXAMPLES / script, *arguments, "--module")
    run(*line, "mine", module="nowhere")
    refused = run(*line, "elsewhere", check=False)
    assert b"no module 'elsewhere'" in refused.stderr


def test_exported_model_is_run_without_mnv1(album: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.tflite"
    run(sys.executable, "-m", "mnv1cli", "module", "export", "-o", model)
    photos = [album / "sub" / "same.png", album / "same.png"]
    # Isolated, so that it cannot import what is in this folder.
    printed = run(sys.executable, "-I", EXAMPLES / "exported_model.py", model, *photos).stdout
    assert printed.decode().splitlines() == [
        f"{photos[0]}\tEgyptian cat",
        f"{photos[1]}\tespresso",
    ]
