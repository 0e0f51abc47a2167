"""Arguments of the Python API: taken, or refused with a sentence that says what to pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli import Classifier, Mnv1Error
from mnv1cli.errors import OptionError
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.settings import Settings
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAT = ROOT / "examples" / "photos" / "chelsea.png"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("bundled")


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"preprocess": 3}, "use one of slim, squash, square, pad"),
    ({"preprocess": ["slim"]}, "use one of"),
    ({"decode": None}, "use one of scaled, full"),
    ({"exif": 1}, "use True or False"),
    ({"exif": "no"}, "use True or False"),
    ({"engine": 3}, "use one of litert"),
    ({"engine": ""}, "use one of litert"),
    ({"precision": None}, "use one of float32"),
    ({"threads": True}, "use 1 to 1024"),
    ({"threads": "2"}, "use 1 to 1024"),
    ({"threads": 2.0}, "use 1 to 1024"),
    ({"batch_size": "x"}, "use 1 to 4096"),
    ({"batch_size": None}, "use 1 to 4096"),
    ({"batch_size": True}, "use 1 to 4096"),
    ({"batch_size": np.nan}, "use 1 to 4096"),
    ({"max_pixels": 1e6}, "use an integer from 1 on"),
    ({"max_bytes": "10MB"}, "use an integer from 1 on"),
    ({"max_bytes": 0}, "use an integer from 1 on"),
    ({"image_size": "128"}, "use an integer from 1 on"),
    ({"image_size": -128}, "use an integer from 1 on"),
    ({"labels": 3}, "pass a path"),
    ({"labels": ["cat"]}, "pass a path"),
    ({"module": 3}, "pass a path"),
    ({"module": ["bundled"]}, "pass a path"),
    ({"offline": 1}, "use True or False"),
    ({"insecure": "yes"}, "use True or False"),
    ({"trust_module": None}, "use True or False"),
    ({"fetch": {"offline": True}}, "pass a FetchOptions"),
    ({"input_range": 3}, "two finite numbers"),
]


@pytest.mark.parametrize(("settings", "remedy"), SETTINGS)
def test_settings_of_wrong_types_are_refused(settings: dict[str, Any], remedy: str) -> None:
    with pytest.raises(OptionError, match=remedy) as caught:
        Classifier(**{"module": "bundled", **settings})
    assert str(caught.value).startswith(f"{next(iter(settings))}=")
    assert "\n" not in str(caught.value)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(OptionError) as caught:
        Classifier("bundled", labels=np.zeros((50, 50)))  # type: ignore[arg-type]
    assert len(str(caught.value)) < 160
    assert "\n" not in str(caught.value)


CALLS: list[tuple[str, Callable[[Any], Any]]] = [
    ("top=2.5 ", lambda c: c.classify(CAT, top=2.5)),
    ("top=True ", lambda c: c.classify(CAT, top=True)),
    ("top='5' ", lambda c: c.classify(CAT, top="5")),
    ("top=None ", lambda c: c.classify(CAT, top=None)),
    ("top=0 ", lambda c: c.iter_classify(CAT, top=0)),
    ("top=-1 ", lambda c: c.iter_classify(CAT, top=-1)),
    ("min_probability='a' ", lambda c: c.classify(CAT, min_probability="a")),
    ("min_probability=nan ", lambda c: c.classify(CAT, min_probability=float("nan"))),
    ("min_probability=True ", lambda c: c.classify(CAT, min_probability=True)),
    ("min_probability=1.01 ", lambda c: c.iter_classify(CAT, min_probability=1.01)),
    ("min_probability=1j ", lambda c: c.iter_classify(CAT, min_probability=1j)),
    ("on_error='x' ", lambda c: c.classify(CAT, on_error="x")),
    ("on_error=3 ", lambda c: c.logits(CAT, on_error=3)),
    ("on_error=True ", lambda c: c.iter_embed(CAT, on_error=True)),
    ("probabilities='yes' ", lambda c: c.logits(CAT, probabilities="yes")),
    ("probabilities=1 ", lambda c: c.iter_logits(CAT, probabilities=1)),
    ("pool=None ", lambda c: c.embed(CAT, pool=None)),
    ("endpoint=3 ", lambda c: c.embed(CAT, endpoint=3)),
    ("endpoint=None ", lambda c: c.iter_embed(CAT, endpoint=None)),
    ("runner='x' ", lambda c: c.fill(CAT, "x/", runner="x")),
    ("runner=3 ", lambda c: c.fill(CAT, "x/", runner=3)),
    ("dataset=3 ", lambda c: c.fill(CAT, 3)),
    ("task='classify' ", lambda c: c.fill(CAT, "x/", task="classify")),
    ("truth=3 ", lambda c: c.evaluate(CAT, truth=3)),
    ("truth={", lambda c: c.evaluate(CAT, truth={"a.jpg": "cat"})),
    ("index=3 ", lambda c: c.similar(3, CAT)),
    ("samples='x' ", lambda c: c.quantize(CAT, samples="x")),
    ("seed=-1 ", lambda c: c.quantize(CAT, seed=-1)),
    ("folder=3 ", lambda c: c.finetune(3, "x")),
    ("output=None ", lambda c: c.finetune("x", None)),
    ("images=None ", lambda c: c.fill(None, "x/")),
    ("images=None ", lambda c: c.evaluate(None)),
    ("images=None ", lambda c: c.iter_logits(None)),
]


@pytest.mark.parametrize(("start", "call"), CALLS)
def test_arguments_of_wrong_types_are_refused_at_once(
    classifier: Classifier,
    start: str,
    call: Callable[[Any], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Mnv1Error) as caught:
        call(classifier)
    assert str(caught.value).startswith(start)
    assert caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_numbers_and_flags_of_numpy_are_taken(classifier: Classifier) -> None:
    (found,) = classifier.classify(CAT, top=np.int64(2), min_probability=np.float32(0.5))  # type: ignore[arg-type]
    assert [prediction.label for prediction in found] == ["Egyptian cat"]
    settings: dict[str, Any] = {
        "batch_size": np.int32(4), "threads": np.uint8(1), "exif": np.True_,
        "max_pixels": np.int64(10**8),
    }  # fmt: skip
    made = Predictor("bundled", Settings(**settings)).settings
    assert made == Settings(batch_size=4, threads=1, exif=True, max_pixels=10**8)
    assert {type(getattr(made, name)) for name in settings} == {int, bool}
    np.testing.assert_array_equal(
        Classifier("bundled", **settings).logits(CAT, probabilities=np.False_),  # type: ignore[arg-type]
        classifier.logits(CAT),
    )


def test_paths_of_any_kind_are_taken(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {i}\n" for i in range(1001)))
    for labels in (names, str(names), bytes(names)):
        made = Classifier("bundled", labels=labels)  # type: ignore[arg-type]
        assert made.predictor.settings.labels == names
        assert made.classify(CAT, top=1)[0][0].label == "class 286"
    assert Classifier(b"bundled").predictor.module.handle == "bundled"  # type: ignore[arg-type]
