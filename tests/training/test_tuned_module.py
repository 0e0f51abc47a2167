"""A fine-tuned module in the other commands: its class names are where its results say."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.support.shell import mnv1, rows
from tests.support.tars import member, tar_bytes

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 60, 210)}


@pytest.fixture(scope="module")
def trained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos in folders of three classes, and a module for them."""
    folder = tmp_path_factory.mktemp("tuned")
    noise = np.random.default_rng(5)
    for name, colour in COLOURS.items():
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.clip(noise.normal(colour, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")
    line = ("finetune", folder / "photos", "-o", folder / "colours", "--module", "bundled")
    assert mnv1(*line).exit_code == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that is the working directory, with results of the module."""
    place = tmp_path / "work"
    shutil.copytree(trained, place)
    monkeypatch.chdir(place)
    for command, file in (("classify", "l.csv"), ("classify", "labels/"), ("logits", "l.npy")):
        line = (command, "photos", "--module", "colours", "-o", file, "-q")
        assert mnv1(*line).exit_code == 0
    return place


def accuracy(*arguments: object) -> Any:
    result = mnv1("evaluate", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["top1"]


RESULTS = ["l.csv", "labels/", "l.npy"]


@pytest.mark.parametrize("file", RESULTS)
def test_results_are_evaluated_and_shown_with_its_names(
    folder: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = accuracy("photos", "--module", "colours")
    assert wanted > 0.8
    assert accuracy("--from", file) == wanted
    assert mnv1("report", file, "--truth-folders", "-o", "page.html").exit_code == 0
    page = (folder / "page.html").read_text()
    assert all(name in page for name in COLOURS)
    # The path in the metadata began in the folder of the result.
    monkeypatch.chdir(folder.parent)
    assert accuracy("--from", f"work/{file}") == wanted
    result = mnv1("report", f"work/{file}", "--truth-folders", "-o", "page.html")
    assert result.exit_code == 0


@pytest.mark.parametrize("file", RESULTS)
def test_module_that_was_moved_is_named(folder: Path, file: str) -> None:
    wanted = accuracy("--from", file)
    (folder / "colours").rename(folder / "moved")
    for command in (("evaluate", "--from", file),
                    ("report", file, "--truth-folders", "-o", "page.html")):  # fmt: skip
        result = mnv1(*command)
        assert result.exit_code == 1
        assert result.stderr == (
            f"mnv1: error: {file} was made with module colours, which has its class names and is "
            "not there any more, or has changed; give them with --labels FILE, or name the module "
            "with --module where it is now\n"
        )
        assert mnv1(*command, "--module", "moved").exit_code == 0
    assert accuracy("--from", file, "--module", "moved") == wanted
    assert accuracy("--from", file, "--labels", "moved/assets/labels.csv") == wanted


def test_environment_does_not_hide_the_module_of_the_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = accuracy("--from", "l.csv")
    monkeypatch.setenv("MNV1_MODULE", "bundled")
    assert [accuracy("--from", file) for file in RESULTS] == [wanted] * 3


def test_other_version_gives_names_only_where_they_are_known_to_be_the_same(folder: Path) -> None:
    wanted = accuracy("--from", "l.csv")
    (folder / "colours" / "assets" / "note.txt").write_text("a later version")
    # The metadata of labels have a digest of the names; those of scores have none.
    assert accuracy("--from", "l.csv") == wanted
    result = mnv1("evaluate", "--from", "l.npy")
    assert result.exit_code == 1
    assert "is not there any more, or has changed" in result.stderr
    labels = folder / "colours" / "assets" / "labels.csv"
    labels.write_text(labels.read_text().replace("red", "scarlet"))
    assert mnv1("evaluate", "--from", "l.csv").exit_code == 1


def test_own_names_of_a_run_are_not_taken_from_the_module(folder: Path) -> None:
    (folder / "own.txt").write_text("azure\nemerald\nscarlet\n")
    line = ("classify", "photos", "--module", "colours", "--labels", "own.txt", "-o", "own.csv")
    assert mnv1(*line, "-q").exit_code == 0
    result = mnv1("evaluate", "--from", "own.csv")
    assert result.exit_code == 1
    assert "made with other class names than module colours has; give them" in result.stderr


def test_names_in_an_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(path for path in (folder / "colours").rglob("*") if path.is_file())
    members = [member(str(p.relative_to(folder / "colours")), p.read_bytes()) for p in files]
    (folder / "colours.tar.gz").write_bytes(tar_bytes(*members))
    shutil.rmtree(folder / "colours")
    line = ("classify", "photos", "--module", "colours.tar.gz", "-o", "a.csv", "-q")
    assert mnv1(*line).exit_code == 0
    wanted = accuracy("--from", "a.csv")
    monkeypatch.setenv("MNV1_CACHE_DIR", str(folder / "empty"))
    assert accuracy("--from", "a.csv") == wanted


def test_labels_of_a_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (("--module", "colours"), ("--module", folder / "colours")):
        names = [row["label"] for row in rows(mnv1("labels", *line).stdout)]
        assert names == ["blue", "green", "red"]
    assert mnv1("labels", "tabby", "--module", "colours").exit_code == 1
    (match,) = rows(mnv1("labels", "gre", "--module", "colours").stdout)
    assert (match["class_id"], match["label"]) == ("1", "green")
    for module in ("bundled", "hub", "mobilenet_v1_050_160"):
        (match,) = rows(mnv1("labels", "tabby", "--module", module, "--offline").stdout)
        assert match["wnid"] == "n02123045"
    monkeypatch.setenv("MNV1_MODULE", "colours")
    assert len(rows(mnv1("labels").stdout)) == 3
    result = mnv1("labels", "--module", "nowhere")
    assert result.exit_code == 1
    assert "no module 'nowhere'" in result.stderr
