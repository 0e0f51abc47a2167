"""Images as Python programs pass them: what is taken, and what is refused by name."""

from __future__ import annotations

import array
import gzip
import io
import os
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mnv1cli import Classifier, Mnv1Error
from mnv1cli.errors import ImageError, OptionError
from mnv1cli.inputs.from_python import make_refs
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PHOTOS = ROOT / "examples" / "photos"
CAT = PHOTOS / "chelsea.png"
CUP = PHOTOS / "coffee.jpg"
BYTES = CAT.read_bytes()


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier("bundled")


@pytest.fixture(scope="module")
def expected(classifier: Classifier) -> Any:
    return classifier.logits([CAT])


class Tensor:
    """An array of another library."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.values)


def written() -> io.BytesIO:
    """A file in memory that stands at its end."""
    file = io.BytesIO()
    file.write(BYTES)
    return file


# Files that were given to the library, which leaves closing them to its caller.
OPENED: list[IO[Any]] = []


def opened(path: Path | str, mode: str = "r", buffering: int = -1) -> IO[Any]:
    """Open a file that is closed at the end of the test."""
    OPENED.append(open(path, mode, buffering))  # noqa: SIM115 - closed by a fixture
    return OPENED[-1]


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


SINGLE: dict[str, Callable[[], Any]] = {
    "bytes": lambda: BYTES,
    "bytearray": lambda: bytearray(BYTES),
    "memoryview": lambda: memoryview(BYTES),
    "BytesIO": lambda: io.BytesIO(BYTES),
    "BytesIO that was written": written,
    "open file": lambda: opened(CAT, "rb"),
    "unbuffered file": lambda: opened(CAT, "rb", buffering=0),
    "packed file": lambda: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(BYTES))),
    "tensor": lambda: Tensor(np.asarray(Image.open(CAT).convert("RGB"))),
    "DirEntry": lambda: next(e for e in os.scandir(PHOTOS) if e.name == CAT.name),
    "numpy's str": lambda: np.str_(CAT),
    "numpy's bytes": lambda: np.bytes_(bytes(CAT)),
    "array of one path": lambda: np.array(str(CAT)),
}
MANY: dict[str, Callable[[], Any]] = {
    "tuple": lambda: (CAT, CAT),
    "set": lambda: {CAT},
    "keys": {str(CAT): 1}.keys,
    "values": {1: CAT}.values,
    "generator": lambda: (path for path in [CAT, str(CAT)]),
    "map": lambda: map(str, [CAT]),
    "array of str": lambda: np.array([str(CAT)] * 3),
    "array of bytes": lambda: np.array([bytes(CAT)] * 3),
    "array of objects": lambda: np.array([CAT, str(CAT)], object),
    "Series": lambda: pd.Series([str(CAT)] * 2),
    "Series of paths": lambda: pd.Series([CAT, CAT], index=[7, 9]),
    "column": lambda: pd.DataFrame({"path": [str(CAT)], "n": [1]})["path"],
    "Index": lambda: pd.Index([str(CAT)]),
    "Categorical": lambda: pd.Series([str(CAT)] * 2, dtype="category"),
    "images of memory": lambda: [Image.open(CAT), np.asarray(Image.open(CAT).convert("RGB"))],
    "all kinds": lambda: [make() for make in SINGLE.values()][:9],
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", SINGLE)
def test_image_of_any_kind_is_taken(classifier: Classifier, expected: Any, name: str) -> None:
    np.testing.assert_array_equal(classifier.logits(SINGLE[name]()), expected)
    if name != "array of one path":
        np.testing.assert_array_equal(classifier.logits([SINGLE[name]()]), expected)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", MANY)
def test_images_of_any_kind_are_taken(classifier: Classifier, expected: Any, name: str) -> None:
    logits = classifier.logits(MANY[name]())
    assert len(logits)
    for row in logits:
        np.testing.assert_array_equal(row, expected[0])


def test_files_may_be_closed_before_the_next_one_is_asked_for(classifier: Classifier) -> None:
    def files() -> Iterator[Any]:
        for path in (CAT, CUP) * 20:
            with open(path, "rb") as file:
                yield file

    found = classifier.classify(files(), top=1)
    assert [one.path for one in found] == [str(CAT), str(CUP)] * 20
    assert [one[0].label for one in found] == ["Egyptian cat", "espresso"] * 20


def test_one_file_may_be_given_twice(classifier: Classifier, expected: Any) -> None:
    with open(CAT, "rb") as file:
        logits = classifier.logits([file, file])
    np.testing.assert_array_equal(logits, np.concatenate([expected] * 2))


def test_file_is_read_from_where_it_is(classifier: Classifier, expected: Any) -> None:
    file = io.BytesIO(b"header" + BYTES)
    file.seek(6)
    np.testing.assert_array_equal(classifier.logits(file), expected)


def test_files_of_an_open_zip_and_pipes_are_taken(
    classifier: Classifier, expected: Any, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", BYTES)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive, archive.open("a.png") as file:
        np.testing.assert_array_equal(classifier.logits(file), expected)
    with subprocess.Popen(["cat", CAT], stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        np.testing.assert_array_equal(classifier.logits(process.stdout), expected)


def test_bytes_of_every_format_are_no_path(classifier: Classifier) -> None:
    image = Image.open(CUP).convert("RGB").resize((40, 30))
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        assert classifier.logits(buffer.getvalue()).shape == (1, 1001)


def test_bytes_that_are_a_path_stay_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (b"GIF89a", b"BM", b"\xff\xd8\xff.jpg", b"RIFF.webp"):
        Path(os.fsdecode(name)).write_bytes(BYTES)
        (ref,) = make_refs(name)
        assert (ref.path, ref.member, ref.source) == (name, None, None)


def test_limit_of_bytes_holds_for_all(tmp_path: Path) -> None:
    small = Classifier("bundled", max_bytes=1000)
    for image in (BYTES, bytearray(BYTES), io.BytesIO(BYTES), CAT):
        with pytest.raises(ImageError, match="--max-bytes"):
            small.logits(image)
    with tempfile.TemporaryFile() as endless:
        os.truncate(endless.fileno(), 1 << 40)
        with pytest.raises(ImageError, match="--max-bytes"):
            small.logits(endless)


class Unread(io.RawIOBase):
    """A file whose disk fails."""

    def read(self, size: int = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, r"images=None .* pass a path, a PIL image, a uint8 array, .* or many"),
    "int": (lambda: 3, r"images=3 "),
    "float": (lambda: 2.5, r"images=2\.5"),
    "bool": (lambda: True, r"images=True"),
    "object": (object, r"images=a object|images=<object"),
    "class": (lambda: Path, r"images="),
    "dict": (lambda: {"a.jpg": 1}, r"pass its values"),
    "table": (lambda: pd.DataFrame({"path": [str(CAT)], "n": [1]}), r"pass one column"),
    "floats": (lambda: np.zeros((4, 4, 3)), r"must be uint8, not float64"),
    "array of numbers": (lambda: array.array("d", [1.0]), r"images\[0\] is 1\.0"),
    "text file": (lambda: opened(__file__), r"open it with 'rb'"),
    "StringIO": (lambda: io.StringIO("text"), r"open it with 'rb'"),
    "text": (lambda: b"no image\0", r"not an image"),
    "empty file": (lambda: io.BytesIO(b""), r"the file is empty"),
    "failing disk": (Unread, r"cannot be read: Input/output error"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused_by_name(classifier: Classifier, name: str) -> None:
    make, message = REFUSED[name]
    for call in (classifier.classify, classifier.logits, classifier.embed):
        with pytest.raises(Mnv1Error, match=message) as caught:
            call(make())
        assert "\n" not in str(caught.value)
    if name in ("None", "int", "dict", "table"):
        # At once, not when the first result is asked for.
        with pytest.raises(OptionError, match=message):
            classifier.iter_classify(make())
        with pytest.raises(OptionError, match=message):
            classifier.quantize(make())


ELEMENTS: dict[str, tuple[Any, str]] = {
    "None": (None, r"images\[1\] is None, which is no image; pass a path"),
    "NaN of a table": (float("nan"), r"images\[1\] is nan"),
    "int": (7, r"images\[1\] is 7"),
    "nested list": ([CAT, CUP], r"images\[1\] is a list"),
    "nested numbers": ([[1, 2], [3, 4]], r"images\[1\] is \[\[1, 2\], \[3, 4\]\]"),
    "tuple": ((str(CAT), "cat"), r"images\[1\] is a tuple|images\[1\] is \("),
    "dict": ({"path": 1}, r"images\[1\] is \{"),
    "half a name": ("\ud800.jpg", r"images\[1\] is '.ud800\.jpg'"),
    "float array": (np.zeros((4, 4, 3)), r"must be uint8"),
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_element_that_is_no_image_is_a_fault_in_its_place(
    classifier: Classifier, expected: Any, name: str
) -> None:
    element, message = ELEMENTS[name]
    images = [CAT, element, CAT]
    with pytest.raises(ImageError, match=message):
        classifier.logits(images)
    rows = classifier.logits(images, on_error="row")
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_array_equal(
        classifier.logits(images, on_error="skip"), np.concatenate([expected] * 2)
    )


def test_closed_file_is_a_fault(classifier: Classifier) -> None:
    with open(CAT, "rb") as file:
        pass
    with pytest.raises(ImageError, match="closed file"):
        classifier.logits(file)
