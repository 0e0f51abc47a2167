"""report: one page out of every kind of result, in which names are text and nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from mnv1cli.analysis import synthetic_photos
from mnv1cli.errors import OptionError
from mnv1cli.inference import ranking
from mnv1cli.labels import names as labels
from mnv1cli.path_text import text
from mnv1cli.report.gallery import Alike, Labelled
from mnv1cli.report.report import ReportOptions, write_report
from mnv1cli.results.files import META, ResultFiles
from mnv1cli.results.formats import FORMATS
from mnv1cli.results.readers.similarities import GROUPS, MATCHES, open_similarities
from mnv1cli.results.rows import write_rows
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.types import Layout, Prediction, Table
from tests.conftest import ROOT
from tests.support.shell import mnv1, program

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOSTILE = (
    "<img src=x onerror=hurt=1>.jpg",
    "a</script><script>hurt=1</script>.jpg",
    "\"'& onload=hurt=1 \u200b.jpg",
    "]]>--><!--.jpg",
)
TABBY, ESPRESSO = labels.imagenet()[282], labels.imagenet()[968]
METADATA = {
    "version": "0.1.0",
    "command": "classify",
    "module": {"handle": "https://example.org/<b>module</b>", "fingerprint": "2e", "image_size": 8},
    "exif": True,
    "output": "labels",
    "counts": {"done": 2, "failed": 1},
    "failures": [{"path": "bad </script>.jpg", "reason": "the file is <empty>"}],
}


def prediction(rank: int, name: labels.ClassName, probability: float) -> Prediction:
    return Prediction(rank, name.class_id, name.wnid, name.label, probability)


def predictions(count: int) -> tuple[tuple[Prediction, ...], ...]:
    """Five labels an image, of which every third is an espresso."""
    rest = tuple(prediction(rank, labels.imagenet()[rank], 0.0) for rank in (3, 4, 5))
    found = []
    for i in range(count):
        best, other = (ESPRESSO, TABBY) if i % 3 == 2 else (TABBY, ESPRESSO)
        probability = 0.5 + 0.49 * (i * 7 % max(count, 1)) / max(count, 1)
        first = (prediction(1, best, probability), prediction(2, other, 1 - probability))
        found.append((*first, *rest))
    return tuple(found)


def labels_csv(file: Path, names: Sequence[str | bytes]) -> Path:
    """What classify would have written of these, without metadata."""
    rows = [
        [text(os.fsencode(name)), p.rank, p.class_id, p.wnid, p.label, p.probability]
        for name, found in zip(names, predictions(len(names)), strict=True)
        for p in found
    ]
    header = ["path", "rank", "class_id", "wnid", "label", "probability"]
    file.write_bytes(encode_rows([header, *rows]))
    return file


def similar_csv(file: Path, queries: Iterable[str], names: Sequence[str]) -> Path:
    rows = [[q, i, n, 1 - i / 20] for q in queries for i, n in enumerate(names[:4], start=1)]
    file.write_bytes(encode_rows([list(MATCHES), *rows]))
    return file


def write_result(file: Path, table: Table, layout: Layout, metadata: dict[str, Any]) -> None:
    form = FORMATS[file.suffix[1:]]
    outputs = ResultFiles(
        file, None, form.sidecars, (), force=True, with_meta=not form.holds_metadata
    )  # fmt: skip
    writer = form.create(outputs, layout)
    writer.write(table)
    writer.close(metadata)
    if outputs.meta is not None:
        outputs.write_json(outputs.meta, metadata)
    outputs.commit()


class Parsed(HTMLParser):
    """The elements of a page, its text, and what is in its scripts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._in = ""
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "style":
            self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in == "style":
            self.styles[-1] += data
        else:
            self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def data(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.scripts[0])["entries"]
        return found


def made(results: Path, *more: object) -> Parsed:
    """The page that a command makes of results."""
    page = results.with_name("page.html")
    result = mnv1("report", results, "-o", page, "--force", *more)
    assert result.exit_code == 0, result.stderr
    return Parsed(page.read_bytes())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    synthetic_photos.write_pictures(folder, 6, 90, 60)
    return folder


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    """Six pictures in a folder `photos`."""
    shutil.copytree(source, tmp_path / "photos")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(f"photos/{path.name}" for path in (folder / "photos").iterdir())


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "wide.csv"])
def test_labels_in_every_format(folder: Path, form: str) -> None:
    paths = (*names(folder), "photos/bad one.jpg")
    errors = ("",) * 6 + ("the file is empty",)
    table = Table(tuple(map(os.fsencode, paths)), errors, predictions=(*predictions(6), ()))
    file = folder / f"x.{form}"
    wide = form == "wide.csv"
    layout = Layout((5,), labels=True, errors=True, wide=wide)
    write_result(file, table, layout, METADATA)
    page = made(file)
    assert len(page.of("img")) == 6
    entries = page.data()
    assert [entry["name"] for entry in entries] == list(paths[:6])
    assert [entry["labels"][0] for entry in entries] == ["tabby", "tabby", "espresso"] * 2
    for told in ("50.0 %", "bad </script>.jpg", "the file is <empty>", "photos/bad one.jpg",
                 "the file is empty", "2 failed", "6 images", "<b>module</b>"):  # fmt: skip
        assert told in page.text, told


@pytest.mark.parametrize("form", ["csv", "npy", "npz", "parquet"])
@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_five_best_of_scores(folder: Path, form: str, output: str) -> None:
    paths = names(folder)[:2]
    values = np.full((2, 1001), -20, np.float32)
    values[0, 282], values[1, 968], values[1, 282] = 5, 5, 5 - np.log(3)
    if output == "probabilities":
        values = ranking.softmax(values).astype(np.float32)
    table = Table(tuple(map(os.fsencode, paths)), ("", ""), values=values)
    write_result(folder / f"x.{form}", table, Layout((1001,)), {**METADATA, "output": output})
    page = made(folder / f"x.{form}")
    assert [entry["labels"][0] for entry in page.data()] == ["tabby", "espresso"]
    assert all(len(entry["labels"]) == 5 for entry in page.data())
    assert "75.0 %" in page.text
    assert "25.0 %" in page.text


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("grouped", [False, True])
def test_similarities_in_every_format(folder: Path, form: str, grouped: bool) -> None:
    paths = [os.fsencode(name) for name in names(folder)]
    odd = b"photos/\xff.jpg"
    rows: list[tuple[Any, ...]] = [
        (paths[0], 1, paths[0], 1.0), (paths[0], 2, paths[1], 0.5), (odd, 1, odd, 0.25),
    ]  # fmt: skip
    if grouped:
        rows = [(1, paths[0], 0.5), (1, paths[1], 0.5), (2, odd, 0.25)]
    file = folder / f"x.{form}"
    outputs = ResultFiles(file, None, with_meta=form != "parquet")
    write_rows(outputs, form, GROUPS if grouped else MATCHES, rows, lambda: METADATA)
    found = open_similarities(file)
    assert found is not None
    entries = Alike(found).chosen("results", 100)
    assert [entry.query for entry in entries] == ([b"", b""] if grouped else [paths[0], odd])
    assert entries[0].members[1] == (paths[1], 0.5)
    assert entries[1].members == ((odd, 0.25),)
    page = made(file)
    assert len(page.data()) == 2
    assert len(page.of("img")) == (2 if grouped else 3)
    assert ("Group 2" in page.text) == grouped
    assert r"photos/\xff.jpg" in page.data()[1]["name"]
    assert "1 failed" in page.text


def test_evaluation_has_figures_confusions_and_the_worst_mistake_first(folder: Path) -> None:
    file = labels_csv(folder / "x.csv", names(folder))
    truth = folder / "truth.csv"
    truth.write_text("path,label\n" + "".join(f"{name},tabby\n" for name in names(folder)))
    page = made(file, "--truth", truth)
    for told in ("66.7 %", "95 %: 30.0 to 90.3 %", "100.0 %", "2 of 6", "taken for"):
        assert told in page.text, told
    entries = page.data()
    assert [entry["verdict"] for entry in entries] == ["among"] * 2 + ["right"] * 4
    assert entries[0]["certainty"] > entries[1]["certainty"]
    assert [dict(a)["selected"] for a in page.of("option") if a.get("value") == "mistakes"]


def test_truth_in_the_names_of_folders(tmp_path: Path) -> None:
    paths = ["tabby/a.jpg", "photos.zip!/espresso/b.jpg", "tabby/c.jpg", "unheard of/d.jpg"]
    result = mnv1("report", labels_csv(tmp_path / "x.csv", paths), "-o", tmp_path / "x.html",
                  "--truth-folders")  # fmt: skip
    assert "1 image is of a class that the module does not have: unheard of" in result.stderr
    page = Parsed((tmp_path / "x.html").read_bytes())
    assert [entry["verdict"] for entry in page.data()] == ["among", "among", "right", ""]
    assert "unheard of" in page.text


def test_own_labels(folder: Path) -> None:
    table = Table((b"a.jpg",), ("",), values=np.array([[1, 9, 2]], np.float32))
    write_result(folder / "x.npy", table, Layout((3,)), {**METADATA, "output": "logits"})
    (folder / "names.txt").write_text("oak\n<ash>\nelm\n")
    page = made(folder / "x.npy", "--labels", folder / "names.txt")
    assert page.data()[0]["labels"] == ["<ash>", "elm", "oak"]
    result = mnv1("report", folder / "x.npy", "-o", folder / "y.html")
    assert "name your own with --labels FILE" in result.stderr


def test_names_are_text(folder: Path) -> None:
    for name in HOSTILE:
        if "/" not in name:
            shutil.copy(folder / names(folder)[0], folder / name)
    odd = b"no \xfftext\n\x1b[1m\xe2\x80\xae.jpg"
    shutil.copy(folder / names(folder)[0], folder / os.fsdecode(odd))
    page = made(labels_csv(folder / "x.csv", [*HOSTILE, odd]), "--title", "</title><b>")
    shown = [attributes["title"] for attributes in page.of("p") if "title" in attributes]
    assert shown == [HOSTILE[0], HOSTILE[1], HOSTILE[2].replace("\u200b", r"\u200b"), HOSTILE[3],
                     r"no \xfftext\n\x1b[1m\u202e.jpg"]  # fmt: skip
    assert [entry["name"] for entry in page.data()] == shown
    assert len(page.scripts) == 2
    assert "hurt" not in page.scripts[1]
    assert "<" not in page.scripts[0]
    # The one in a folder that is not there has a placeholder.
    assert len(page.of("img")) == 4
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_page_asks_for_nothing_and_runs_nothing_else(folder: Path) -> None:
    file = labels_csv(folder / "x.csv", [*names(folder), "http://example.org/a.jpg"])
    file.with_name(file.name + META).write_text(json.dumps(METADATA))
    page = made(file)
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "url(" not in page.styles[0]
    assert "@import" not in page.styles[0]
    assert not re.search(r"fetch|XMLHttp|import\(|innerHTML|eval", page.scripts[1])
    policy = page.of("meta")[1]["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for kind, code in (("style", page.styles[0]), ("script", page.scripts[1])):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy


def test_pictures_are_small_turned_and_bare(folder: Path) -> None:
    image = Image.effect_noise((1200, 600), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a secret"
    image.save(folder / "photos" / "turned.jpg", exif=exif)
    file = labels_csv(folder / "x.csv", ["photos/turned.jpg"])
    told = {**METADATA, "failures": []}
    for wanted, metadata in (((128, 256), told), ((256, 128), {**told, "exif": False})):
        file.with_name(file.name + META).write_text(json.dumps(metadata))
        (shown,) = made(file).of("img")
        data = base64.b64decode((shown["src"] or "").partition("base64,")[2])
        assert len(data) < 40_000
        assert b"secret" not in data
        with Image.open(io.BytesIO(data)) as small:
            assert small.size == wanted == (int(shown["width"] or 0), int(shown["height"] or 0))


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_images_in_archives(folder: Path, suffix: str) -> None:
    shutil.copytree(folder / "photos", folder / "all" / "deep")
    form = {"zip": "zip", "tar": "tar", "tar.gz": "gztar"}[suffix]
    shutil.make_archive(str(folder / "all"), form, folder / "all")
    shutil.rmtree(folder / "all")
    inside = [f"all.{suffix}!/deep/{os.path.basename(name)}" for name in names(folder)[:3]]
    page = made(labels_csv(folder / "x.csv", [*inside, f"all.{suffix}!/no.jpg", "no.zip!/a.jpg"]))
    assert len(page.of("img")) == 3
    assert "no such file in its archive" in page.text
    (folder / f"all.{suffix}").write_bytes(b"PK and nothing more")
    page = made(labels_csv(folder / "x.csv", inside))
    assert page.of("img") == []
    assert page.text.count("damaged archive") == 3


def test_what_is_no_picture_any_more_has_a_placeholder(folder: Path) -> None:
    os.mkfifo(folder / "fifo.jpg")
    (folder / "text.jpg").write_text("no image")
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    (folder / "bomb.png").write_bytes(bomb.getvalue())
    page = made(labels_csv(folder / "x.csv", ["gone.jpg", "fifo.jpg", "text.jpg", "bomb.png"]))
    assert page.of("img") == []
    for reason in ("no such file", "named pipe", "the file holds text", "too large"):
        assert reason in page.text, reason


def test_where_relative_paths_begin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    name = os.path.basename(names(folder)[0])
    file = labels_csv(elsewhere / "x.csv", [name, names(folder)[1]])
    monkeypatch.chdir(folder)
    # The second is seen from the current folder.
    assert len(made(file).of("img")) == 1
    shutil.copy(folder / names(folder)[0], elsewhere)
    assert len(made(file).of("img")) == 2
    page = made(file, "--base", "photos")
    assert len(page.of("img")) == 1


def test_one_image_more_than_a_page_holds(tmp_path: Path) -> None:
    file = labels_csv(tmp_path / "x.csv", [f"{i:04}.jpg" for i in range(2001)])
    result = mnv1("report", file, "-o", tmp_path / "x.html")
    told = (
        "2,001 images, of which the page has 2,000, in the order of --sort results: "
        "1 image is left out (--limit)"
    )
    assert result.stderr.splitlines()[0] == f"mnv1: warning: {told}"
    page = Parsed((tmp_path / "x.html").read_bytes())
    assert told in page.text
    assert len(page.data()) == 2000
    assert page.data()[-1]["name"] == "1999.jpg"
    assert (tmp_path / "x.html").stat().st_size < 4_000_000


@pytest.mark.parametrize(
    ("sort", "wanted"),
    [
        ("results", [0, 1, 2]),
        ("certain", [5, 4, 3]),
        ("uncertain", [0, 1, 2]),
        ("label", [5, 2, 4]),
        ("name", [5, 4, 3]),
    ],
)
def test_first_of_an_order(tmp_path: Path, sort: Any, wanted: list[int]) -> None:
    found = [
        (prediction(1, ESPRESSO if i % 3 == 2 else TABBY, 0.5 + i / 20), ) for i in range(6)
    ]  # fmt: skip
    table = Table(tuple(f"{9 - i}.jpg".encode() for i in range(6)), ("",) * 6,
                  predictions=tuple(found))  # fmt: skip
    write_result(tmp_path / "x.csv", table, Layout((1,), labels=True), METADATA)
    labelled = Labelled(tmp_path / "x.csv")
    assert [card.index for card in labelled.chosen(sort, 3)] == wanted
    assert labelled.total == 6


def test_query_that_comes_twice_is_two_entries(tmp_path: Path) -> None:
    file = similar_csv(tmp_path / "x.csv", ["a.jpg", "a.jpg", "b.jpg"], ["a.jpg", "b.jpg"])
    assert [entry["name"] for entry in made(file).data()] == [
        "a.jpg\na.jpg\nb.jpg", "a.jpg\na.jpg\nb.jpg", "b.jpg\na.jpg\nb.jpg",
    ]  # fmt: skip


def test_limit_counts_all_pictures_of_similarities(tmp_path: Path) -> None:
    paths = [f"{i}.jpg" for i in range(9)]
    file = similar_csv(tmp_path / "x.csv", paths[:3], paths)
    page = made(file, "--limit", 12)
    assert len(page.data()) == 2
    assert "3 queries, of which the page has 2" in page.text
    page = made(file, "--limit", 3)
    assert len(page.data()) == 1
    assert "of that one 2 images are left out" in page.text


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_nothing_to_show(tmp_path: Path, form: str) -> None:
    header = b"path,rank,class_id,wnid,label,probability\n" if form == "csv" else b""
    (tmp_path / f"x.{form}").write_bytes(header)
    assert "There is nothing to show" in made(tmp_path / f"x.{form}").text
    (tmp_path / "groups.csv").write_bytes(b"group,path,similarity\n")
    assert "0 groups" in made(tmp_path / "groups.csv").text


def test_page_on_stdout(folder: Path) -> None:
    labels_csv(folder / "x.csv", names(folder))
    run = program("report", "x.csv", "-o", "-", cwd=folder, PYTHONPATH=str(ROOT))
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(b"<!doctype html>")
    assert re.fullmatch(rb"mnv1: 6 images, \d+ kB in stdout\n", run.stderr)


def test_from_python(folder: Path) -> None:
    labels_csv(folder / "x.csv", names(folder))
    told = write_report(folder / "x.csv", folder / "x.html", ReportOptions(title="A & B"))
    assert told.startswith("6 images, ")
    assert f"<title>{html.escape('A & B')}</title>" in (folder / "x.html").read_text()
    with pytest.raises(OptionError, match="needs to know"):
        write_report(folder / "x.csv", folder / "y.html", ReportOptions(sort="mistakes"))
    assert not list(folder.glob("y.*"))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("none.csv -o x.html", 2, "no such file: none.csv"),
        ("x.csv -o x.csv", 2, "x.csv is no name of a page; end it in .html"),
        ("x.csv -o there.html", 1, "there.html exists; add --force to replace it"),
        ("x.csv -o no/x.html", 1, "there is no folder no"),
        ("text.txt -o x.html", 1, "text.txt is no result of mnv1"),
        ("feats.npy -o x.html", 1, "feats.npy holds features, which no page can show; give"),
        ("x.csv -o x.html --truth t.csv --truth-folders", 2, "are two truths; give one of them"),
        ("x.csv -o x.html --truth none.csv", 2, "no such file: none.csv"),
        ("x.csv -o x.html --truth-folders", 1, "nothing can be evaluated"),
        ("x.csv -o x.html --sort mistakes", 2, "needs to know what the images show; say so"),
        ("s.csv -o x.html --truth-folders", 2, "--truth-folders is for labels, and s.csv holds"),
        ("s.csv -o x.html --labels l.txt", 2, "--labels is for labels, and s.csv holds"),
        ("s.csv -o x.html --sort label", 2, "--sort label is for labels"),
        ("x.csv -o x.html --base none", 2, "--base none is no folder"),
        ("wide.csv -o x.html --truth-folders", 1, "wide.csv was made with --wide"),
        ("torn.csv -o x.html", 1, "torn.csv is damaged after row 1"),
        ("short.csv -o x.html", 1, "short.csv is damaged after row 0"),
        ("meta.csv -o x.html", 1, "the metadata of meta.csv are damaged"),
        ("torn.parquet -o x.html", 1, "cannot read torn.parquet"),
    ],
)
def test_misuse_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    labels_csv(Path("x.csv"), ["a.jpg"])
    similar_csv(Path("s.csv"), ["a.jpg"], ["a.jpg"])
    Path("text.txt").write_text("no result")
    Path("there.html").write_text("there")
    Path("t.csv").write_text("path,label\n")
    Path("wide.csv").write_text("path,label_1,probability_1\na.jpg,tabby,0.5\n")
    Path("torn.csv").write_text("query,rank,path,similarity\na,1,b,0.5\na,2,b,much\n")
    Path("short.csv").write_text("group,path,similarity\n1\n")
    labels_csv(Path("meta.csv"), ["a.jpg"])
    Path("meta.csv.meta.json").write_text('{"module": {}, "failures": [1]}')
    Path("torn.parquet").write_bytes(b"PAR1 and no more")
    table = Table((b"a.jpg",), ("",), values=np.ones((1, 4), np.float32))
    write_result(Path("feats.npy"), table, Layout((4,)), {**METADATA, "output": "features"})
    before = sorted(os.listdir())
    result = mnv1("report", *arguments.split())
    assert result.exit_code == code, result.stderr
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(os.listdir()) == before
    assert Path("there.html").read_text() == "there"


def test_output_must_be_named(tmp_path: Path) -> None:
    result = mnv1("report", labels_csv(tmp_path / "x.csv", ["a.jpg"]))
    assert result.exit_code == 2
    assert "Missing option '-o'" in result.stderr


def test_page_is_replaced_only_with_force_and_quietly(folder: Path) -> None:
    file = labels_csv(folder / "x.csv", names(folder))
    page = folder / "x.html"
    page.write_text("old")
    assert mnv1("report", file, "-o", page).exit_code == 1
    assert page.read_text() == "old"
    result = mnv1("report", file, "-o", page, "--force", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert page.read_text().startswith("<!doctype html>")
    assert not list(folder.glob("*.part"))
