"""Size and time of images, in the rows of classify."""

from __future__ import annotations

import csv
import json
import os
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from mnv1cli.images import exif, loader
from mnv1cli.types import ImageInfo, ImageRef, PixelSpec
from tests.conftest import ROOT
from tests.support.images import HAS_AVIF, encode, jpeg
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

SPEC = PixelSpec(128)
TAKEN = "2024-05-17T08:09:10"


def make_exif(orientation: int | None = None, *, made: str = "", taken: str = "") -> Image.Exif:
    """Make EXIF with an orientation, and with the times of the file and of the picture."""
    found = Image.Exif()
    if orientation:
        found[0x0112] = orientation
    if made:
        found[0x0132] = made
    if taken:
        found.get_ifd(0x8769)[0x9003] = taken
    return found


def read_one_info(folder: Path, data: bytes, spec: PixelSpec = SPEC) -> ImageInfo:
    file = folder / "image"
    file.write_bytes(data)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    return load_info(ImageRef(0, os.fsencode(file)), spec)


def load_info(ref: ImageRef, spec: PixelSpec = SPEC) -> ImageInfo:
    (info,) = loader.load_batch([ref], spec, with_info=True).image_info
    return info


@pytest.mark.parametrize(
    "kind",
    ["JPEG", "PNG", "WEBP", "TIFF"] + (["AVIF"] if HAS_AVIF else []),
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_format_tells(tmp_path: Path, kind: str, orientation: int) -> None:
    image = Image.new("RGB", (40, 30))
    found = make_exif(orientation, made="2024:05:17 08:09:10")
    data = encode(image, kind, exif=found if kind == "TIFF" else found.tobytes())
    size = (40, 30) if orientation == 1 else (30, 40)
    assert read_one_info(tmp_path, data) == ImageInfo(*size, "2023-11-14T22:13:20Z", TAKEN)
    assert read_one_info(tmp_path, data, PixelSpec(128, exif=False))[:2] == (40, 30)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"taken": "2024:05:17 08:09:10", "made": "2020:01:01 00:00:00"}, TAKEN),
        ({"made": "2020:01:02 03:04:05"}, "2020-01-02T03:04:05"),
        ({"taken": "0000:00:00 00:00:00"}, ""),
        ({"taken": "    :  :     :  :  ", "made": "2020:01:02 03:04:05"}, "2020-01-02T03:04:05"),
        ({"taken": "2024:13:17 08:09:10"}, ""),
        ({}, ""),
    ],
)
def test_time_of_the_picture_goes_before_that_of_the_file(
    tmp_path: Path, times: dict[str, str], expected: str
) -> None:
    found = make_exif(made=times.get("made", ""), taken=times.get("taken", ""))
    assert read_one_info(tmp_path, jpeg(30, 40, exif=found)).exif_datetime == expected


@pytest.mark.parametrize("length", range(0, 120, 7))
def test_exif_that_was_cut_tells_nothing_or_the_same(length: int) -> None:
    whole = make_exif(6, taken="2024:05:17 08:09:10").tobytes()
    assert exif.read_time_taken(whole) == TAKEN
    assert exif.read_time_taken(whole[:length]) in ("", TAKEN)


def test_exif_of_a_heic_is_not_needed_for_its_size(tmp_path: Path) -> None:
    file = tmp_path / "x.heic"
    pillow_heif.from_pillow(Image.new("RGB", (40, 30))).save(file, quality=-1)
    assert read_one_info(tmp_path, file.read_bytes()) == ImageInfo(
        40, 30, "2023-11-14T22:13:20Z", ""
    )


def test_what_is_no_image_has_no_info(tmp_path: Path) -> None:
    assert read_one_info(tmp_path, b"no image") == ImageInfo()
    assert load_info(ImageRef(0, b"missing")) == ImageInfo()


def test_images_from_memory_have_a_size() -> None:
    assert load_info(ImageRef(0, b"", Image.new("L", (5, 7)))) == ImageInfo(5, 7)
    assert load_info(ImageRef(0, b"", np.zeros((7, 5, 3), "u1"))) == ImageInfo(5, 7)


def test_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    system_open = os.open

    def open_and_note(path: Any, *more: Any) -> int:
        opened.append(path)
        return system_open(path, *more)

    monkeypatch.setattr(os, "open", open_and_note)
    read_one_info(tmp_path, jpeg(30, 40))
    assert opened == [os.fsencode(tmp_path / "image")]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Write a photo with a time, one without a time, and a damaged one."""
    photo = Image.open(ROOT / "examples" / "photos" / "chelsea.png").convert("RGB")
    folder = tmp_path / "album"
    folder.mkdir()
    photo.save(folder / "a.jpg", exif=make_exif(taken="2024:05:17 08:09:10"))
    photo.save(folder / "b.jpg")
    (folder / "c.jpg").write_bytes(b"")
    for file in folder.iterdir():
        os.utime(file, (1_700_000_000, 1_700_000_000))
    return folder


def run(album: Path, *more: object) -> Any:
    result = mnv1("classify", album, "--module", "bundled", "--with-meta", "--top", 1, *more)
    assert result.exit_code == 3, result.stderr
    return result


def test_rows_of_csv(album: Path) -> None:
    rows = list(csv.DictReader(run(album, "--on-error", "row").stdout.splitlines()))
    assert list(rows[0])[-5:] == ["width", "height", "mtime", "exif_datetime", "error"]
    assert [tuple(row.values())[-5:] for row in rows] == [
        ("451", "300", "2023-11-14T22:13:20Z", TAKEN, ""),
        ("451", "300", "2023-11-14T22:13:20Z", "", ""),
        ("", "", "", "", "the file is empty"),
    ]


def test_rows_of_json(album: Path) -> None:
    first, second = map(json.loads, run(album, "-f", "jsonl").stdout.splitlines())
    assert first["exif_datetime"] == TAKEN
    assert second["exif_datetime"] is None
    assert (second["width"], second["height"]) == (451, 300)


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.parquet"])
@pytest.mark.parametrize("more", [(), ("--wide",)])
def test_rows_are_added_to(album: Path, tmp_path: Path, name: str, more: tuple[str, ...]) -> None:
    if more and name not in ("x.csv", "x.tsv"):
        return
    out, whole = tmp_path / name, tmp_path / f"whole{name}"
    (album / "b.jpg").rename(tmp_path / "b.jpg")
    run(album, "-o", out, *more)
    (tmp_path / "b.jpg").rename(album / "b.jpg")
    run(album, "--skip-existing", out, "--append", *more)
    run(album, "-o", whole, *more)
    if name == "x.parquet":
        tables = [duckdb.sql(f"select * from '{file}'").fetchall() for file in (out, whole)]
        assert tables[0] == tables[1]
    else:
        assert out.read_bytes() == whole.read_bytes()


def test_table_has_no_room(album: Path) -> None:
    result = mnv1("classify", album, "--with-meta", "-f", "table")
    assert result.exit_code == 2
    assert "no room for --with-meta" in result.stderr


def test_example_counts_dogs_by_month(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(album, "-o", tmp_path / "labels.parquet")
    monkeypatch.chdir(tmp_path)
    query = (ROOT / "examples" / "dogs_by_month.sql").read_text()
    assert duckdb.sql(query).fetchall() == []
    # There is a cat on both; with its classes the months come out.
    cats = query.replace("152 and 269", "282 and 286")
    assert duckdb.sql(cats).fetchall() == [("2024-05", 1), (None, 1)]
