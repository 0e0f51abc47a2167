"""The page of a report: names are text and nothing else, and pictures are small."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from mnv1cli.results.files import META
from tests.support.report_pages import (
    HOSTILE,
    METADATA,
    list_photos,
    make_page,
    write_labels_csv,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_names_are_text(folder: Path) -> None:
    for name in HOSTILE:
        if "/" not in name:
            shutil.copy(folder / list_photos(folder)[0], folder / name)
    odd = b"no \xfftext\n\x1b[1m\xe2\x80\xae.jpg"
    shutil.copy(folder / list_photos(folder)[0], folder / os.fsdecode(odd))
    page = make_page(write_labels_csv(folder / "x.csv", [*HOSTILE, odd]), "--title", "</title><b>")
    shown = [attributes["title"] for attributes in page.attributes("p") if "title" in attributes]
    assert shown == [HOSTILE[0], HOSTILE[1], HOSTILE[2].replace("\u200b", r"\u200b"), HOSTILE[3],
                     r"no \xfftext\n\x1b[1m\u202e.jpg"]  # fmt: skip
    assert [entry["name"] for entry in page.entries()] == shown
    assert len(page.scripts) == 2
    assert "hurt" not in page.scripts[1]
    assert "<" not in page.scripts[0]
    # The one in a folder that is not there has a placeholder.
    assert len(page.attributes("img")) == 4
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_page_asks_for_nothing_and_runs_nothing_else(folder: Path) -> None:
    file = write_labels_csv(folder / "x.csv", [*list_photos(folder), "http://example.org/a.jpg"])
    file.with_name(file.name + META).write_text(json.dumps(METADATA))
    page = make_page(file)
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "url(" not in page.styles[0]
    assert "@import" not in page.styles[0]
    assert not re.search(r"fetch|XMLHttp|import\(|innerHTML|eval", page.scripts[1])
    policy = page.attributes("meta")[1]["content"]
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
    file = write_labels_csv(folder / "x.csv", ["photos/turned.jpg"])
    turned = {**METADATA, "failures": []}
    for wanted, metadata in (((128, 256), turned), ((256, 128), {**turned, "exif": False})):
        file.with_name(file.name + META).write_text(json.dumps(metadata))
        (shown,) = make_page(file).attributes("img")
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
    inside = [f"all.{suffix}!/deep/{os.path.basename(name)}" for name in list_photos(folder)[:3]]
    page = make_page(
        write_labels_csv(folder / "x.csv", [*inside, f"all.{suffix}!/no.jpg", "no.zip!/a.jpg"])
    )
    assert len(page.attributes("img")) == 3
    assert "no such file in its archive" in page.text
    (folder / f"all.{suffix}").write_bytes(b"PK and nothing more")
    page = make_page(write_labels_csv(folder / "x.csv", inside))
    assert page.attributes("img") == []
    assert page.text.count("damaged archive") == 3


def test_image_that_cannot_be_shown_has_a_placeholder(folder: Path) -> None:
    os.mkfifo(folder / "fifo.jpg")
    (folder / "text.jpg").write_text("no image")
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    (folder / "bomb.png").write_bytes(bomb.getvalue())
    page = make_page(
        write_labels_csv(folder / "x.csv", ["gone.jpg", "fifo.jpg", "text.jpg", "bomb.png"])
    )
    assert page.attributes("img") == []
    for reason in ("no such file", "named pipe", "the file holds text", "too large"):
        assert reason in page.text, reason


def test_relative_paths_start_from_one_of_three_folders(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    name = os.path.basename(list_photos(folder)[0])
    file = write_labels_csv(elsewhere / "x.csv", [name, list_photos(folder)[1]])
    monkeypatch.chdir(folder)
    # The second is seen from the current folder.
    assert len(make_page(file).attributes("img")) == 1
    shutil.copy(folder / list_photos(folder)[0], elsewhere)
    assert len(make_page(file).attributes("img")) == 2
    page = make_page(file, "--base", "photos")
    assert len(page.attributes("img")) == 1
