"""`Classifier` in Python."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import mnv1cli
from mnv1cli import Classifier, Mnv1Error
from mnv1cli.errors import ImageError, OptionError
from mnv1cli.inference.settings import Settings
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.types import Engine

PHOTOS = ROOT / "examples" / "photos"
CAT = PHOTOS / "chelsea.png"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("bundled")


def test_classify_gives_labels_best_first(classifier: Classifier) -> None:
    (found,) = classifier.classify(CAT, top=3)
    assert found.path == str(CAT)
    assert [p.rank for p in found] == [1, 2, 3]
    assert found[0].label == "Egyptian cat"
    assert found[0].probability > found[1].probability
    assert len(found) == 3
    assert found.error == ""


def test_reference_logits_and_features(classifier: Classifier, photos: Path, shared: Path) -> None:
    reference = np.load(shared / "reference.npz")
    paths = [photos / name for name in reference["names"][:10]]
    np.testing.assert_allclose(classifier.logits(paths), reference["logits"][:10], atol=0.02)
    np.testing.assert_allclose(classifier.embed(paths), reference["features"][:10], atol=0.01)


def sources(path: Path) -> dict[str, Any]:
    image = Image.open(path)
    return {
        "str": str(path),
        "bytes": os.fsencode(path),
        "Path": path,
        "PIL image": image,
        "array": np.asarray(image.convert("RGB")),
    }


@pytest.mark.parametrize("kind", ["str", "bytes", "Path", "PIL image", "array"])
def test_an_image_is_the_same_however_it_is_given(classifier: Classifier, kind: str) -> None:
    expected = classifier.logits([CAT])
    source = sources(CAT)[kind]
    np.testing.assert_array_equal(classifier.logits(source), expected)
    np.testing.assert_array_equal(classifier.logits([source]), expected)


def test_sources_may_be_mixed(classifier: Classifier) -> None:
    paths = [found.path for found in classifier.iter_classify([*sources(CAT).values(), PHOTOS])]
    assert paths[:5] == [str(CAT)] * 3 + ["", ""]
    assert [os.path.basename(path) for path in paths[5:]] == sorted(os.listdir(PHOTOS))


def test_pil_image_with_an_orientation_is_turned(classifier: Classifier, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(CAT).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(
            classifier.logits(image), classifier.logits(tmp_path / "turned.png")
        )


def test_probabilities_and_endpoints(classifier: Classifier) -> None:
    assert classifier.logits(CAT, probabilities=True).sum() == pytest.approx(1, abs=1e-5)
    layer = classifier.embed(CAT, endpoint="Conv2d_13_pointwise", pool=False)
    assert layer.shape == (1, 4, 4, 1024)
    pooled = classifier.embed(CAT, endpoint="Conv2d_13_pointwise")
    np.testing.assert_allclose(layer.mean(axis=(1, 2)), pooled, atol=1e-6)
    np.testing.assert_allclose(classifier.embed(CAT), pooled, atol=1e-5)


def test_bad_image_raises_with_its_path_and_reason(classifier: Classifier, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    with pytest.raises(ImageError, match=r"bad\.jpg: the file is empty"):
        classifier.logits([CAT, bad])
    with pytest.raises(Mnv1Error, match="uint8"):
        classifier.classify(np.zeros((4, 4, 3)))


def test_bad_image_is_left_out_or_keeps_its_place(classifier: Classifier, tmp_path: Path) -> None:
    paths = [CAT, tmp_path / "missing.jpg", CAT]
    assert classifier.logits(paths, on_error="skip").shape == (2, 1001)
    rows = classifier.logits(paths, on_error="row")
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]
    found = classifier.classify(paths, on_error="row")
    assert [len(one) for one in found] == [5, 0, 5]
    assert found[1].error == "no such file"
    vectors = list(classifier.iter_embed(paths, on_error="row"))
    assert [v.error for v in vectors] == ["", "no such file", ""]


def test_nothing_gives_empty_results(classifier: Classifier) -> None:
    assert classifier.classify([]) == []
    assert classifier.logits([]).shape == (0, 1001)
    assert classifier.embed([]).shape == (0, 1024)


def test_iterators_stream(classifier: Classifier) -> None:
    """An endless source gives results, and is left when nobody asks any more."""
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield CAT

    stream = classifier.iter_classify(endless(), top=1)
    assert len(list(itertools.islice(stream, 40))) == 40
    stream.close()  # type: ignore[attr-defined]
    assert taken < 1000


def test_what_the_source_raises_comes_out(classifier: Classifier) -> None:
    def failing() -> Iterator[Path]:
        yield CAT
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        classifier.logits(failing())


def test_settings_change_the_pixels(classifier: Classifier) -> None:
    squashed = Classifier("bundled", preprocess="squash", batch_size=1)
    assert not np.array_equal(squashed.logits(CAT), classifier.logits(CAT))


@pytest.mark.parametrize("engine", ["litert", "tf"])
@pytest.mark.parametrize("settings", [{"threads": 1}, {"threads": 3, "batch_size": 1}])
def test_threads_and_batches_do_not_change_a_bit(
    photos: Path, engine: Engine, settings: dict[str, Any]
) -> None:
    some = sorted(photos.iterdir())[:9]
    expected = Classifier("bundled", engine=engine).logits(some)
    found = Classifier("bundled", engine=engine, **settings).logits(some)
    np.testing.assert_array_equal(found, expected)


def test_one_classifier_serves_several_threads(classifier: Classifier, photos: Path) -> None:
    some = sorted(photos.iterdir())[:12]
    expected = classifier.logits(some)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda i: classifier.logits(some[i:]), range(3)))
    for i in range(3):
        np.testing.assert_array_equal(found[i], expected[i:])


def test_int8_is_refused_by_name_where_it_cannot_be_had(classifier: Classifier) -> None:
    with pytest.raises(OptionError, match="tf has no int8"):
        Classifier("bundled", engine="tf", precision="int8").logits(CAT)


def test_package_gives_its_names_lazily() -> None:
    assert set(mnv1cli.__all__) - {"__version__"} == set(mnv1cli._MODULES)
    with pytest.raises(AttributeError):
        _ = mnv1cli.nothing


@pytest.mark.parametrize(
    "settings",
    [
        {"preprocess": "SQUASH"},
        {"decode": "x"},
        {"exif": None},
        {"batch_size": 0},
        {"batch_size": 1.5},
        {"batch_size": "a"},
        {"engine": "onnx"},
        {"precision": "int4"},
        {"threads": 0},
        {"threads": 1.5},
    ],
)
def test_settings_that_do_not_exist_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(Mnv1Error, match=next(iter(settings))):
        Classifier("bundled", **settings)


def test_defaults_are_those_of_the_settings(classifier: Classifier) -> None:
    assert classifier.predictor.settings == Settings()


@pytest.mark.parametrize(
    "settings", [{"on_error": "SKIP"}, {"on_error": None}, {"top": 0}, {"min_probability": 2}]
)
def test_arguments_that_do_not_exist_are_refused(
    classifier: Classifier, settings: dict[str, Any]
) -> None:
    with pytest.raises(Mnv1Error, match=next(iter(settings))):
        classifier.classify(CAT, **settings)


def test_min_probability_leaves_out_labels(classifier: Classifier) -> None:
    (found,) = classifier.classify(CAT, min_probability=0.5)
    assert [p.label for p in found] == ["Egyptian cat"]
