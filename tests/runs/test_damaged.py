"""Runs with --damaged accept: rows and warnings in every format, with every runner and loader."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from mnv1cli import Classifier
from mnv1cli.cluster import task
from mnv1cli.errors import ImageError, OptionError
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.settings import Settings
from mnv1cli.results.dataset import Dataset, dataset_layout
from mnv1cli.results.readers import open_result
from mnv1cli.runs import journal
from mnv1cli.storage.location import Location
from mnv1cli.types import ImageRef, Task
from tests.support.images import encode, noise
from tests.support.shell import BUNDLED, EXAMPLES, mnv1, program, rows, run

if TYPE_CHECKING:
    from pathlib import Path

ACCEPT = ("--damaged", "accept")
CUT = "damaged JPEG: truncated, its end is missing"
CLOSED = "damaged JPEG: a part of its pixels is missing"
# The images in their order, with their warnings; the last has no pixels.
WARNINGS = {"closed.jpg": CLOSED, "cut.jpg": CUT, "good.jpg": "", "grey.jpg": CUT, "none.jpg": ""}
DAMAGED = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    data = (EXAMPLES / "coffee.jpg").read_bytes()
    with Image.open(EXAMPLES / "rocket.jpg") as image:
        image.convert("L").save(folder / "grey.jpg", progressive=True)
    grey = (folder / "grey.jpg").read_bytes()
    contents = {
        "good.jpg": data,
        "cut.jpg": data[: len(data) * 2 // 3],
        "closed.jpg": data[: len(data) // 2] + b"\xff\xd9",
        "grey.jpg": grey[: len(grey) // 2],
        "none.jpg": data[:90],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def read(source: Any) -> dict[str, tuple[str, str, Any]]:
    """Read error, warning and results of each image, by its name."""
    images = {}
    for table in open_result(source).tables():
        values = table.predictions or table.values
        assert values is not None
        for path, *cells in zip(table.paths, table.errors, table.warnings, values, strict=True):
            images[path.rpartition(b"/")[2].decode()] = tuple(cells)
    return images


@pytest.mark.parametrize("on_error", ["skip", "row"])
@pytest.mark.parametrize(
    ("command", "form"),
    [
        *(("classify", form) for form in ("csv", "tsv", "jsonl", "parquet", "wide")),
        *(("embed", form) for form in ("csv", "jsonl", "npy", "npz", "parquet")),
    ],
)
def test_each_format_has_the_warnings(
    folder: Path, tmp_path: Path, command: str, form: str, on_error: str
) -> None:
    out = tmp_path / f"x.{'csv' if form == 'wide' else form}"
    options = [*BUNDLED, "--on-error", on_error, *(["--wide"] if form == "wide" else [])]
    result = mnv1(command, folder, *options, *ACCEPT, "-o", out)
    assert result.exit_code == 3
    for name, warning in WARNINGS.items():
        assert (f"{name}: {warning}; accepted\n" in result.stderr) == bool(warning)
    assert f"1 failed, {DAMAGED} damaged and accepted" in result.stderr
    images = read(out)
    assert list(images) == list(WARNINGS)[: 4 + (on_error == "row")]
    for name, (error, warning, values) in images.items():
        assert warning == WARNINGS[name]
        assert bool(error) == (name == "none.jpg")
        assert error or len(values)
    metadata = open_result(out).metadata
    assert metadata
    assert metadata.to_json()["damaged"] == "accept"
    assert metadata.to_json()["counts"] == {"done": 4, "failed": 1, "damaged": DAMAGED}
    # What is whole has the same results as where damage is refused, and that has no column.
    plain = tmp_path / f"plain{out.suffix}"
    assert mnv1(command, folder, *options, "-o", plain).exit_code == 3
    refused = open_result(plain)
    (table,) = refused.tables()
    assert refused.metadata
    assert not {"damaged"} & {*refused.metadata.to_json(), *refused.metadata.to_json()["counts"]}
    assert refused.layout
    assert not refused.layout.warnings
    place = [path.endswith(b"good.jpg") for path in table.paths].index(True)
    values = (table.predictions or table.values)[place]  # type: ignore[index]
    np.testing.assert_array_equal(np.array(values, object), np.array(images["good.jpg"][2], object))


def test_columns_are_before_that_of_errors(folder: Path) -> None:
    run_options = (*BUNDLED, *ACCEPT, "--on-error", "row", "--top", 1, "-q")
    result = mnv1("classify", folder, *run_options, "-f", "csv", "--with-meta")
    assert list(rows(result.stdout)[0])[-3:] == ["exif_datetime", "warning", "error"]
    lines = mnv1("classify", folder, *run_options, "-f", "jsonl").stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert list(records[0])[-2:] == ["warning", "error"]
    assert [record["warning"] or "" for record in records] == list(WARNINGS.values())
    table = mnv1("classify", folder, *run_options, "-f", "table").stdout
    assert table.count("damaged JPEG") == DAMAGED + 1


def test_loaders_and_engines_agree(folder: Path, tmp_path: Path) -> None:
    for name, options in {"a": [], "b": ["--loader", "tf.data"], "c": ["--engine", "tf"]}.items():
        out = tmp_path / f"{name}.csv"
        mnv1("classify", folder, *BUNDLED, *ACCEPT, *options, "--top", 1, "-o", out)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    texts = [[row["warning"] for row in rows((tmp_path / f"{n}.csv").read_bytes())] for n in "ac"]
    assert texts[0] == texts[1] == list(WARNINGS.values())[:4]


def test_append_and_skip_compare_the_setting(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    first = (folder / "cut.jpg", *BUNDLED, "-o", out)
    run("classify", *first, *ACCEPT)
    result = mnv1("classify", folder, *BUNDLED, "--skip-existing", out, "--append")
    assert result.exit_code == 1
    assert f"{out} was made with --damaged accept, not refuse" in result.stderr
    mnv1("classify", folder, *BUNDLED, *ACCEPT, "--skip-existing", out, "--append")
    metadata = open_result(out).metadata
    assert metadata
    assert metadata.to_json()["counts"] == {"done": 4, "failed": 1, "damaged": DAMAGED}
    plain = tmp_path / "plain.csv"
    run("classify", folder / "good.jpg", *BUNDLED, "-o", plain)
    result = mnv1("classify", folder, *BUNDLED, *ACCEPT, "--skip-existing", plain, "--append")
    assert f"{plain} was made with --damaged refuse, not accept" in result.stderr


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_resume_compares_the_setting_and_goes_on_counting(
    folder: Path, tmp_path: Path, form: str
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, name in enumerate(["cut.jpg", "none.jpg", "grey.jpg"]):
        (photos / f"{number}.jpg").write_bytes((folder / name).read_bytes())
    out = tmp_path / f"x.{form}"
    # A batch for each image, so that the first is safe before the second ends the run.
    options = ("--on-error", "fail", "--batch-size", 1)
    command = ("classify", photos, *BUNDLED, *options, "-o", out)
    assert mnv1(*command, *ACCEPT).exit_code == 1
    (photos / "1.jpg").write_bytes((folder / "good.jpg").read_bytes())
    result = mnv1(*command, "--resume")
    assert "was begun with --damaged accept, not refuse" in result.stderr
    run(*command, *ACCEPT, "--resume")
    metadata = open_result(out).metadata
    assert metadata
    assert metadata.counts
    assert metadata.counts.damaged == 2
    texts = [warning for table in open_result(out).tables() for warning in table.warnings]
    assert texts[0] == texts[-1] == CUT


def test_a_run_that_an_earlier_version_began_refused_damage() -> None:
    journal.check_settings("x.csv", {"--top": 5}, {"--top": 5, "--damaged": "refuse"})
    with pytest.raises(Exception, match="was begun with --damaged refuse, not accept"):
        journal.check_settings("x.csv", {"--top": 5}, {"--top": 5, "--damaged": "accept"})


@pytest.mark.parametrize("form", ["csv", "npz", "parquet"])
def test_shards_are_merged_with_their_warnings(folder: Path, tmp_path: Path, form: str) -> None:
    options = (folder, *BUNDLED, *ACCEPT, "--on-error", "row", "-q")
    whole, merged = tmp_path / f"whole.{form}", tmp_path / f"merged.{form}"
    mnv1("embed", *options, "-o", whole)
    parts = [tmp_path / f"{i}.{form}" for i in range(2)]
    for i, part in enumerate(parts):
        mnv1("embed", *options, "--shard", f"{i}/2", "-o", part)
    run("merge", *parts, "-o", merged)
    assert str(read(merged)) == str(read(whole))
    metadata = open_result(merged).metadata
    assert metadata
    assert metadata.counts
    assert metadata.counts.damaged == DAMAGED
    plain = tmp_path / f"plain.{form}"
    run("embed", EXAMPLES, *BUNDLED, "-o", plain)
    result = mnv1("merge", whole, plain, "-o", tmp_path / f"no.{form}")
    assert "made with --damaged" in result.stderr


def test_a_dataset_has_warnings_and_compares_the_setting(folder: Path, tmp_path: Path) -> None:
    place = f"{tmp_path}/out/"
    command = ("classify", *BUNDLED, "--top", 2, "-o", place)
    run(*command, *ACCEPT, folder / "cut.jpg", folder / "good.jpg")
    result = mnv1(*command, *ACCEPT, folder)
    assert "3 images" not in result.stderr
    assert "2 damaged and accepted" in result.stderr
    images = read(Location(place))
    assert {name: warning for name, (_, warning, _) in images.items()} == WARNINGS
    metadata = open_result(Location(place)).metadata
    assert metadata
    assert metadata.to_json()["counts"] == {"done": 4, "failed": 1, "damaged": DAMAGED}
    assert "was made with --damaged accept, not refuse" in mnv1(*command, folder).stderr


def test_a_task_of_a_cluster_returns_the_damaged_images(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    job = Predictor("bundled", Settings(threads=1, damaged="accept")).make_job(Task("embed"))
    dataset = Dataset(Location(f"{tmp_path}/out/"))
    dataset.begin()
    schema = dataset.make_schema(dataset_layout(job.task, job.shape, warnings=True), job.metadata())
    order = task.Order(None, dataset.location, dataset.run, schema.metadata, "/", "", {})
    refs = [ImageRef(i, str(folder / name).encode()) for i, name in enumerate(WARNINGS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "_node", lambda: "")
        outcome = task.do_share(task.Share(0, refs), order, job)
    assert [fault.reason for fault in outcome.damaged] == [CLOSED, CUT, CUT]
    assert (outcome.done, len(outcome.faults)) == (4, 1)
    assert {name: cells[1] for name, cells in read(dataset.location).items()} == WARNINGS


def test_ray_writes_the_rows_of_the_local_runner(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    command = ("classify", folder, *BUNDLED, *ACCEPT, "--threads", 1)
    results = [
        program(*command, "-o", f"{tmp_path}/{runner}/", "--runner", runner)
        for runner in ("local", "ray")
    ]
    for result in results:
        text = result.stderr.decode()
        assert result.returncode == 3, text
        assert text.count("; accepted\n") == DAMAGED
        assert f"{DAMAGED} damaged and accepted" in text
    assert read(Location(f"{tmp_path}/ray/")) == read(Location(f"{tmp_path}/local/"))


def test_evaluate_counts_what_is_damaged(folder: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("path,label\n" + "".join(f"{name},espresso\n" for name in WARNINGS))
    options = ("--truth", truth, *BUNDLED)
    for saved in ("classify", "logits"):
        out = tmp_path / f"{saved}.csv"
        mnv1(saved, folder, *BUNDLED, *ACCEPT, "-o", out)
        figures = json.loads(mnv1("evaluate", "--from", out, *options, "--json").stdout)
        assert (figures["n"], figures["failed"], figures["damaged"]) == (4, 1, DAMAGED)
    live = mnv1("evaluate", folder, *options, *ACCEPT)
    assert ["damaged", "and", "accepted", str(DAMAGED)] in map(str.split, live.stdout.splitlines())
    assert live.stderr.count("; accepted\n") == DAMAGED
    plain = json.loads(mnv1("evaluate", folder, *options, "--json").stdout)
    assert "damaged" not in plain


def test_similar_takes_the_setting_of_the_index(folder: Path, tmp_path: Path) -> None:
    index, out = tmp_path / "index.npz", tmp_path / "similar.jsonl"
    mnv1("embed", folder, *BUNDLED, *ACCEPT, "-o", index)
    result = run("similar", index, folder / "cut.jpg", "-o", out)
    assert f"cut.jpg: {CUT}; accepted" in result.stderr
    assert "1 query, 1 damaged and accepted" in result.stderr
    metadata = json.loads((tmp_path / "similar.jsonl.meta.json").read_text())
    assert metadata["damaged"] == "accept"
    assert metadata["counts"] == {"index": 4, "done": 1, "failed": 0, "damaged": 1}
    best = json.loads(out.read_text().splitlines()[0])
    assert best["path"] == best["query"]


def test_training_takes_damaged_photos(tmp_path: Path) -> None:
    for name in ("dark", "light"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            pixels = noise(90, 90, len(name) + 10 * i) // 2 + 127 * (name == "light")
            data = encode(Image.fromarray(pixels), "JPEG")
            cut = data[: len(data) * 3 // 4] if i == 0 else data
            (tmp_path / "photos" / name / f"{i}.jpg").write_bytes(cut)
    command = ("finetune", tmp_path / "photos", *BUNDLED, "--json", "-o")
    result = run(*command, tmp_path / "module", *ACCEPT)
    figures = json.loads(result.stdout)
    assert (figures["images"], figures["failed"], figures["damaged"]) == (6, 0, 2)
    assert result.stderr.count(f"0.jpg: {CUT}; accepted\n") == 2
    figures = json.loads(mnv1(*command, tmp_path / "other").stdout)
    assert (figures["images"], figures["failed"]) == (4, 2)
    assert "damaged" not in figures


@pytest.mark.parametrize("command", ["classify", "logits"])
def test_report_shows_picture_and_warning(folder: Path, tmp_path: Path, command: str) -> None:
    results, page = tmp_path / "x.csv", tmp_path / "x.html"
    mnv1(command, folder, *BUNDLED, *ACCEPT, "-o", results)
    run("report", results, "-o", page)
    html = page.read_text()
    assert html.count(f'<p class="mark">{CUT}</p>') == 2
    assert html.count(f'<p class="mark">{CLOSED}</p>') == 1
    assert "no picture" not in html


def test_python(folder: Path) -> None:
    classifier = Classifier("bundled", damaged="accept")
    images = [folder / name for name in WARNINGS]
    results = classifier.classify([*images, images[1].read_bytes()], on_error="row")
    assert [result.warning for result in results] == [*WARNINGS.values(), CUT]
    assert [bool(result.error) for result in results] == [False] * 4 + [True, False]
    assert results[1].predictions == results[5].predictions
    for vector in classifier.iter_embed(images[:2]):
        assert vector.warning
        assert np.isfinite(vector.values).all()
    with pytest.raises(ImageError, match=CUT):
        Classifier("bundled").classify(images[1])
    with pytest.raises(OptionError, match="damaged='maybe' is not valid"):
        Classifier("bundled", damaged="maybe")  # type: ignore[arg-type]
