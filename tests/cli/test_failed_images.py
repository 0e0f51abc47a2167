"""Images that cannot be used: messages, rows and exit codes."""

from __future__ import annotations

import json
import os
import socket
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.support.shell import BUNDLED, file_names, mnv1, rows

if TYPE_CHECKING:
    from pathlib import Path


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture
def bad(tmp_path: Path, few: Path) -> dict[str, Path]:
    """Twelve things that are no usable image, by what is wrong with them."""
    folder = tmp_path / "bad"
    folder.mkdir()
    jpeg, png = (few / "a.jpg").read_bytes(), (few / "b.png").read_bytes()
    Image.open(few / "b.png").save(folder / "corrupt.webp", lossless=True)
    webp = (folder / "corrupt.webp").read_bytes()
    claim = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"this is a text\n" * 20,
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": png[: len(png) // 2],
        "huge.png": b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", claim) + png_chunk(b"IEND", b""),
        "corrupt.webp": webp[:30] + b"\x00" * (len(webp) - 30),
        "nothing.tiff": b"II*\0" + struct.pack("<IHI", 8, 0, 0),
        "zeros.jpg": bytes(len(jpeg)),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    (folder / "link.jpg").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(folder / "socket.jpg"))
    every = [*contents, "folder.jpg", "link.jpg", "socket.jpg", "removed.jpg"]
    return {name: folder / name for name in every}


@pytest.fixture
def mixed(tmp_path: Path, few: Path, bad: dict[str, Path]) -> tuple[Path, list[Path], list[Path]]:
    """A list with the bad ones among good ones; and both of them."""
    good = [few / name for name in ("a.jpg", "b.png", "c.bmp", "d.jpg")] * 3
    mixed = [path for pair in zip(good, bad.values(), strict=True) for path in pair]
    file = tmp_path / "mixed"
    file.write_text("\n".join(map(str, mixed)))
    return file, good, list(bad.values())


def test_bad_images_are_told_and_leave_their_neighbours_alone(
    mixed: tuple[Path, list[Path], list[Path]], tmp_path: Path
) -> None:
    file, good, bad = mixed
    errors = tmp_path / "errors.csv"
    result = mnv1("logits", *BUNDLED, "--files-from", file, "--errors", errors)
    assert result.exit_code == 3
    failures = rows(errors.read_bytes())
    assert list(failures[0]) == ["path", "reason"]
    assert [row["path"] for row in failures] == [str(path) for path in bad]
    assert all(row["reason"] for row in failures)
    assert result.stdout_bytes == mnv1("logits", *BUNDLED, *good).stdout_bytes
    for path in bad:
        assert result.stderr.count(str(path)) == 1
    assert "12 failed" in result.stderr


def test_bad_images_keep_their_rows_where_that_is_wanted(
    mixed: tuple[Path, list[Path], list[Path]], tmp_path: Path
) -> None:
    file, good, _ = mixed
    run = (*BUNDLED, "--files-from", file, "--on-error", "row", "-q")
    out = tmp_path / "x.npy"
    assert mnv1("logits", *run, "-o", out).exit_code == 3
    values = np.load(out)
    assert np.isnan(values[1::2]).all()
    mnv1("logits", *BUNDLED, *good, "-o", tmp_path / "good.npy")
    np.testing.assert_array_equal(values[::2], np.load(tmp_path / "good.npy"))
    index = rows((tmp_path / "x.index.csv").read_bytes())
    assert [bool(row["error"]) for row in index] == [False, True] * 12
    labels = rows(mnv1("classify", *run, "-f", "csv", "--top", 2).stdout)
    assert list(labels[0])[-1] == "error"
    assert [bool(r["error"]) for r in labels] == [False, False, True] * 12
    objects = [json.loads(x) for x in mnv1("classify", *run, "-f", "jsonl").stdout.splitlines()]
    assert [o["predictions"] is None for o in objects] == [False, True] * 12
    assert [bool(o["error"]) for o in objects] == [False, True] * 12


def test_on_error_fail_stops_at_the_first_and_leaves_what_was_done(
    few: Path, bad: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    inputs = [few / "a.jpg", few / "b.png", bad["empty.jpg"], few / "d.jpg", bad["text.jpg"]]
    result = mnv1("classify", *inputs, *BUNDLED, "--on-error", "fail", "-o", out, "--top", 1)
    assert result.exit_code == 1
    assert not out.exists()
    assert file_names(rows((tmp_path / "r.csv.part").read_bytes())) == ["a.jpg", "b.png"]
    assert "empty.jpg" in result.stderr
    assert "text.jpg" not in result.stderr
    assert "r.csv.part" in result.stderr


def test_all_bad_is_exit_code_3_with_a_header(bad: dict[str, Path]) -> None:
    del bad["removed.jpg"]  # named outright, it would be a missing input
    result = mnv1("logits", *bad.values(), *BUNDLED)
    assert result.exit_code == 3
    assert result.stdout.startswith("path,0,1,")
    assert result.stdout.count("\n") == 1


def test_a_message_about_a_file_is_one_line_that_no_terminal_obeys(tmp_path: Path) -> None:
    bad = tmp_path / "a\nb\x1b[31m.jpg"
    bad.write_bytes(b"")
    result = mnv1("classify", tmp_path, *BUNDLED, "-q", "-f", "csv")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
