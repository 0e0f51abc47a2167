"""The default module, what is remembered of it, and many processes that want a module."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import UnreachableError
from mnv1cli.modules import (
    catalog,
    files,
    locate,
)
from mnv1cli.types import FetchOptions
from tests.conftest import ROOT
from tests.support import hub as hubs
from tests.support.downloads import FOREVER
from tests.support.hub import QUERY, SLOT, Hub
from tests.support.shell import mnv1, program, rows

if TYPE_CHECKING:
    from pathlib import Path


PHOTO = ROOT / "examples" / "photos" / "chelsea.png"


pytestmark = pytest.mark.usefixtures("online")


# --- the default, and what is remembered -----------------------------------------


def test_default_ends_on_the_bundled_module_with_one_warning_and_remembers(
    hub: Hub, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert locate.locate().handle == "bundled"
    (warning,) = [r.getMessage() for r in caplog.records if r.name.startswith("mnv1cli")]
    for source in catalog.list_sources(catalog.DEFAULT_HANDLE, [hub.url]):
        assert source.url in warning
    assert "HTTP 404" in warning
    assert "224" in warning
    hub.asked.clear()
    assert locate.locate().handle == "bundled"
    assert hub.asked == []


def test_fetch_asks_again_after_a_failure(hub: Hub, own_cache: Path, packed: bytes) -> None:
    assert locate.locate().handle == "bundled"
    hub.answers[QUERY] = hubs.sends(packed)
    assert locate.locate().handle == "bundled"
    result = mnv1("module", "fetch", "--json")
    facts = json.loads(result.stdout)
    assert facts["path"] == str(own_cache / SLOT)
    assert facts["cached"] is False
    assert locate.locate().path == own_cache / SLOT
    assert json.loads(mnv1("module", "fetch", "--json").stdout)["cached"] is True


def test_other_mirrors_are_asked_in_spite_of_an_earlier_failure(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locate.locate().handle == "bundled"
    hub.answers[f"/other{QUERY}"] = hubs.sends(packed)
    monkeypatch.setenv("MNV1_MIRRORS", f"{hub.url}/other/")
    assert locate.locate().path == own_cache / SLOT


def test_offline_asks_nobody(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    assert locate.locate(None, FetchOptions(offline=True)).handle == "bundled"
    with pytest.raises(UnreachableError, match="offline"):
        locate.locate("hub", FetchOptions(offline=True))
    monkeypatch.setenv("MNV1_OFFLINE", "1")
    with pytest.raises(UnreachableError, match="offline"):
        locate.locate("hub")
    assert hub.asked == []


def test_named_module_is_never_replaced(hub: Hub, own_cache: Path) -> None:
    for name in ("hub", "mobilenet_v1_050_160", f"{hub.url}/some/model/1"):
        result = mnv1("classify", PHOTO, "--module", name)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "MNV1_MIRRORS" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("warm_cache")
def test_classify_without_a_network_gives_labels_and_asks_once() -> None:
    first = program("classify", PHOTO, "--top", 1)
    assert rows(first.stdout)[0]["label"] == "Egyptian cat"
    assert first.stderr.count(b"warning:") == 1
    second = program("classify", PHOTO, "--top", 1)
    assert b"within the last day" in second.stderr
    assert second.stdout == first.stdout


# --- many processes --------------------------------------------------------------


def test_twenty_processes_download_once(
    hub: Hub, own_cache: Path, packed: bytes, bundled: Path
) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    code = (
        "from mnv1cli.modules import files, locate\n"
        "print(files.compute_fingerprint(locate.locate('hub').path))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(20)
    ]
    prints = {run.communicate(timeout=300)[0].decode().strip() for run in runs}
    assert prints == {files.compute_fingerprint(bundled)}
    assert hub.asked == [QUERY]


def test_others_finish_when_the_holder_of_the_lock_is_killed(
    hub: Hub, own_cache: Path, packed: bytes
) -> None:
    """Kill the first process in the middle of its download."""

    def slow(request: hubs.Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(packed)))
        request.end_headers()
        request.wfile.write(packed[:1000])
        request.wfile.flush()
        time.sleep(FOREVER)

    hub.answers[QUERY] = slow
    code = "from mnv1cli.modules import locate; print(locate.locate('hub').path)"
    holder = subprocess.Popen([sys.executable, "-c", code])
    while not list(own_cache.glob("*-tmp/.download")):
        assert holder.poll() is None
        time.sleep(0.05)
    hub.answers[QUERY] = hubs.sends(packed)
    others = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)
    ]
    time.sleep(1)
    holder.kill()
    holder.wait()
    places = {run.communicate(timeout=300)[0].decode().strip() for run in others}
    assert places == {str(own_cache / SLOT)}
    assert not list(own_cache.glob("*-tmp"))


def test_file_system_without_locks_is_no_obstacle(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    def refuse(self: filelock.FileLock) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    hub.answers[QUERY] = hubs.sends(packed)
    assert locate.locate("hub").path == own_cache / SLOT
