"""Licences of what comes from others are in the project and in what is installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.conftest import ROOT

WORDNET = "LICENSES/WordNet-3.0.txt"


def test_class_names_come_with_their_licence() -> None:
    text = (ROOT / WORDNET).read_text("utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in text
    assert "appear on ALL copies of the software, database and" in text
    assert text.endswith("Princeton University and LICENSEE agrees to preserve same.\n")


def test_notice_names_every_licence_and_what_comes_from_others() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for path in (ROOT / "LICENSES").iterdir():
        assert f"LICENSES/{path.name}" in notice
    assert "labels/imagenet_1001.csv" in notice
    assert "mobilenet_v1_1.0_224.fp16.npz" in notice


def test_wheel_and_source_have_the_licences() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    named = {
        str(path.relative_to(ROOT))
        for pattern in config["project"]["license-files"]
        for path in ROOT.glob(pattern)
    }
    assert {"LICENSE", "NOTICE", WORDNET} <= named
    source = config["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"/LICENSES", "/NOTICE", "/docs"} <= set(source)
    assert all(Path(ROOT, path.lstrip("/")).exists() for path in source)
