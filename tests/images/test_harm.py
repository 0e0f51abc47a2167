"""Images made to harm: they cost no more than others, and are refused in one line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile

from mnv1cli import limits
from mnv1cli.errors import ImageError
from mnv1cli.images import file, loader, opening
from mnv1cli.inputs.listing import Listing
from mnv1cli.types import ImageRef, PixelSpec
from tests.conftest import ROOT
from tests.support import images
from tests.support.images import SAMPLES, colours, encode, jpeg
from tests.support.pixels import load_pixels, read_rgb
from tests.support.reading import unpack_batches, write_files

if TYPE_CHECKING:
    from pathlib import Path

SPEC = PixelSpec(64)
MOST_SECONDS = 2.0
MOST_KB = 50_000


@pytest.fixture(scope="module")
def bombs() -> dict[str, list[dict[str, Any]]]:
    """Decode each bomb in another process, and return the outcomes."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.support.bombs"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for line in run.stdout.splitlines():
        bomb = json.loads(line)
        found.setdefault(bomb["kind"], []).append(bomb)
    return found


def test_no_bomb_takes_long_or_much(bombs: dict[str, list[dict[str, Any]]]) -> None:
    all_of_them = [bomb for kind in bombs.values() for bomb in kind]
    assert len(all_of_them) > 25
    assert [b for b in all_of_them if b["seconds"] > MOST_SECONDS or b["kB"] > MOST_KB] == []


def test_claims_are_refused_by_their_size(bombs: dict[str, list[dict[str, Any]]]) -> None:
    for bomb in bombs["claims"]:
        assert bomb["reason"].startswith("too large: "), bomb
        assert bomb["reason"].endswith(" is more than 200 million pixels (--max-pixels)"), bomb


def test_what_would_take_too_long_is_refused(bombs: dict[str, list[dict[str, Any]]]) -> None:
    assert [bomb for bomb in bombs["slow"] if not bomb["reason"]] == []


def test_what_is_never_unpacked_does_no_harm(bombs: dict[str, list[dict[str, Any]]]) -> None:
    assert [bomb for bomb in bombs["harmless"] if bomb["reason"]] == []


# Limits


def read_reasons(refs: list[ImageRef], spec: PixelSpec) -> list[str]:
    return [read.reason for read in unpack_batches(loader.load_batches(refs, spec, 4, 2), spec)]


def test_limit_of_pixels_holds_for_every_format_and_in_memory(tmp_path: Path) -> None:
    size = images.HEIGHT * images.WIDTH
    files = {
        name: sample.data
        for name, sample in SAMPLES.items()
        if sample.rgb.shape[:2] == (images.HEIGHT, images.WIDTH)
    }
    refs = write_files(tmp_path, files)
    refs.append(ImageRef(len(refs), b"", source=colours()))
    refs.append(ImageRef(len(refs), b"", source=Image.fromarray(colours())))
    assert len(refs) > 30
    reasons = read_reasons(refs, PixelSpec(64, max_pixels=size))
    assert reasons == [""] * len(refs)
    reasons = read_reasons(refs, PixelSpec(64, max_pixels=size - 1))
    assert reasons == ["too large: 19x13 is more than 246 pixels (--max-pixels)"] * len(refs)


def test_limit_of_bytes_holds_before_a_file_is_read(tmp_path: Path) -> None:
    data = jpeg(40, 56)
    refs = write_files(tmp_path, {"a.jpg": data, "b.jpg": data + bytes(1), "c.jpg": b""})
    sparse = tmp_path / "d.jpg"
    sparse.write_bytes(data)
    os.truncate(sparse, 3_100_000_000)
    refs.append(ImageRef(3, os.fsencode(sparse)))
    reasons = read_reasons(refs, PixelSpec(64, max_bytes=len(data)))
    assert reasons[0] == ""
    assert reasons[1].startswith("too large: the file has ")
    assert reasons[2] == "the file is empty"
    assert reasons[3] == "too large: the file has 3.1 GB (--max-bytes)"
    assert read_reasons(refs[3:], SPEC) == ["too large: the file has 3.1 GB (--max-bytes)"]


def test_file_that_grows_meanwhile_is_read_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it.jpg"
    path.write_bytes(bytes(100_000))
    before = os.stat(path)
    path.write_bytes(bytes(900_000))
    monkeypatch.setattr(os, "fstat", lambda descriptor: before)
    assert len(file.read_file(os.fsencode(path), 900_000)) == 900_000
    with pytest.raises(ImageError, match=r"^too large: the file has 200\.0 kB"):
        file.read_file(os.fsencode(path), 199_999)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (200_000_000, "200 million pixels"),
        (1_000_000, "1 million pixels"),
        (1_500_000_000, "1,500 million pixels"),
        (1_234_567, "1,234,567 pixels"),
        (99, "99 pixels"),
    ],
)
def test_words_for_a_limit(limit: int, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        limits.check_pixels(limit + 1, 1, limit)
    assert str(caught.value) == f"too large: {limit + 1}x1 is more than {words} (--max-pixels)"
    limits.check_pixels(limit, 1, limit)


# Pillow's own settings belong to the program


@pytest.mark.parametrize("name", SAMPLES)
def test_limit_of_pillow_is_neither_heeded_nor_changed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_pixels(SAMPLES[name].data, SPEC)
    if "WebP" in name:
        pytest.skip("Pillow looks at its own limit within")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_pixels(SAMPLES[name].data, SPEC), expected)
    assert Image.MAX_IMAGE_PIXELS == 50
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    np.testing.assert_array_equal(load_pixels(SAMPLES[name].data, SPEC), expected)


CUT = {
    **{f"{name}, cut": SAMPLES[name].data for name in SAMPLES},
    "progressive JPEG": encode(Image.fromarray(colours(90, 70)), "JPEG", progressive=True),
    "interlaced GIF": encode(images.palette_image(), "GIF", interlace=1),
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", CUT)
def test_cut_file_is_refused_though_pillow_is_told_to_load_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = CUT[kind][: len(CUT[kind]) * 6 // 10]
    reasons = []
    for forgiving in (False, True):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", forgiving)
        try:
            found = read_rgb(data, SPEC)
        except ImageError as error:
            reasons.append(str(error))
        else:
            # What was cut off has no part in the first picture.
            np.testing.assert_array_equal(found, SAMPLES[kind[:-5]].rgb)
            assert any(word in kind for word in ("two pages", "animated", "MPO"))
    assert len(reasons) in (0, 2)
    assert all(re.match("damaged|not an image", reason) for reason in reasons)


def test_pixels_do_not_depend_on_how_pillow_loads_gifs(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = SAMPLES["palette GIF, transparent"]
    for strategy in GifImagePlugin.LoadingStrategy:
        monkeypatch.setattr(GifImagePlugin, "LOADING_STRATEGY", strategy)
        np.testing.assert_array_equal(read_rgb(sample.data, SPEC), sample.rgb)


def test_warnings_that_are_errors_are_reasons() -> None:
    data = bytearray(SAMPLES["RGB TIFF"].data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in range(8, len(data), 7):
            harmed = bytes(data[:at]) + b"\xff" + bytes(data[at + 1 :])
            with contextlib.suppress(ImageError):
                load_pixels(harmed, SPEC)


def test_no_plugin_is_imported_before_its_format_comes() -> None:
    code = (
        "import sys\nfrom mnv1cli.images import decode\nprint('PIL.AvifImagePlugin' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
    assert opening.FORMATS == ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "HEIF")


# What is no file


@pytest.fixture
def special(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[bytes, str]:
    """Make special files that must not be opened, each also through a link."""
    # The name of a socket may not be as long as that of a temporary folder.
    monkeypatch.chdir(tmp_path)
    os.mkdir("in")
    os.mkfifo("in/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("in/socket.jpg")
    os.symlink("/dev/zero", "in/zero.jpg")
    os.symlink("in/pipe.jpg", "pipe-link.jpg")
    os.symlink("pipe-link.jpg", "pipe-link-link.jpg")
    os.symlink("in/socket.jpg", "socket-link.jpg")
    os.symlink("loop.jpg", "loop.jpg")
    os.symlink("b.jpg", "a.jpg")
    os.symlink("a.jpg", "b.jpg")
    named = [b"in/pipe.jpg", b"pipe-link.jpg", b"pipe-link-link.jpg"]
    sockets = [b"in/socket.jpg", b"socket-link.jpg"]
    devices = [b"/dev/zero", b"/dev/full", b"in/zero.jpg"]
    return {
        **dict.fromkeys(named, "is a named pipe, not a file"),
        **dict.fromkeys(sockets, "is a socket, not a file"),
        **dict.fromkeys(devices, "is a device, not a file"),
        **dict.fromkeys([b"loop.jpg", b"a.jpg", b"b.jpg"], "cannot be read: Too many levels"),
        b"in": "is a folder, not a file",
    }


@pytest.mark.parametrize("how", ["named", "list"])
def test_pipes_sockets_and_devices_are_not_opened(
    special: dict[bytes, str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "named":
        names = [name for name in special if name != b"in"]
        refs = list(Listing(names))
    else:
        names = list(special)
        with open("names", "wb") as file:
            file.write(b"\n".join(names))
        refs = list(Listing([], [b"names"]))
    opened: list[Any] = []
    genuine = os.open

    def watched(path: Any, *args: Any) -> int:
        opened.append(path)
        return genuine(path, *args)

    monkeypatch.setattr(os, "open", watched)
    reasons = read_reasons(refs, SPEC)
    for name, reason in zip(names, reasons, strict=True):
        assert reason.startswith(special[name]), (name, reason)
    assert not set(names) & set(opened)


def test_file_that_becomes_a_pipe_between_two_looks_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regular, pipe = tmp_path / "file", tmp_path / "pipe"
    regular.write_bytes(b"content")
    os.mkfifo(pipe)
    before = os.stat(regular)
    monkeypatch.setattr(os, "stat", lambda path: before)
    with pytest.raises(ImageError, match="named pipe"):
        file.read_file(os.fsencode(pipe))


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make folders that contain links to each other and to themselves."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("top/below")
    (tmp_path / "top/below/a.jpg").write_bytes(jpeg(8, 8))
    os.symlink(".", "top/self")
    os.symlink("../../top", "top/below/up")
    os.symlink("endless", "top/endless")
    return tmp_path


@pytest.mark.parametrize("name", [b"top", b"top/**", b"**/*.jpg", b"top/**/*.jpg", b"**"])
def test_rings_of_links_end(ring: Path, name: bytes) -> None:
    found = [ref.path for ref in Listing([name])]
    assert [path for path in found if path.endswith(b"a.jpg")] == [b"top/below/a.jpg"]
    assert len(found) < 10
