"""Files, folders, globs and lists as inputs."""

from __future__ import annotations

import base64
import json
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.support.shell import BUNDLED, file_names, mnv1, rows

if TYPE_CHECKING:
    from pathlib import Path


def test_lists_and_folders_keep_their_order(few: Path, tmp_path: Path) -> None:
    paths = [few / name for name in ("d.jpg", "a.jpg", "d.jpg")]
    file = tmp_path / "list"
    file.write_text("\n".join(map(str, paths)))
    run = ("classify", *BUNDLED, "--top", 1, "-f", "csv")
    listed = rows(mnv1(*run, "--files-from", file).stdout)
    assert [row["path"] for row in listed] == [str(path) for path in paths]
    piped = rows(mnv1(*run, "-", stdin=file.read_bytes()).stdout)
    assert piped == listed
    nul = "\0".join(map(str, paths)).encode()
    assert rows(mnv1(*run, "-0", "-", stdin=nul).stdout) == listed
    walked = rows(mnv1(*run, few).stdout)
    assert file_names(walked) == ["a.jpg", "b.png", "c.bmp", "d.jpg"]


def test_empty_list_gives_a_header_and_exit_code_0() -> None:
    for name, header in (("classify", b"path,rank"), ("logits", b"path,0,1")):
        result = mnv1(name, "-", *BUNDLED, "-f", "csv", stdin=b"")
        assert result.exit_code == 0
        assert result.stdout_bytes.startswith(header)
        assert result.stdout_bytes.count(b"\n") == 1


def test_empty_list_gives_an_array_without_rows(tmp_path: Path) -> None:
    out = tmp_path / "x.npy"
    assert mnv1("embed", "-", *BUNDLED, "-o", out, stdin=b"").exit_code == 0
    assert np.load(out).shape == (0, 1024)


def test_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    result = mnv1("classify", tmp_path, *BUNDLED, "-o", tmp_path / "r.csv")
    assert result.exit_code == 1
    assert "no images in" in result.stderr
    assert ".txt 1" in result.stderr
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_folder_without_images_beside_one_with_them_is_told(few: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (few / "notes.txt").write_text("no image")
    result = mnv1("classify", empty, few, *BUNDLED, "-f", "csv")
    assert result.exit_code == 0
    assert f"no images in {empty}" in result.stderr
    assert "1 skipped by suffix (.txt 1)" in result.stderr


@pytest.mark.parametrize("arguments", [["nowhere.jpg"], ["*.nothing"], ["--files-from", "nowhere"]])
def test_missing_input_is_an_error_before_any_work(
    few: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = mnv1("classify", few, *arguments, *BUNDLED, "-o", tmp_path / "r.csv")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["few"]


@pytest.mark.parametrize("arguments", [[], ["-", "-"], ["-", "--files-from", "-"]])
def test_inputs_that_make_no_sense_are_usage_errors(arguments: list[str]) -> None:
    result = mnv1("classify", *arguments, *BUNDLED)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_any_name_goes_through(few: Path, tmp_path: Path) -> None:
    odd = [b"a b.jpg", b'q"uote.jpg', b"new\nline.jpg", b"latin\xe9.jpg", b"-o.jpg", b"%s\t.jpg"]
    folder = os.fsencode(tmp_path / "odd")
    os.mkdir(folder)
    paths = [os.path.join(folder, name) for name in odd]
    for path in paths:
        shutil.copy(os.fsencode(few / "a.jpg"), path)
    stdin = b"\0".join(paths)
    run = ("classify", "-0", "-", *BUNDLED, "--top", "1", "-f")
    results = rows(mnv1(*run, "csv", stdin=stdin).stdout_bytes)
    assert [os.fsencode(row["path"]) for row in results] == paths
    tabbed = rows(mnv1(*run, "tsv", stdin=stdin).stdout_bytes, "\t")
    assert [os.fsencode(row["path"]) for row in tabbed] == paths
    lines = mnv1(*run, "jsonl", stdin=stdin).stdout_bytes.splitlines()
    objects = [json.loads(line) for line in lines]
    back = [base64.b64decode(o["path_bytes"]) if "path_bytes" in o else o["path"].encode()
            for o in objects]  # fmt: skip
    assert back == paths
    assert [o["path"] for o in objects if "path_bytes" in o] == [f"{tmp_path}/odd/latin\ufffd.jpg"]
