"""What `mnv1 bench` measures hangs together."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from mnv1cli.analysis import synthetic_photos
from tests.support import zoo
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synthetic_photos.write_pictures(tmp_path, 2, 200, 150)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network: each engine is measured over 512 images, three times."""
    return zoo.write_hub(tmp_path_factory.mktemp("tiny") / "m", lambda _, x: {"default": x})


def test_json_has_every_engine_at_hand(folder: Path, module: Path) -> None:
    result = mnv1("bench", folder, "--images", 8, "--module", module, "--json", "--threads", 1)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    (photos,) = told["sets"]
    assert (photos["images"], photos["threads"]) == (8, 1)
    kinds = [(run["engine"], run["precision"]) for run in photos["runs"]]
    assert kinds[0] == ("litert", "float32")
    assert kinds[-1] == ("tf", "float32")
    for run in photos["runs"]:
        cpu = photos["decoding"]["cpu"] + run["inference"]["cpu"]
        assert run["bound"] == pytest.approx(1 / cpu)
        assert run["share"] == pytest.approx(run["end_to_end"]["rate"] / run["bound"])
    assert told["bound"] == photos["runs"][0]["bound"]


def test_table_is_for_people(folder: Path, module: Path) -> None:
    result = mnv1("bench", folder, "--images", 4, "--module", module)
    assert result.exit_code == 0, result.stderr
    for word in ("listing", "decoding", "litert float32, end to end", "tf float32, inference"):
        assert word in result.stdout


def test_images_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    result = mnv1("bench", tmp_path, "--module", "bundled")
    assert result.exit_code == 1
    assert "none of the images can be read" in result.stderr


def test_pictures_are_the_same_every_time_and_of_their_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        synthetic_photos.write_pictures(tmp_path / name, 2, 64, 48, seed=5)
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert first[0].read_bytes() != first[1].read_bytes()
    with Image.open(first[0]) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))


def test_large_pictures_compress_as_photos_do(tmp_path: Path) -> None:
    synthetic_photos.write_pictures(tmp_path, 1, 2400, 1800)
    (file,) = tmp_path.iterdir()
    assert 1 < file.stat().st_size * 8 / (2400 * 1800) < 4


def test_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.jpg", b"no matter")
    result = mnv1("bench", tmp_path / "x.zip", "--module", "bundled")
    assert result.exit_code == 2
    assert "bench reads no archives and no remote images" in result.stderr
