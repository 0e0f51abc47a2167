"""Files of modules that are damaged after they were installed."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.errors import ModuleError, UnreachableError
from mnv1cli.modules import artifacts, cache, files, inspection, locate
from mnv1cli.modules.catalog import DEFAULT_HANDLE
from mnv1cli.types import FetchOptions
from tests.conftest import ROOT
from tests.support import hub as hubs
from tests.support.hub import HANDLE_PATH
from tests.support.laid import list_left
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.hub import Hub


PHOTO = ROOT / "examples" / "photos" / "chelsea.png"
WEIGHTS = "variables/variables.data-00000-of-00001"
OFFLINE = FetchOptions(offline=True)


pytestmark = pytest.mark.usefixtures("online")


def flip_bit(file: Path) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [flip_bit, os.unlink])
@pytest.mark.parametrize("name", [WEIGHTS, "saved_model.pb", "tfhub_module.pb"])
def test_damaged_module_is_fetched_anew(
    hub: Hub, own_cache: Path, bundled: Path, name: str, harm: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    hub.answers[HANDLE_PATH] = hubs.sends(hubs.pack(bundled))
    known = inspection.open_module("hub")
    harm(known.path / name)
    found = mnv1("module", "verify", "hub")
    assert found.exit_code == 1
    assert f"{name} {'is missing' if harm is os.unlink else 'has changed'}" in found.stdout
    with caplog.at_level(logging.INFO):
        assert inspection.open_module("hub").fingerprint == known.fingerprint
    assert len(hub.asked) == 2
    assert mnv1("module", "verify", "hub").exit_code == 0
    if harm is flip_bit:
        assert (
            f"the module in {known.path} is damaged: {name} has changed since the module came"
            in [record.getMessage() for record in caplog.records]
        )
    assert list_left(own_cache) - {"compiled"} == {
        known.path.name,
        f"{known.path.name}.descriptor.txt",
    }


def test_damaged_module_that_nothing_serves_is_refused_and_stays(
    hub: Hub, own_cache: Path, bundled: Path
) -> None:
    hub.answers[HANDLE_PATH] = hubs.sends(hubs.pack(bundled))
    place = locate.locate("hub").path
    flip_bit(place / WEIGHTS)
    hub.answers.clear()
    damaged = f"is damaged: {WEIGHTS} has changed since the module came"
    with pytest.raises(UnreachableError) as caught:
        inspection.open_module("hub", OFFLINE)
    assert str(caught.value) == (
        f"module {DEFAULT_HANDLE} is not in the cache ({place} {damaged}), and mnv1 is offline; "
        "put it there, name its directory or its archive, or use --module bundled"
    )
    with pytest.raises(UnreachableError) as caught:
        inspection.open_module("hub")
    assert str(caught.value).startswith(
        f"the module in {place} {damaged}, and no source serves {DEFAULT_HANDLE} ({hub.url}"
    )
    assert files.find_problems(place) == [f"{WEIGHTS} has changed since the module came"]
    # By its directory nothing tells what to fetch.
    with pytest.raises(ModuleError) as named:
        inspection.open_module(str(place))
    assert str(named.value) == (
        f"the module in {place} {damaged}; "
        "put it there again, or remove its .mnv1-sha256 if the change is on purpose"
    )


def test_damaged_default_gives_way_to_the_bundled_one_with_a_warning(
    with_bundled: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = cache.cache_directory(DEFAULT_HANDLE)
    shutil.copytree(with_bundled, place)
    flip_bit(place / WEIGHTS)
    assert inspection.open_module(None, OFFLINE).handle == "bundled"
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert (
        f"is not available: in the cache it is damaged: {WEIGHTS} has changed since the module "
        "came, and mnv1 is offline" in warning
    )


def test_damaged_bundled_module_is_built_anew_without_a_network(with_bundled: Path) -> None:
    before = inspection.open_module("bundled", OFFLINE).fingerprint
    flip_bit(with_bundled / WEIGHTS)
    assert inspection.open_module("bundled", OFFLINE).fingerprint == before
    assert files.find_problems(with_bundled) == []


def test_damaged_module_of_an_archive_is_unpacked_anew(
    bundled: Path, own_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.tar.gz").write_bytes(hubs.pack(bundled))
    before = inspection.open_module(str(tmp_path / "m.tar.gz"))
    flip_bit(before.path / WEIGHTS)
    assert inspection.open_module(str(tmp_path / "m.tar.gz")) == before


def test_nothing_is_computed_with_damaged_weights(
    hub: Hub, warm_cache: Path, bundled: Path
) -> None:
    """Not even if the compiled model exists, and would be compiled again from them."""
    hub.answers[HANDLE_PATH] = hubs.sends(hubs.pack(bundled))
    words = ("classify", PHOTO, "--module", "hub", "--top", "1", "-f", "csv")
    before = mnv1(*words)
    assert "Egyptian cat" in before.stdout
    flip_bit(cache.cache_directory(DEFAULT_HANDLE) / WEIGHTS)
    refused = mnv1(*words, "--offline")
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert f"is damaged: {WEIGHTS} has changed" in refused.stderr
    healed = mnv1(*words)
    assert healed.stdout == before.stdout
    assert "preparing the module" not in healed.stderr
    assert len(artifacts.list_fingerprints()) == 1


def test_start_with_a_known_module_reads_its_files_once(
    with_bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection.open_module("bundled")

    def never(*_: object) -> None:
        raise AssertionError("the files are read again")

    monkeypatch.setattr(files, "find_problems", never)
    monkeypatch.setattr(files, "hash_file", limit_to_suffix("npz", files.hash_file))
    inspection.open_module("bundled")


def limit_to_suffix(suffix: str, function: Any) -> Any:
    """Restrict a function to files with a suffix."""

    def checked(path: Path) -> Any:
        assert path.name.endswith(suffix)
        return function(path)

    return checked
