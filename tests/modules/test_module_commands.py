"""The commands `module verify`, `remove`, `fetch` and `list`."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from mnv1cli.modules import (
    files,
    locate,
    manage,
)
from tests.support import hub as hubs
from tests.support.hub import QUERY, SLOT, Hub
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("online")


def test_verify_names_what_is_wrong(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    place = locate.locate("hub").path
    assert mnv1("module", "verify").exit_code == 0
    index = place / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:-1] + b"x")
    (place / "assets").mkdir(exist_ok=True)
    (place / "assets" / "new.txt").write_text("new")
    (place / "tfhub_module.pb").unlink()
    result = mnv1("module", "verify", "hub", "--json")
    assert result.exit_code == 1
    (entry,) = json.loads(result.stdout)
    assert entry["ok"] is False
    assert [problem.split(" ")[0] for problem in entry["problems"]] == [
        "tfhub_module.pb", "assets/new.txt", "variables/variables.index",
    ]  # fmt: skip


def test_verify_says_so_where_no_checksums_were_noted(own_cache: Path, bundled: Path) -> None:
    shutil.copytree(bundled, own_cache / SLOT)
    (own_cache / SLOT / ".mnv1-sha256").unlink()
    result = mnv1("module", "verify", "hub")
    assert result.exit_code == 0
    assert "no checksums" in result.stdout


def test_remove_takes_all_of_a_module(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    locate.locate("hub")
    locate.locate("bundled")
    assert len(json.loads(mnv1("module", "list", "--json").stdout)) == 2
    mnv1("module", "remove", "hub")
    assert [m.handle.split(":")[0] for m in manage.list_cached()] == ["bundled"]
    assert mnv1("module", "remove", "hub").exit_code == 1
    removed = json.loads(mnv1("module", "remove", "--all", "--json").stdout)
    assert len(removed) == 1
    assert os.listdir(own_cache) == []
    assert mnv1("module", "remove").exit_code == 2
    assert mnv1("module", "remove", "--all", "hub").exit_code == 2


def damage(place: Path) -> None:
    data = place / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])


def test_fetch_mends_a_damaged_module(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    place = locate.locate("hub").path
    damage(place)
    refused = mnv1("module", "fetch", "--offline")
    assert refused.exit_code == 1
    assert "damaged" in refused.stderr
    assert place.is_dir()
    assert json.loads(mnv1("module", "fetch", "--json").stdout)["cached"] is False
    assert files.find_problems(place) == []


def test_fetch_rebuilds_a_damaged_bundled_module_without_a_network(with_bundled: Path) -> None:
    damage(with_bundled)
    assert mnv1("module", "fetch", "bundled", "--offline").exit_code == 0
    assert files.find_problems(with_bundled) == []
    assert json.loads(mnv1("module", "fetch", "bundled", "--json").stdout)["cached"] is True


def test_verify_does_not_pass_without_its_checksums(with_bundled: Path) -> None:
    (with_bundled / ".mnv1-sha256").write_text("zzz\n")
    result = mnv1("module", "verify")
    assert result.exit_code == 1
    assert "checksums is damaged" in result.stdout


def test_list_shows_incomplete_modules(with_bundled: Path) -> None:
    (with_bundled / "saved_model.pb").unlink()
    (entry,) = json.loads(mnv1("module", "list", "--json").stdout)
    assert (entry["path"], entry["complete"]) == (str(with_bundled), False)
    assert "incomplete" in mnv1("module", "list").stdout


@pytest.mark.usefixtures("with_bundled")
def test_remove_all_takes_what_dead_processes_left(own_cache: Path) -> None:
    left = own_cache / f"{SLOT}-{'0' * 32}-tmp"
    left.mkdir()
    (own_cache / f"{SLOT}.mnv1-lock").touch()
    assert mnv1("module", "remove", "--all").exit_code == 0
    assert os.listdir(own_cache) == []


def test_two_modules_at_once_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mnv1("module", "path", "bundled", "--module", "hub").exit_code == 2
    monkeypatch.setenv("MNV1_MODULE", "nowhere")
    assert mnv1("module", "path", "bundled").exit_code == 0
