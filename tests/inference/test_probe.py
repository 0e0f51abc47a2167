"""Modules whose scores are probabilities: they are told from logits, and not softened again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli import Classifier
from mnv1cli.errors import SignatureError
from mnv1cli.inference import predictor, probe
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.settings import Settings
from mnv1cli.types import Task
from tests.support.shell import EXAMPLES, mnv1, run
from tests.support.zoo import CLASSES, write_hub

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The names of seven classes."""
    file = tmp_path_factory.mktemp("labels") / "labels.txt"
    file.write_text("".join(f"class {i}\n" for i in range(CLASSES)))
    return file


@pytest.fixture(scope="module")
def softmax(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module that ends in a softmax, with its features."""
    import tensorflow as tf

    def make(features: Any, logits: Any) -> dict[str, Any]:
        return {"default": tf.nn.softmax(logits), "MobilenetV1/features": features}

    return write_hub(tmp_path_factory.mktemp("modules") / "softmax", make)


@pytest.fixture(scope="module")
def logits(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same module without the softmax."""
    return write_hub(
        tmp_path_factory.mktemp("modules") / "logits", lambda _, logits: {"default": logits}
    )


def read_probabilities(jsonl: str) -> np.ndarray:
    """Return the probabilities [n, classes] by class id in the output of classify --top 7."""
    table = np.zeros((len(jsonl.splitlines()), CLASSES))
    for row, line in zip(table, jsonl.splitlines(), strict=True):
        for prediction in json.loads(line)["predictions"]:
            row[prediction["class_id"]] = prediction["probability"]
    return table


@pytest.mark.parametrize("engine", ["litert", "tf"])
def test_classify_takes_probabilities_as_they_are(
    softmax: Path, logits: Path, labels: Path, engine: str
) -> None:
    words = ("--labels", labels, "--engine", engine, "--top", CLASSES, "-f", "jsonl")
    ours = read_probabilities(run("classify", EXAMPLES, "--module", softmax, *words).stdout)
    expected = read_probabilities(run("classify", EXAMPLES, "--module", logits, *words).stdout)
    assert ours.max() > 0.5
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=TOLERANCE)
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE)


@pytest.mark.parametrize("engine", ["litert", "tf"])
def test_logits_are_refused_and_probabilities_given(
    softmax: Path, engine: str, tmp_path: Path
) -> None:
    words = ("logits", EXAMPLES, "--module", softmax, "--engine", engine)
    result = mnv1(*words)
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if not line.endswith("(once)")]
    (line,) = lines
    assert "gives probabilities, not logits; 'mnv1 classify' or 'mnv1 logits --prob" in line
    file = tmp_path / "x.npy"
    run(*words, "--probabilities", "-o", file)
    np.testing.assert_allclose(np.load(file).sum(axis=1), 1, atol=TOLERANCE)
    classifier = Classifier(softmax, engine=engine)  # type: ignore[arg-type]
    assert np.array_equal(classifier.logits(EXAMPLES, probabilities=True), np.load(file))
    with pytest.raises(SignatureError, match="gives probabilities, not logits"):
        classifier.logits(EXAMPLES)


def test_the_metadata_name_the_output(
    softmax: Path, logits: Path, labels: Path, tmp_path: Path
) -> None:
    outputs = {}
    for module in (softmax, logits):
        file = tmp_path / f"{module.name}.csv"
        run("classify", EXAMPLES, "--module", module, "--labels", labels, "-o", file)
        outputs[module.name] = json.loads((tmp_path / f"{file.name}.meta.json").read_bytes())
    assert outputs["softmax"]["output"] == "probabilities"
    assert outputs["logits"]["output"] == "labels"
    # A result of the module's softmax by an older version.
    old = tmp_path / "softmax.csv.meta.json"
    old.write_text(json.dumps({**outputs["softmax"], "output": "labels"}))
    words = ("classify", EXAMPLES, "--module", softmax, "--labels", labels)
    result = mnv1(*words, "-o", tmp_path / "softmax.csv", "--append")
    assert result.exit_code == 1
    assert "was made with output labels, not probabilities" in result.stderr


def test_evaluations_agree(softmax: Path, logits: Path, labels: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("path,label\n" + "".join(f"{p},class 1\n" for p in EXAMPLES.iterdir()))
    figures = []
    for module in (softmax, logits):
        words = ("--labels", labels, "--truth", truth, "--json")
        figures.append(json.loads(run("evaluate", EXAMPLES, "--module", module, *words).stdout))
        file = tmp_path / f"{module.name}.csv"
        run("classify", EXAMPLES, "--module", module, "--labels", labels, "-o", file)
        figures.append(json.loads(run("evaluate", "--from", file, *words).stdout))
        scores = tmp_path / f"{module.name}.npy"
        run("logits", EXAMPLES, "--module", module, "--probabilities", "-o", scores)
        figures.append(json.loads(run("evaluate", "--from", scores, *words).stdout))
        page = tmp_path / f"{module.name}.html"
        run("report", file, "--labels", labels, "-o", page)
    assert all(values["ece"] == pytest.approx(figures[0]["ece"], abs=1e-5) for values in figures)


def test_the_lowest_probability_is_that_of_the_module(softmax: Path, labels: Path) -> None:
    words = ("classify", EXAMPLES, "--module", softmax, "--labels", labels, "-f", "jsonl")
    values = read_probabilities(run(*words, "--top", CLASSES).stdout)
    limit = float(np.sort(values[values > 0])[-3])
    kept = read_probabilities(run(*words, "--min-probability", limit).stdout)
    assert np.array_equal(kept, np.where(values >= limit, values, 0))


def test_the_probe_is_made_once(
    softmax: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = ("module", "show", softmax, "--json")
    assert json.loads(run(*show).stdout)["scores"] is None
    Predictor(softmax).make_job(Task("logits", probabilities=True))
    assert json.loads(run(*show).stdout)["scores"] == "probabilities"
    assert "probabilities" in run("module", "show", softmax).stdout
    monkeypatch.setattr(predictor, "gives_probabilities", None)
    for engine in ("litert", "tf"):
        job = Predictor(softmax, Settings(engine=engine)).make_job(
            Task("logits", probabilities=True)
        )
        assert job.gives_probabilities


def test_without_a_cache_the_probe_is_made_in_each_run(
    softmax: Path, unwritable_cache: Path, labels: Path
) -> None:
    words = ("classify", EXAMPLES, "--module", softmax, "--labels", labels, "--top", CLASSES)
    for _ in range(2):
        values = read_probabilities(run(*words, "-f", "jsonl").stdout)
        np.testing.assert_allclose(values.sum(axis=1), 1, atol=TOLERANCE)


def test_int8_agrees(softmax: Path, own_cache: Path, labels: Path) -> None:
    run("module", "quantize", EXAMPLES, "--module", softmax)
    words = ("classify", EXAMPLES, "--module", softmax, "--labels", labels, "--top", CLASSES)
    small = read_probabilities(run(*words, "--precision", "int8", "-f", "jsonl").stdout)
    large = read_probabilities(run(*words, "-f", "jsonl").stdout)
    np.testing.assert_allclose(small, large, atol=0.1)
    # Not multiples of 1/256: the softmax is not in int8.
    np.testing.assert_allclose(small.sum(axis=1), 1, atol=TOLERANCE)
    assert np.abs(small * 256 - np.round(small * 256)).max() > 0.01
    result = mnv1("logits", EXAMPLES, "--module", softmax, "--precision", "int8")
    assert result.exit_code == 1
    assert "gives probabilities" in result.stderr


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[0.25, 0.75], [0, 1]], True),
        ([[0.25, 0.7504], [1, 0]], True),
        ([[0.25, 0.76], [0, 1]], False),
        ([[-0.1, 1.1], [0.5, 0.5]], False),
        ([[np.nan, np.nan], [0.5, 0.5]], False),
        ([[np.nan, 1.0], [0.5, 0.5]], False),
        ([[np.inf, 1.0], [0.5, 0.5]], False),
        ([[0.0, 0.0], [0.5, 0.5]], False),
        ([[1.0], [1.0]], True),
    ],
)
def test_what_probabilities_are(scores: list[list[float]], expected: bool) -> None:
    assert probe.are_probabilities(np.array(scores, np.float32)) is expected


@pytest.mark.parametrize("name", ["relu", "nan", "log_softmax", "sigmoid"])
def test_other_scores_are_logits(name: str, tmp_path: Path, own_cache: Path, labels: Path) -> None:
    import tensorflow as tf

    function = {
        "relu": tf.nn.relu,
        "nan": lambda logits: logits * np.nan,
        "log_softmax": tf.nn.log_softmax,
        "sigmoid": tf.sigmoid,
    }[name]
    module = write_hub(
        tmp_path / name,
        lambda _, logits: {"default": function(tf.convert_to_tensor(logits))},
    )
    file = tmp_path / "x.npy"
    run("logits", EXAMPLES, "--module", module, "-o", file)
    assert json.loads((tmp_path / "x.npy.meta.json").read_bytes())["output"] == "logits"
    assert json.loads(run("module", "show", module, "--json").stdout)["scores"] == "logits"
