"""`mnv1 evaluate`: the same figures from images and from results, and what is refused."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.analysis import evaluation_files
from mnv1cli.analysis.truth import FolderTruth
from mnv1cli.api import Classifier
from mnv1cli.labels.names import imagenet
from tests.conftest import ROOT
from tests.support.shell import mnv1, program, rows

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "examples" / "photos"
TRUTH = ROOT / "examples" / "truth.csv"
BUNDLED = ("--module", "bundled")
KEYS = ["n", "top1", "top5", "top1_interval", "top5_interval", "mean_per_class", "ece", "failed"]
CLASSES = {"chelsea.png": "Egyptian_cat", "coffee.jpg": "n07920052_x", "rocket.jpg": "658"}
LABELS = ("classify.csv", "classify.tsv", "classify.jsonl", "classify.parquet")
SCORES = tuple(f"logits.{name}" for name in ("csv", "tsv", "jsonl", "npy", "npz", "parquet"))


def figures(*arguments: object, exit_code: int = 0) -> Any:
    """The figures of an evaluation."""
    result = mnv1("evaluate", *arguments, "--json")
    assert result.exit_code == exit_code, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example photos in folders of their classes, some deeper, and one that is broken."""
    top = tmp_path_factory.mktemp("labelled") / "photos"
    for name, label in CLASSES.items():
        (top / label / "more").mkdir(parents=True)
        shutil.copy(EXAMPLES / name, top / label)
        shutil.copy(EXAMPLES / name, top / label / "more")
    (top / "tabby").mkdir()
    (top / "tabby" / "bad.jpg").write_bytes(b"no picture")
    return top


@pytest.fixture(scope="module")
def results(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What classify and logits write of them in every format."""
    out = tmp_path_factory.mktemp("results")
    for name in (*LABELS, *SCORES):
        command = name.partition(".")[0]
        assert mnv1(command, folders, *BUNDLED, "-q", "-o", out / name).exit_code == 3
        if command == "logits":
            more = ("--probabilities", "-q", "-o", out / f"p{name}")
            assert mnv1(command, folders, *BUNDLED, *more).exit_code == 3
    return out


@pytest.fixture(scope="module")
def from_images(folders: Path) -> Any:
    return figures(folders, *BUNDLED, exit_code=3)


@pytest.fixture(scope="module")
def names(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth of the shared photos, which stands in their names."""
    file = tmp_path_factory.mktemp("truth") / "truth.csv"
    found = sorted(os.listdir(photos))
    file.write_text("path,label\n" + "".join(f"{name},{name}\n" for name in found))
    return file


def test_shared_photos_are_labelled_as_well_as_the_reference(
    photos: Path, names: Path, tmp_path: Path
) -> None:
    found = figures(photos, "--truth", names, *BUNDLED, "--no-exif")
    assert list(found) == KEYS
    assert (found["n"], found["failed"]) == (93, 0)
    assert found["top1"] == pytest.approx(55 / 93)
    assert found["top5"] == pytest.approx(75 / 93)
    turned = figures(photos, "--truth", names, *BUNDLED)
    for key, rate in (("top1", 0.5914), ("top5", 0.8065)):
        low, high = turned[f"{key}_interval"]
        assert low < rate < high


def test_scores_of_others_do_without_metadata(shared: Path, names: Path, tmp_path: Path) -> None:
    reference = np.load(shared / "reference.npz")
    np.save(tmp_path / "x.npy", reference["logits"])
    lines = [f"{i},{name}\n" for i, name in enumerate(reference["names"])]
    (tmp_path / "x.index.csv").write_text("row,path\n" + "".join(lines))
    found = figures("--from", tmp_path / "x.npy", "--truth", names)
    assert (found["top1"], found["top5"]) == (55 / 93, 75 / 93)
    # Independently, with numpy.
    logits = reference["logits"].astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wnids = np.array([name.wnid for name in imagenet()])
    truth = np.array([np.flatnonzero(wnids == name[:9])[0] for name in reference["names"]])
    best, sure = softmax.argmax(axis=1), softmax.max(axis=1)
    bins = np.ceil(sure * 15)
    ece = sum(
        abs(np.sum(sure[bins == b]) - np.sum((best == truth)[bins == b])) for b in set(bins)
    ) / len(best)
    assert found["ece"] == pytest.approx(ece, abs=1e-6)
    accuracies = [np.mean((best == truth)[truth == each]) for each in set(truth.tolist())]
    assert found["mean_per_class"] == pytest.approx(np.mean(accuracies))


def test_folders_tell_what_images_show(from_images: Any) -> None:
    assert list(from_images) == KEYS
    assert from_images["n"] == 6
    assert from_images["top1"] == pytest.approx(4 / 6)
    assert from_images["top5"] == 1
    assert from_images["failed"] == 1


@pytest.mark.parametrize("name", [*LABELS, *SCORES, *(f"p{name}" for name in SCORES)])
@pytest.mark.parametrize("told", [True, False])
def test_results_give_the_same_figures_as_images(
    results: Path, from_images: Any, tmp_path: Path, name: str, told: bool
) -> None:
    file = tmp_path / name
    for each in results.glob(name.rpartition(".")[0] + ".*"):
        if told or not each.name.endswith(".meta.json"):
            shutil.copy(each, tmp_path)
    inside = file.suffix in (".npz", ".parquet")
    found = figures("--from", file, exit_code=3 if told or inside else 0)
    assert {**found, "failed": 1} == from_images


def test_images_that_failed_in_place_are_counted(folders: Path, tmp_path: Path) -> None:
    for name in ("classify.csv", "logits.npy"):
        out = tmp_path / name
        command = name.partition(".")[0]
        more = ("--on-error", "row", "-o", out, "-q")
        assert mnv1(command, folders, *BUNDLED, *more).exit_code == 3
        assert figures("--from", out, exit_code=3)["failed"] == 1
        (tmp_path / f"{name}.meta.json").unlink()
        assert figures("--from", out, exit_code=3)["failed"] == 1
    # And where the index does not tell of them.
    lines = (tmp_path / "logits.index.csv").read_text().splitlines()
    bare = [",".join(line.split(",")[:2]) for line in lines]
    (tmp_path / "logits.index.csv").write_text("\n".join(bare) + "\n")
    assert figures("--from", tmp_path / "logits.npy", exit_code=3)["failed"] == 1


def test_no_model_is_loaded_for_results(results: Path, unwritable_cache: Path) -> None:
    code = (
        "import sys\nfrom mnv1cli.cli.main import cli\n"
        "try:\n    cli(sys.argv[1:])\nexcept SystemExit as end:\n    print(end.code)\n"
        "heavy = {'tensorflow', 'ai_edge_litert', 'PIL.Image', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    for name in ("classify.csv", "logits.npy"):
        run = [sys.executable, "-c", code, "evaluate", "--from", str(results / name), "--json"]
        found = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
        assert found.stdout.endswith("}\n3\n[]\n"), found
        assert found.stderr == ""


def test_figures_for_people_are_on_stdout_and_remarks_are_not(folders: Path) -> None:
    result = mnv1("evaluate", folders, *BUNDLED)
    assert result.exit_code == 3
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[1:3] == ["images                      6",
                          "top-1                       66.7 %   30.0 % to 90.3 %"]  # fmt: skip
    assert lines[-1] == "could not be read           1"
    assert result.stderr.splitlines() == [
        f"mnv1: {folders}/tabby/bad.jpg: not an image: the file holds text"
    ]


def test_rows_by_class_and_image_are_written(folders: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.csv" for name in ("per-class", "confusion", "mistakes")]
    options = [each for file in files for each in (f"--{file.stem}", file)]
    assert mnv1("evaluate", folders, *BUNDLED, *options, "-q").exit_code == 3
    per_class, confusion, mistakes = (rows(file.read_bytes()) for file in files)
    assert [list(row.values()) for row in per_class] == [
        ["286", "n02124075", "Egyptian cat", "2", "1.0", "1.0"],
        ["658", "n03773504", "missile", "2", "0.0", "1.0"],
        ["968", "n07920052", "espresso", "2", "1.0", "1.0"],
    ]
    assert list(per_class[0]) == ["class_id", "wnid", "label", "n", "top1", "top5"]
    assert [(row["truth_id"], row["predicted_id"], row["count"]) for row in confusion] == [
        ("286", "286", "2"), ("658", "734", "2"), ("968", "968", "2"),
    ]  # fmt: skip
    assert [row["path"] for row in mistakes] == [
        f"{folders}/658/more/rocket.jpg", f"{folders}/658/rocket.jpg",
    ]  # fmt: skip
    assert mistakes[0]["predicted"] == "pole"
    assert float(mistakes[0]["probability"]) == pytest.approx(0.5485, abs=1e-3)


def test_mistakes_come_surest_first(photos: Path, names: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.csv"
    found = figures(photos, "--truth", names, *BUNDLED, "--mistakes", out)
    written = rows(out.read_bytes())
    assert list(written[0]) == ["path", "truth", "predicted", "probability"]
    assert len(written) == round(93 * (1 - found["top1"]))
    probabilities = [float(row["probability"]) for row in written]
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.parametrize("where", ["reported", "beside", "below", "bare"])
def test_list_finds_its_images(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EXAMPLES, tmp_path / "data" / "photos")
    prefix = {"reported": "data/photos/", "beside": "photos/", "below": "", "bare": ""}[where]
    label = CLASSES["chelsea.png"]
    (tmp_path / "data" / "t.csv").write_text(f"path,label\n{prefix}chelsea.png,{label}\n")
    result = mnv1("evaluate", "data/photos", "--truth", "data/t.csv", *BUNDLED, "--json")
    assert json.loads(result.stdout)["n"] == 1
    assert result.stderr == (
        "mnv1: warning: the truth of 2 images is unknown: data/photos/coffee.jpg, ...\n"
    )


def test_list_names_the_images_where_there_is_no_input() -> None:
    found = figures("--truth", TRUTH, *BUNDLED)
    assert found["n"] == 3


def test_image_of_the_list_that_is_not_there_is_a_bad_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"path,label\n{EXAMPLES}/coffee.jpg,968\nnone.jpg,1\n")
    result = mnv1("evaluate", "--truth", tmp_path / "t.csv", *BUNDLED, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["failed"] == 1
    assert len(result.stderr.splitlines()) == 1
    assert "none.jpg" in result.stderr


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    for name in ("espresso", "crane", "unicorn"):
        (tmp_path / name).mkdir()
        shutil.copy(EXAMPLES / "coffee.jpg", tmp_path / name)
    (tmp_path / "none").mkdir()
    result = mnv1("evaluate", tmp_path, tmp_path / "none", *BUNDLED, "--json")
    assert json.loads(result.stdout)["n"] == 1
    assert result.stderr.splitlines() == [
        f"mnv1: warning: no images in {tmp_path}/none",
        "mnv1: warning: 1 image is of a class that the module does not have: unicorn",
        "mnv1: warning: 1 image is of a label that two classes have: crane; "
        "name the class by WordNet id or class id",
    ]
    quiet = mnv1("evaluate", tmp_path, *BUNDLED, "--json", "-q")
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


def test_own_labels_are_told_to_results_of_own_labels(folders: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    lines = [f"thing {i}\n" for i in range(1001)]
    own.write_text("".join(lines))
    out = tmp_path / "x.csv"
    coffee = folders / CLASSES["coffee.jpg"] / "coffee.jpg"
    assert mnv1("classify", coffee, *BUNDLED, "--labels", own, "-o", out, "-q").exit_code == 0
    (tmp_path / "t.csv").write_text("path,label\ncoffee.jpg,THING_968\n")
    run = ("evaluate", "--from", out, "--truth", tmp_path / "t.csv")
    assert mnv1(*run, "--labels", own, "--json").exit_code == 0
    refused = mnv1(*run)
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"mnv1: error: {out} was made with other class names; give them with --labels FILE\n"
    )


# --- misuse ----------------------------------------------------------------------


def one_line(*arguments: object, exit_code: int) -> str:
    """The error of a run that fails with one line, and writes nothing."""
    result = mnv1("evaluate", *arguments)
    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("mnv1: error: ")
    return line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo").mkdir()
    shutil.copy(EXAMPLES / "coffee.jpg", tmp_path / "photo")
    for each in results.glob("classify.csv*"):
        shutil.copy(each, tmp_path)
    for name, content in {
        "no columns.csv": "name,what\na,b\n",
        "two.csv": "path,label\na.jpg,1\na.jpg,2\n",
        "crane.csv": "path,label\ncoffee.jpg,crane\n",
        "good.csv": "path,label\ncoffee.jpg,968\n",
        "there.csv": "",
        "text.csv": "what ever\n",
    }.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        ("", 2, "no input"),
        ("none", 2, "no such file or folder: none"),
        ("photo --truth none.csv", 2, "no such file: none.csv"),
        ("photo --truth photo", 1, "cannot read the truth in photo: Is a directory"),
        ("photo --truth text.csv", 1, "no columns 'path' and 'label'"),
        ("photo --truth 'no columns.csv'", 1, "no columns 'path' and 'label'"),
        ("photo --truth two.csv", 1, "two.csv has two labels for a.jpg"),
        ("photo --from classify.csv", 2, "--from evaluates an existing result"),
        ("--from none.csv", 2, "no such file: none.csv"),
        ("--from text.csv", 1, "text.csv is no result of mnv1"),
        ("--from photo", 1, "photo is no dataset of mnv1: it has"),
        ("photo --module bundled", 1, "nothing can be evaluated: 1 image is of a class that the "
         "module does not have: photo"),
        ("photo --module bundled --truth crane.csv", 1,
         "1 image is of a label that two classes have: crane"),
        ("--from classify.csv --truth good.csv --per-class there.csv", 1, "there.csv exists"),
        ("--from classify.csv --per-class x.csv --mistakes ./x.csv", 2, "files to write are the"),
        ("--from classify.csv --truth good.csv --mistakes good.csv --force", 2, "good.csv is read"),
        ("--from classify.csv --mistakes classify.csv --force", 2, "classify.csv is read"),
        ("--from classify.csv --mistakes none/x.csv", 1, "there is no folder none"),
        ("--from classify.csv --mistakes photo", 1, "it is a folder"),
        ("--from classify.csv --labels none.txt", 1, "cannot read the labels"),
    ],
)  # fmt: skip
def test_misuse_is_told_in_one_line(here: Path, arguments: str, exit_code: int, said: str) -> None:
    before = {name: os.stat(name).st_mtime_ns for name in os.listdir(here)}
    assert said in one_line(*shlex.split(arguments), exit_code=exit_code)
    assert {name: os.stat(name).st_mtime_ns for name in os.listdir(here)} == before


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (("embed", "-o", "x.csv"), "holds features, neither labels nor logits"),
        (("embed", "-o", "x.npy"), "holds features, neither labels nor logits"),
        (("embed",), "has 1024 numbers per image, but there are 1001 names"),
        (("classify", "--wide", "-o", "x.csv"), "was made with --wide and has no class ids"),
        (
            ("classify", "--top", 3, "-o", "x.csv"),
            "lacks some of the first 5 labels of photo",
        ),
        (("classify", "--top", 3), "lacks some of the first 5 labels of photo/coffee.jpg"),
        (
            ("classify", "--min-probability", 0.01, "-o", "x.jsonl"),
            "lacks the first labels of some images",
        ),
        (
            ("classify", "--min-probability", 0.01),
            "lacks some of the first 5 labels of photo/coffee.jpg",
        ),
    ],
)
def test_results_that_do_not_tell_enough_are_refused(
    here: Path, run: tuple[object, ...], said: str
) -> None:
    result = mnv1(*run[:1], "photo", *BUNDLED, *run[1:], "-q")
    assert result.exit_code == 0
    file = str(run[-1]) if run[-2:-1] == ("-o",) else "x.csv"
    if "-o" not in run:
        (here / file).write_bytes(result.stdout_bytes)
    assert said in one_line("--from", file, exit_code=1)


LABEL = {"rank": 1, "class_id": 968, "wnid": "", "label": "cup", "probability": 0.5}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_id": 1001}, "is damaged"),
        ({"class_id": -1}, "is damaged"),
        ({"class_id": "968"}, "is damaged"),
        ({"probability": None}, "is damaged"),
        ({"probability": 1.5}, "is damaged"),
        ({"rank": 2}, "lacks some of the first 5 labels"),
        ({"more": 1}, "is damaged"),
    ],
)
def test_damaged_labels_are_refused(here: Path, change: dict[str, Any], said: str) -> None:
    labels = [{**LABEL, "rank": rank} for rank in range(1, 6)]
    labels[0] |= change
    (here / "x.jsonl").write_text(json.dumps({"path": "968/a.jpg", "predictions": labels}) + "\n")
    line = one_line("--from", "x.jsonl", "--confusion", "c.csv", exit_code=1)
    assert said in line
    assert not (here / "c.csv").exists()


@pytest.mark.parametrize("name", [*LABELS, *SCORES])
def test_results_that_were_cut_are_refused(here: Path, results: Path, name: str) -> None:
    for each in results.glob(name.partition(".")[0] + ".*"):
        shutil.copy(each, here)
    data = (here / name).read_bytes()
    (here / name).write_bytes(data[: len(data) * 2 // 3])
    one_line("--from", name, exit_code=1)


def test_empty_result_has_nothing_to_evaluate(here: Path) -> None:
    (here / "x.csv").write_text("path,rank,class_id,wnid,label,probability\n")
    line = one_line("--from", "x.csv", exit_code=1)
    assert line == "mnv1: error: nothing can be evaluated: there is no image"


def test_failed_images_alone_have_nothing_to_evaluate(here: Path) -> None:
    (here / "photo" / "coffee.jpg").write_bytes(b"")
    result = mnv1("evaluate", "photo", *BUNDLED)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "mnv1: photo/coffee.jpg: the file is empty",
        "mnv1: error: nothing can be evaluated: 1 image failed",
    ]


def test_module_without_scores_is_refused(shared: Path, here: Path) -> None:
    archive = shared / "hub" / "feature_vector.tar.gz"
    result = mnv1("evaluate", "photo", "--module", archive, "-q")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert "has no signature 'image_classification'; it has default, image_feature_vector" in line


def test_nothing_half_done_is_left(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        assert (here / "p.csv.part").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluation_files, "encode_rows", full)
    line = one_line("--from", "classify.csv", "--per-class", "p.csv", exit_code=1)
    assert "No space left on device" in line
    assert not list(here.glob("p.csv*"))


def test_closed_pipe_is_no_error(results: Path) -> None:
    line = f"{sys.executable} -m mnv1cli evaluate --from {results}/classify.csv --json | head -1"
    run = ["bash", "-o", "pipefail", "-c", line]
    found = subprocess.run(run, capture_output=True, text=True, check=False, cwd=ROOT)
    assert found.stdout == "{\n"
    assert found.stderr == ""


def test_paths_that_are_no_text_are_written_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "missile").mkdir()
    image = os.fsencode(tmp_path) + b"/missile/l\xe9,\n.jpg"
    with open(image, "wb") as file:
        file.write((EXAMPLES / "rocket.jpg").read_bytes())
    out = tmp_path / "m.csv"
    result = program("evaluate", image, *BUNDLED, "--mistakes", out, "-q")
    assert result.returncode == 0, result.stderr
    [row] = rows(out.read_bytes())
    assert os.fsencode(row["path"]) == image


def test_python_users_have_it_too(folders: Path) -> None:
    evaluation, resolved = Classifier("bundled").evaluate(
        folders, FolderTruth([os.fsencode(folders)])
    )
    assert evaluation.figures()["n"] == 6
    assert list(resolved.remarks()) == []
    assert [score.n for score in evaluation.per_class()] == [2, 2, 2]
    plain, _ = Classifier("bundled").evaluate(folders)
    assert plain.figures() == evaluation.figures()
