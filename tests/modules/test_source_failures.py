"""Sources that fail, stall, break off, or send something else."""

from __future__ import annotations

import resource
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import ChecksumError, ModuleError, UnreachableError
from mnv1cli.modules import (
    cache,
    catalog,
    files,
    locate,
)
from mnv1cli.modules.transfer import connections, download
from mnv1cli.types import FetchOptions
from tests.support import hub as hubs
from tests.support.downloads import FOREVER
from tests.support.hub import HANDLE_PATH, QUERY, SLOT, Hub
from tests.support.shell import command, mnv1, program

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("online")


def is_clean(cache: Path) -> bool:
    return not list(cache.glob("*-tmp*")) and not (cache / SLOT).exists()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (hubs.fails(404), "HTTP 404"),
        (hubs.fails(403), "HTTP 403"),
        (hubs.fails(500), "HTTP 500"),
        (hubs.sends(b"<html>sign in</html>", Content_Type="text/html"), "no archive but text/html"),
        (hubs.sends(hubs.text_archive()), "not an intact .tar.gz"),
        (hubs.redirects(HANDLE_PATH), "redirects"),
    ],
    ids=["404", "403", "500", "HTML", "no tar", "redirect loop"],
)
def test_source_that_fails_is_named_with_the_reason_and_the_next_run_succeeds(
    hub: Hub, own_cache: Path, packed: bytes, answer: hubs.Answer, says: str
) -> None:
    hub.answers[HANDLE_PATH] = answer
    with pytest.raises(UnreachableError) as caught:
        locate.locate("hub")
    (failure,) = [told for told in caught.value.failures if told.startswith(hub.url + QUERY)]
    assert says in failure
    assert "\n" not in str(caught.value)
    assert is_clean(own_cache)
    hub.answers[HANDLE_PATH] = hubs.sends(packed)
    assert locate.locate("hub").path == own_cache / SLOT


def test_server_that_recovers_is_asked_again(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.fails(503, times=2, then=hubs.sends(packed))
    assert locate.locate("hub").path == own_cache / SLOT
    assert hub.asked == [QUERY] * 3


def test_archive_that_is_called_an_encoding_is_taken_as_it_is(
    hub: Hub, own_cache: Path, packed: bytes
) -> None:
    hub.answers[QUERY] = hubs.sends(packed, Content_Encoding="gzip")
    assert locate.locate("hub").path == own_cache / SLOT


def test_broken_transfer_goes_on_where_it_stopped(
    hub: Hub, own_cache: Path, packed: bytes, bundled: Path
) -> None:
    hub.answers[QUERY] = hubs.breaks_off(packed, at=1_000_000, times=1, ETag='"v1"')
    assert files.compute_fingerprint(locate.locate("hub").path) == files.compute_fingerprint(
        bundled
    )
    assert hub.asked == [QUERY] * 2


def test_broken_transfer_without_a_version_begins_anew(
    hub: Hub, own_cache: Path, packed: bytes, bundled: Path
) -> None:
    hub.answers[QUERY] = hubs.breaks_off(packed, at=1_000_000, times=1)
    assert files.compute_fingerprint(locate.locate("hub").path) == files.compute_fingerprint(
        bundled
    )


def test_transfer_that_always_breaks_off_is_a_failure(
    hub: Hub, own_cache: Path, packed: bytes
) -> None:
    hub.answers[QUERY] = hubs.breaks_off(packed, at=1000, times=99, ETag='"v1"')
    with pytest.raises(UnreachableError, match="broke off"):
        locate.locate("hub")
    assert is_clean(own_cache)


def test_archive_that_was_cut_off_is_a_failure(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed[: len(packed) // 2])
    with pytest.raises(UnreachableError, match=r"not an intact \.tar\.gz"):
        locate.locate("hub")
    assert is_clean(own_cache)


def test_server_that_stalls_is_given_up(
    hub: Hub, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_RESUMES", 0)
    hub.answers[QUERY] = hubs.stalls(FOREVER)
    policy = connections.DownloadPolicy(read=0.2, retries=0)
    own_cache.mkdir()
    with pytest.raises(ModuleError, match="stopped answering"):
        download.download(f"{hub.url}{QUERY}", own_cache / "x", policy)


@pytest.mark.parametrize(
    ("answer", "seconds", "says"),
    [
        (hubs.stalls(FOREVER), 0.3, "no answer in time"),
        (hubs.fails(503), 15, "HTTP 503"),
        (lambda request: request.send(429, b"", Retry_After="20"), 15, "asks to wait 20 s"),
        (hubs.redirects(HANDLE_PATH), 15, "circle"),
    ],
    ids=["stall", "503", "Retry-After", "redirects"],
)
def test_default_waits_no_longer_than_it_may_whatever_the_servers_do(
    hub: Hub,
    with_bundled: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: hubs.Answer,
    seconds: float,
    says: str,
) -> None:
    monkeypatch.setattr(locate, "DEFAULT_SECONDS", seconds)
    # A pause that is longer than what is left.
    monkeypatch.setattr(connections, "PAUSE_SECONDS", 20)
    assert_default_fails(hub, answer, says, caplog)


def assert_default_fails(
    hub: Hub, answer: hubs.Answer, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.answers = dict.fromkeys((HANDLE_PATH, f"{HANDLE_PATH}.tar.gz"), answer)
    assert locate.locate().handle == "bundled"
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "mnv1cli.modules.locate"]
    assert f"{hub.url}{QUERY}: " in warning
    assert says in warning


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (hubs.announces(1000), "at 0 bytes of 1,000: it sends too slowly"),
        (hubs.trickles(b"\x1f\x8b" + bytes(1000)), "at 0 bytes of 1,002: it sends too slowly"),
    ],
    ids=["silence", "trickle"],
)
def test_default_does_not_wait_for_transfers_that_do_not_flow(
    hub: Hub,
    with_bundled: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: hubs.Answer,
    says: str,
) -> None:
    monkeypatch.setattr(connections, "SLOW_SECONDS", 0.2)
    assert_default_fails(hub, answer, says, caplog)


def test_plain_http_names_the_option_that_takes_it(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.delenv("MNV1_MIRRORS")
    handle = "http://modules.example/m/1"
    hub.answers[handle] = hubs.sends(packed)
    refused = mnv1("module", "fetch", handle)
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"mnv1: error: no source serves {handle} ({handle}?tf-hub-format=compressed: plain http to "
        "modules.example, where the content can be changed on the way, and no checksum of it is "
        "known; --insecure accepts it); put it into the cache, set MNV1_MIRRORS to a mirror, name "
        "its directory or its archive, or use --module bundled\n"
    )
    assert hub.asked == []
    assert mnv1("module", "fetch", handle, "--insecure").exit_code == 0
    assert locate.locate(handle).path == cache.cache_directory(handle)


def test_default_is_asked_for_again_with_insecure(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its earlier failure was that of another question."""
    monkeypatch.setenv("MNV1_MIRRORS", "http://mirror.example")
    monkeypatch.setenv("http_proxy", hub.url)
    hub.answers[f"http://mirror.example{QUERY}"] = hubs.sends(packed)
    assert locate.locate().handle == "bundled"
    assert hub.asked == []
    assert locate.locate(None, FetchOptions(insecure=True)).path == own_cache / SLOT


def test_wrong_checksum_is_an_error_and_never_falls_through(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only(handle: str, mirrors: list[str]) -> list[catalog.ModuleSource]:
        return [
            catalog.ModuleSource(f"{hub.url}/a.tgz", sha256="0" * 64),
            catalog.ModuleSource(f"{hub.url}/b.tgz"),
        ]

    monkeypatch.setattr(catalog, "list_sources", only)
    hub.answers = {"/a.tgz": hubs.sends(packed), "/b.tgz": hubs.sends(packed)}
    for name in ("hub", None):
        with pytest.raises(ChecksumError, match=r"a\.tgz has the sha256"):
            locate.locate(name)
    assert "/b.tgz" not in hub.asked
    assert is_clean(own_cache)


def test_full_disk_is_one_line_and_leaves_nothing(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    words = command("module", "fetch")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    run = subprocess.run(words, capture_output=True, preexec_fn=limit, check=False)
    assert run.returncode == 1
    assert run.stderr.count(b"\n") == 1
    assert b"Traceback" not in run.stderr
    assert is_clean(own_cache)
    assert program("module", "fetch").returncode == 0
