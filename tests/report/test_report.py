"""report: one page for every kind of result, by command and from Python."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnv1cli.errors import OptionError
from mnv1cli.inference import ranking
from mnv1cli.report.gallery import SimilarityGallery
from mnv1cli.report.report import ReportOptions, write_report
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.readers.similarities import GROUPS, MATCHES, open_similarities
from mnv1cli.results.rows import write_rows
from mnv1cli.types import Layout, Table
from tests.conftest import ROOT
from tests.support.report_pages import (
    METADATA,
    ParsedPage,
    list_photos,
    make_page,
    make_predictions,
    write_labels_csv,
    write_matches_csv,
    write_result,
)
from tests.support.shell import mnv1, program


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "wide.csv"])
def test_labels_in_every_format(folder: Path, form: str) -> None:
    paths = (*list_photos(folder), "photos/bad one.jpg")
    errors = ("",) * 6 + ("the file is empty",)
    table = Table(tuple(map(os.fsencode, paths)), errors, predictions=(*make_predictions(6), ()))
    file = folder / f"x.{form}"
    wide = form == "wide.csv"
    layout = Layout((5,), labels=True, errors=True, wide=wide)
    write_result(file, table, layout, METADATA)
    page = make_page(file)
    assert len(page.attributes("img")) == 6
    entries = page.entries()
    assert [entry["name"] for entry in entries] == list(paths[:6])
    assert [entry["labels"][0] for entry in entries] == ["tabby", "tabby", "espresso"] * 2
    for shown in ("50.0 %", "bad </script>.jpg", "the file is <empty>", "photos/bad one.jpg",
                  "the file is empty", "2 failed", "6 images", "<b>module</b>"):  # fmt: skip
        assert shown in page.text, shown


@pytest.mark.parametrize("form", ["csv", "npy", "npz", "parquet"])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_five_best_of_scores(folder: Path, form: str, output: str) -> None:
    paths = list_photos(folder)[:2]
    values = np.full((2, 1001), -20, np.float32)
    values[0, 282], values[1, 968], values[1, 282] = 5, 5, 5 - np.log(3)
    if output == "probabilities":
        values = ranking.softmax(values).astype(np.float32)
    table = Table(tuple(map(os.fsencode, paths)), ("", ""), values=values)
    write_result(folder / f"x.{form}", table, Layout((1001,)), {**METADATA, "output": output})
    page = make_page(folder / f"x.{form}")
    assert [entry["labels"][0] for entry in page.entries()] == ["tabby", "espresso"]
    assert all(len(entry["labels"]) == 5 for entry in page.entries())
    assert "75.0 %" in page.text
    assert "25.0 %" in page.text


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("grouped", [False, True])
def test_similarities_in_every_format(folder: Path, form: str, grouped: bool) -> None:
    paths = [os.fsencode(name) for name in list_photos(folder)]
    odd = b"photos/\xff.jpg"
    rows: list[tuple[Any, ...]] = [
        (paths[0], 1, paths[0], 1.0), (paths[0], 2, paths[1], 0.5), (odd, 1, odd, 0.25),
    ]  # fmt: skip
    if grouped:
        rows = [(1, paths[0], 0.5), (1, paths[1], 0.5), (2, odd, 0.25)]
    file = folder / f"x.{form}"
    outputs = ResultFiles(file, None, with_meta=form != "parquet")
    write_rows(outputs, form, GROUPS if grouped else MATCHES, rows, lambda: METADATA)
    similarities = open_similarities(file)
    assert similarities is not None
    entries = SimilarityGallery(similarities).select("results", 100)
    assert [entry.query for entry in entries] == ([b"", b""] if grouped else [paths[0], odd])
    assert entries[0].members[1] == (paths[1], 0.5)
    assert entries[1].members == ((odd, 0.25),)
    page = make_page(file)
    assert len(page.entries()) == 2
    assert len(page.attributes("img")) == (2 if grouped else 3)
    assert ("Group 2" in page.text) == grouped
    assert r"photos/\xff.jpg" in page.entries()[1]["name"]
    assert "1 failed" in page.text


def test_evaluation_has_figures_confusions_and_the_worst_mistake_first(folder: Path) -> None:
    file = write_labels_csv(folder / "x.csv", list_photos(folder))
    truth = folder / "truth.csv"
    truth.write_text("path,label\n" + "".join(f"{name},tabby\n" for name in list_photos(folder)))
    page = make_page(file, "--truth", truth)
    for shown in ("66.7 %", "95 %: 30.0 to 90.3 %", "100.0 %", "2 of 6", "mistaken for"):
        assert shown in page.text, shown
    entries = page.entries()
    assert [entry["verdict"] for entry in entries] == ["among"] * 2 + ["right"] * 4
    assert entries[0]["certainty"] > entries[1]["certainty"]
    assert [dict(a)["selected"] for a in page.attributes("option") if a.get("value") == "mistakes"]


def test_truth_in_the_names_of_folders(tmp_path: Path) -> None:
    paths = ["tabby/a.jpg", "photos.zip!/espresso/b.jpg", "tabby/c.jpg", "unheard of/d.jpg"]
    result = mnv1("report", write_labels_csv(tmp_path / "x.csv", paths), "-o", tmp_path / "x.html",
                  "--truth-folders")  # fmt: skip
    assert "1 image is of a class that the module does not have: unheard of" in result.stderr
    page = ParsedPage((tmp_path / "x.html").read_bytes())
    assert [entry["verdict"] for entry in page.entries()] == ["among", "among", "right", ""]
    assert "unheard of" in page.text


def test_own_labels(folder: Path) -> None:
    table = Table((b"a.jpg",), ("",), values=np.array([[1, 9, 2]], np.float32))
    write_result(folder / "x.npy", table, Layout((3,)), {**METADATA, "output": "logits"})
    (folder / "names.txt").write_text("oak\n<ash>\nelm\n")
    page = make_page(folder / "x.npy", "--labels", folder / "names.txt")
    assert page.entries()[0]["labels"] == ["<ash>", "elm", "oak"]
    result = mnv1("report", folder / "x.npy", "-o", folder / "y.html")
    assert "give them with --labels FILE" in result.stderr


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_nothing_to_show(tmp_path: Path, form: str) -> None:
    header = b"path,rank,class_id,wnid,label,probability\n" if form == "csv" else b""
    (tmp_path / f"x.{form}").write_bytes(header)
    assert "There is nothing to show" in make_page(tmp_path / f"x.{form}").text
    (tmp_path / "groups.csv").write_bytes(b"group,path,similarity\n")
    assert "0 groups" in make_page(tmp_path / "groups.csv").text


def test_page_on_stdout(folder: Path) -> None:
    write_labels_csv(folder / "x.csv", list_photos(folder))
    run = program("report", "x.csv", "-o", "-", cwd=folder, PYTHONPATH=str(ROOT))
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(b"<!doctype html>")
    assert re.fullmatch(rb"mnv1: 6 images, \d+ kB in stdout\n", run.stderr)


def test_from_python(folder: Path) -> None:
    write_labels_csv(folder / "x.csv", list_photos(folder))
    summary = write_report(folder / "x.csv", folder / "x.html", ReportOptions(title="A & B"))
    assert summary.startswith("6 images, ")
    assert f"<title>{html.escape('A & B')}</title>" in (folder / "x.html").read_text()
    with pytest.raises(OptionError, match="needs to know"):
        write_report(folder / "x.csv", folder / "y.html", ReportOptions(sort="mistakes"))
    assert not list(folder.glob("y.*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("none.csv -o x.html", 2, "no such file: none.csv"),
        ("x.csv -o x.csv", 2, "x.csv is not the name of a page; end it with .html"),
        ("x.csv -o there.html", 1, "there.html exists; add --force to replace it"),
        ("x.csv -o no/x.html", 1, "there is no folder no"),
        ("text.txt -o x.html", 1, "text.txt is no result of mnv1"),
        ("feats.npy -o x.html", 1, "feats.npy holds features, which no page can show; give"),
        ("x.csv -o x.html --truth t.csv --truth-folders", 2, "are two truths; give one of them"),
        ("x.csv -o x.html --truth none.csv", 2, "no such file: none.csv"),
        ("x.csv -o x.html --truth-folders", 1, "nothing can be evaluated"),
        ("x.csv -o x.html --sort mistakes", 2, "needs to know what the images show; add --truth"),
        ("s.csv -o x.html --truth-folders", 2, "--truth-folders is for labels, and s.csv holds"),
        ("s.csv -o x.html --labels l.txt", 2, "--labels is for labels, and s.csv holds"),
        ("s.csv -o x.html --sort label", 2, "--sort label is for labels"),
        ("x.csv -o x.html --base none", 2, "--base none is not a folder"),
        ("wide.csv -o x.html --truth-folders", 1, "wide.csv was made with --wide"),
        ("torn.csv -o x.html", 1, "torn.csv is damaged after row 1"),
        ("short.csv -o x.html", 1, "short.csv is damaged after row 0"),
        ("meta.csv -o x.html", 1, "the metadata of meta.csv are damaged"),
        ("torn.parquet -o x.html", 1, "cannot read torn.parquet"),
    ],
)
def test_misuse_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_labels_csv(Path("x.csv"), ["a.jpg"])
    write_matches_csv(Path("s.csv"), ["a.jpg"], ["a.jpg"])
    Path("text.txt").write_text("no result")
    Path("there.html").write_text("there")
    Path("t.csv").write_text("path,label\n")
    Path("wide.csv").write_text("path,label_1,probability_1\na.jpg,tabby,0.5\n")
    Path("torn.csv").write_text("query,rank,path,similarity\na,1,b,0.5\na,2,b,much\n")
    Path("short.csv").write_text("group,path,similarity\n1\n")
    write_labels_csv(Path("meta.csv"), ["a.jpg"])
    Path("meta.csv.meta.json").write_text('{"module": {}, "failures": [1]}')
    Path("torn.parquet").write_bytes(b"PAR1 and no more")
    table = Table((b"a.jpg",), ("",), values=np.ones((1, 4), np.float32))
    write_result(Path("feats.npy"), table, Layout((4,)), {**METADATA, "output": "features"})
    before = sorted(os.listdir())
    result = mnv1("report", *arguments.split())
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(os.listdir()) == before
    assert Path("there.html").read_text() == "there"


def test_output_must_be_named(tmp_path: Path) -> None:
    result = mnv1("report", write_labels_csv(tmp_path / "x.csv", ["a.jpg"]))
    assert result.exit_code == 2
    assert "Missing option '-o'" in result.stderr


def test_page_is_replaced_only_with_force_and_quietly(folder: Path) -> None:
    file = write_labels_csv(folder / "x.csv", list_photos(folder))
    page = folder / "x.html"
    page.write_text("old")
    assert mnv1("report", file, "-o", page).exit_code == 1
    assert page.read_text() == "old"
    result = mnv1("report", file, "-o", page, "--force", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert page.read_text().startswith("<!doctype html>")
    assert not list(folder.glob("*.part"))
