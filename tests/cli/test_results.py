"""Results of classify, logits and embed, compared with the reference."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.shell import BUNDLED, EXAMPLES, file_names, mnv1, rows

if TYPE_CHECKING:
    from pathlib import Path


TURNED = "n02951585_can_opener.JPEG"


def test_classify_is_as_accurate_as_the_reference(photos: Path, reference: Any) -> None:
    result = mnv1("classify", photos, *BUNDLED, "-f", "csv", "--top", 5, "--no-exif")
    assert result.exit_code == 0
    results = rows(result.stdout)
    assert len(results) == 465
    assert list(dict.fromkeys(file_names(results))) == list(reference["names"])
    hits = [os.path.basename(row["path"]).startswith(row["wnid"]) for row in results]
    top1 = sum(hit for hit, row in zip(hits, results, strict=True) if row["rank"] == "1")
    assert (round(top1 / 93, 3), round(sum(hits) / 93, 3)) == (0.591, 0.806)


def test_probabilities_are_those_of_the_reference(photos: Path, reference: Any) -> None:
    result = mnv1("classify", photos, *BUNDLED, "-f", "csv")
    powers = np.exp(reference["logits"].astype(np.float64))
    softmax = powers / powers.sum(axis=1, keepdims=True)
    expected = dict(zip(reference["names"], softmax, strict=True))
    sums: dict[str, float] = {}
    for row in rows(result.stdout):
        name = os.path.basename(row["path"])
        sums[name] = sums.get(name, 0) + float(row["probability"])
        if name != TURNED:
            wanted = expected[name][int(row["class_id"])]
            assert float(row["probability"]) == pytest.approx(wanted, abs=1e-3)
    assert len(sums) == 93
    assert max(sums.values()) <= 1 + 1e-5


@pytest.mark.parametrize(("name", "key", "atol"), [("logits", "logits", 0.02),
                                                   ("embed", "features", 0.01)])  # fmt: skip
def test_values_are_those_of_the_reference(
    photos: Path, reference: Any, tmp_path: Path, name: str, key: str, atol: float
) -> None:
    out = tmp_path / "x.npy"
    assert mnv1(name, photos, *BUNDLED, "-o", out, "--no-exif").exit_code == 0
    values = np.load(out)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, reference[key], atol=atol)
    index = rows((tmp_path / "x.index.csv").read_bytes())
    assert file_names(index) == list(reference["names"])
    assert [row["row"] for row in index] == [str(i) for i in range(93)]


def test_a_genuine_feature_module_gives_features_close_to_the_reference(
    shared: Path, photos: Path, reference: Any, tmp_path: Path
) -> None:
    archive = shared / "hub" / "feature_vector.tar.gz"
    out = tmp_path / "f.npy"
    assert mnv1("embed", photos, "--module", archive, "-o", out, "--no-exif").exit_code == 0
    ours, theirs = np.load(out), reference["features"]
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() >= 0.9995
    assert np.abs(ours - theirs).max() <= 0.2


def test_classify_with_a_feature_module_names_the_signatures_it_has(
    shared: Path, photos: Path
) -> None:
    archive = shared / "hub" / "feature_vector.tar.gz"
    result = mnv1("classify", photos, "--module", archive)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "default, image_feature_vector" in result.stderr


def test_the_cat_is_a_cat() -> None:
    result = mnv1("classify", EXAMPLES, *BUNDLED, "--top", 1, "-f", "csv", "-q")
    labels = {os.path.basename(r["path"]): r["label"] for r in rows(result.stdout)}
    assert labels["chelsea.png"] == "Egyptian cat"
    assert labels["coffee.jpg"] == "espresso"
    assert result.stderr == ""


def test_batch_size_does_not_change_a_digit(photos: Path, tmp_path: Path) -> None:
    results = {
        mnv1("logits", photos, *BUNDLED, "--batch-size", n).stdout_bytes for n in (1, 7, 31, 200)
    }
    assert len(results) == 1


def test_probabilities_sum_to_one(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.npy"
    mnv1("logits", few, *BUNDLED, "--probabilities", "-o", out)
    np.testing.assert_allclose(np.load(out).sum(axis=1), 1, atol=1e-5)
    assert json.loads((tmp_path / "p.npy.meta.json").read_text())["output"] == "probabilities"


def test_spatial_endpoint_is_averaged_or_kept(few: Path, tmp_path: Path) -> None:
    pooled, whole = tmp_path / "p.npy", tmp_path / "w.npy"
    endpoint = ("--endpoint", "Conv2d_5_pointwise")
    assert mnv1("embed", few, *BUNDLED, *endpoint, "-o", pooled).exit_code == 0
    assert mnv1("embed", few, *BUNDLED, *endpoint, "--no-pool", "-o", whole).exit_code == 0
    assert np.load(whole).shape == (4, 16, 16, 256)
    np.testing.assert_allclose(np.load(whole).mean(axis=(1, 2)), np.load(pooled), atol=1e-6)


@pytest.mark.parametrize("name", ["global_pool", "MobilenetV1/AvgPool_1a"])
def test_global_pool_is_the_feature_vector(name: str, few: Path, tmp_path: Path) -> None:
    mnv1("embed", few, *BUNDLED, "--endpoint", name, "-o", tmp_path / "g.npy")
    output = json.loads((tmp_path / "g.npy.meta.json").read_text())["output"]
    assert output == "MobilenetV1/global_pool"
    mnv1("embed", few, *BUNDLED, "-o", tmp_path / "f.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "g.npy"), np.load(tmp_path / "f.npy"))


def test_unknown_endpoint_is_refused_with_those_there_are(few: Path) -> None:
    result = mnv1("embed", few, *BUNDLED, "--endpoint", "fc7")
    assert result.exit_code == 1
    assert "MobilenetV1/global_pool" in result.stderr
    assert result.stderr.count("\n") == 1


def test_top_is_clipped_to_the_classes(few: Path) -> None:
    results = rows(mnv1("classify", few / "a.jpg", *BUNDLED, "--top", 5000, "-f", "csv").stdout)
    assert len(results) == 1001
    assert sum(float(row["probability"]) for row in results) == pytest.approx(1, abs=1e-4)


def test_min_probability_leaves_out_what_is_less_probable(few: Path) -> None:
    everything = rows(mnv1("classify", few, *BUNDLED, "-f", "csv").stdout)
    limit = sorted(float(row["probability"]) for row in everything)[len(everything) // 2]
    run = ("classify", few, *BUNDLED, "--min-probability", limit, "-f")
    kept = rows(mnv1(*run, "csv").stdout)
    assert kept == [row for row in everything if float(row["probability"]) >= limit]


def test_image_without_a_probable_label_is_not_lost(few: Path) -> None:
    result = mnv1("classify", few, *BUNDLED, "--min-probability", 1, "-f", "jsonl")
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [o["predictions"] for o in objects] == [[]] * 4
    assert "4 without a label" in result.stderr


def test_nan_is_no_probability(few: Path) -> None:
    assert mnv1("classify", few, *BUNDLED, "--min-probability", "nan").exit_code == 2


def test_own_labels_must_fit_and_are_used(few: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("".join(f"thing {i}\n" for i in range(1001)))
    results = rows(mnv1("classify", few, *BUNDLED, "--labels", own, "-f", "csv").stdout)
    assert all(row["label"] == f"thing {row['class_id']}" for row in results)
    own.write_text("".join(f"thing {i}\n" for i in range(1000)))
    result = mnv1("classify", few, *BUNDLED, "--labels", own)
    assert result.exit_code == 1
    assert "1000 names" in result.stderr
    assert "1001 classes" in result.stderr
