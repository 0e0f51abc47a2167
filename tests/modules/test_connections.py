"""Servers that stall, trickle, redirect without end, or ask to wait."""

from __future__ import annotations

import email.utils
import itertools
import re
import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.errors import SourceError
from mnv1cli.modules.transfer import connections, download
from mnv1cli.modules.transfer.connections import DownloadPolicy
from tests.support import hub as hubs
from tests.support.downloads import BODY, FOREVER, PLACE, fetch, fetch_refused
from tests.support.shell import peak_megabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hub import Hub, Request


MOVED = b"HTTP/1.1 302 Found\r\nLocation: "
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: "


@pytest.fixture
def hub(hub_of_all_hosts: Hub) -> Hub:
    return hub_of_all_hosts


# --- stalls and trickles ---------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each 10,000 bytes come in a fifth of a second."""
    monkeypatch.setattr(connections, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(connections, "MIN_BYTES_PER_SECOND", 50_000)


@pytest.fixture
def used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first answer use up all the time that there is for waiting."""
    request = connections.HttpClient.request

    def request_late(self: connections.HttpClient, *arguments: Any) -> Any:
        answer = request(self, *arguments)
        self.left = 0.0
        return answer

    monkeypatch.setattr(connections.HttpClient, "request", request_late)


@pytest.mark.parametrize("first", [0, 1000, 70_001])
@pytest.mark.usefixtures("impatient")
def test_body_that_trickles_counts_as_broken_off(hub: Hub, tmp_path: Path, first: int) -> None:
    hub.answers[PLACE] = hubs.trickles(BODY, first)
    assert re.fullmatch(
        r"the transfer broke off 4 times, at [\d,]+ bytes of 102,402: it sends too slowly",
        fetch_refused(hub, tmp_path),
    )
    assert len(hub.asked) == 4


@pytest.mark.usefixtures("impatient")
def test_transfer_that_trickled_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.answers[PLACE] = hubs.in_turn(
        hubs.trickles(BODY, 70_001, ETag='"1"'), hubs.sends(BODY, ETag='"1"')
    )
    assert fetch(hub, tmp_path) == BODY


@pytest.mark.usefixtures("used_up")
def test_transfer_that_flows_is_not_cut_by_the_bound_of_waiting(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Send a file in many blocks, each of which has the time of a server on a busy machine."""
    monkeypatch.setattr(connections, "GRACE_SECONDS", 20.0)
    monkeypatch.setattr(connections, "MIN_BYTES_PER_SECOND", 100)
    hub.answers[PLACE] = hubs.sends(BODY)
    assert fetch(hub, tmp_path) == BODY
    assert len(hub.asked) == 1


@pytest.mark.usefixtures("impatient")
def test_chunked_body_that_trickles_is_broken_off(hub: Hub, tmp_path: Path) -> None:
    """Send the length of a chunk, which is read as a line, without ever ending the line."""

    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"0"
            time.sleep(0.05)

    hub.answers[PLACE] = hubs.writes(endless)
    said = fetch_refused(hub, tmp_path)
    assert said == "the transfer broke off 4 times, at 0 bytes: it sends too slowly"


def head_that_trickles() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX: "
    while True:
        yield b"x"
        time.sleep(0.05)


def head_that_goes_on() -> Iterator[bytes]:
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 1000


@pytest.mark.parametrize("pieces", [head_that_trickles, head_that_goes_on])
def test_answer_has_to_begin_in_time(
    hub: Hub, tmp_path: Path, pieces: Callable[[], Iterator[bytes]]
) -> None:
    hung_up = threading.Event()

    def answer(request: Request) -> None:
        try:
            hubs.writes(pieces)(request)
        finally:
            hung_up.set()

    hub.answers[PLACE] = answer
    assert fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.5)) == "no answer in time"
    # The thread that waited for it has closed the connection.
    assert not hub.asked or hung_up.wait(60)


def test_redirects_that_dawdle_share_one_bound(hub: Hub, tmp_path: Path) -> None:
    def dawdle(request: Request) -> None:
        time.sleep(0.2)
        hubs.redirects(f"{PLACE}?{time.monotonic_ns()}")(request)

    hub.answers[PLACE] = dawdle
    assert fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.7)) == "no answer in time"
    assert len(hub.asked) <= 4


@pytest.mark.parametrize(
    "policy", [DownloadPolicy(connect=0.3, answer=0.3), DownloadPolicy(read=0.3, answer=0.3)]
)
def test_time_that_is_used_up_is_told_in_one_way_whichever_clock_notices_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: DownloadPolicy
) -> None:
    """Let the waiting thread wake up so late that a clock of the socket has run out before."""
    monkeypatch.setattr(connections, "wait", lambda outcomes, _: wait(outcomes))
    hub.answers[PLACE] = hubs.stalls(FOREVER)
    assert fetch_refused(hub, tmp_path, policy) == "no answer in time"


@pytest.mark.parametrize("status", [302, 503])
def test_bodies_of_redirects_and_failures_are_not_read(
    hub: Hub, tmp_path: Path, status: int
) -> None:
    """They may be endless, and nothing in them is needed."""

    def endless(request: Request) -> None:
        request.send_response(status)
        request.send_header("Location", "/there")
        request.send_header("Content-Length", str(1 << 40))
        request.end_headers()
        while len(hub.asked) == 1:
            request.wfile.write(bytes(1 << 16))

    hub.answers[PLACE] = hubs.in_turn(endless, hubs.sends(BODY))
    hub.answers["/there"] = hubs.sends(BODY)
    assert fetch(hub, tmp_path, DownloadPolicy()) == BODY


@pytest.mark.usefixtures("used_up")
def test_silence_after_the_answer_counts_as_waiting(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no time left, a transfer must prove soon that it flows, and is not begun again."""
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.2)
    hub.answers[PLACE] = hubs.announces(1000)
    said = fetch_refused(hub, tmp_path)
    assert said == "the transfer broke off once, at 0 bytes of 1,000: it sends too slowly"


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (DownloadPolicy(connect=0.2), "its name cannot be resolved in time"),
        (DownloadPolicy(answer=0.2), "no answer in time"),
    ],
)
def test_name_that_is_not_resolved_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: DownloadPolicy, says: str
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: time.sleep(FOREVER))
    with pytest.raises(SourceError, match=f"^{says}$"):
        download.download("https://modules.example/m.tgz", tmp_path / "x", policy)


def test_time_for_the_name_is_time_for_the_answer(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []
    run = connections.run_within

    def run_within(seconds: float, *arguments: Any) -> Any:
        bounds.append(seconds)
        try:
            return run(60, *arguments)
        finally:
            time.sleep(0.1)

    monkeypatch.setattr(connections, "run_within", run_within)
    hub.answers[PLACE] = hubs.sends(BODY)
    assert fetch(hub, tmp_path, DownloadPolicy(connect=1, answer=50)) == BODY
    assert bounds[0] == 1
    assert bounds[1] <= 49.9


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (MOVED + b"http://[::1\r\n\r\n", "it redirects to an invalid URL"),
        (MOVED + b"/\xff\r\n\r\n", "it redirects to an invalid URL"),
        (MOVED + b"file:///x\r\n\r\n", "No connection adapters were found for 'file:///x'"),
        (LONG + b"9" * 5000 + b"\r\n\r\n", "it sends more than 2 GiB"),
        (LONG + b"9999999999\r\n\r\n", "it sends more than 2 GiB"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "it cannot be reached"),
    ],
    ids=["bad host", "no text", "file", "many digits", "large", "no HTTP"],
)
def test_nonsense_is_one_line(hub: Hub, tmp_path: Path, head: bytes, says: str) -> None:
    hub.answers[PLACE] = hubs.writes(lambda: iter([head]))
    said = fetch_refused(hub, tmp_path)
    assert said == says


def test_file_that_exceeds_what_it_claims_takes_no_more_than_the_limit(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 200_000)

    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n" + BODY
        yield from itertools.repeat(bytes(1 << 16))

    hub.answers[PLACE] = hubs.writes(endless)
    said = fetch_refused(hub, tmp_path)
    assert said.startswith("it sends more than")
    assert (tmp_path / "m.tgz").stat().st_size < 300_000


# --- Retry-After -----------------------------------------------------------------


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock that dates are compared with."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now // 1)


def format_date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def answer_busy(told: str, status: int = 503) -> hubs.Answer:
    """Answer once that the server is busy, and when to try again."""
    first = lambda request: request.send(status, b"later", Retry_After=told)  # noqa: E731
    return hubs.in_turn(first, hubs.sends(BODY))


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_wait_that_the_server_asks_for_is_waited(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, dated: bool
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    hub.answers[PLACE] = answer_busy(format_date(7) if dated else "7", status)
    assert fetch(hub, tmp_path) == BODY
    assert 7 in slept
    assert len(hub.asked) == 2


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize("told", ["3600", "date"])
def test_server_that_wants_too_long_a_wait_is_left_alone(
    hub: Hub, tmp_path: Path, told: str
) -> None:
    hub.answers[PLACE] = answer_busy(format_date(3600) if told == "date" else told)
    said = fetch_refused(hub, tmp_path)
    assert said == "HTTP 503, and it asks to wait 3,600 s"
    assert len(hub.asked) == 1


def test_wait_that_is_longer_than_what_is_left_is_not_begun(hub: Hub, tmp_path: Path) -> None:
    hub.answers[PLACE] = answer_busy("20")
    said = fetch_refused(hub, tmp_path, DownloadPolicy(answer=15))
    assert said == "HTTP 503, and it asks to wait 20 s"


@pytest.mark.parametrize("told", ["", "soon", "-5", "9" * 5000, "Fri, 99 Foo 2026 00:00:00 GMT"])
def test_nonsense_in_the_place_of_a_wait(hub: Hub, tmp_path: Path, told: str) -> None:
    hub.answers[PLACE] = answer_busy(told)
    if told.isdecimal():
        said = fetch_refused(hub, tmp_path)
        assert said == "HTTP 503, and it asks to wait 21,600 s"
    else:
        assert fetch(hub, tmp_path) == BODY


def test_time_that_has_come_is_no_wait(hub: Hub, tmp_path: Path) -> None:
    hub.answers[PLACE] = answer_busy(format_date(-100))
    assert fetch(hub, tmp_path) == BODY


# --- what it costs ---------------------------------------------------------------

FETCH = """
import pathlib, sys
from mnv1cli.modules.transfer.connections import DownloadPolicy
from mnv1cli.modules.transfer.download import download
download(sys.argv[1], pathlib.Path(sys.argv[2]), DownloadPolicy())
"""


def test_memory_does_not_grow_with_the_file(hub: Hub, tmp_path: Path) -> None:
    """Send a file in one chunk of 100 MB."""

    def large() -> Iterator[bytes]:
        size = 100 << 20
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size + BODY[:2]
        for _ in range(99):
            yield bytes(1 << 20)
        yield bytes((1 << 20) - 2) + b"\r\n0\r\n\r\n"

    hub.answers[PLACE] = hubs.writes(large)
    assert peak_megabytes(FETCH, hub.url + PLACE, tmp_path / "x") < 60
    assert (tmp_path / "x").stat().st_size == 100 << 20
