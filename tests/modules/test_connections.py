"""Servers that stall, trickle, redirect without end, or ask to wait."""

from __future__ import annotations

import email.utils
import itertools
import re
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.errors import SourceError
from mnv1cli.modules.transfer import connections, download, pace
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


@pytest.mark.parametrize("first", [0, 1000, 70_000])
def test_body_that_trickles_counts_as_broken_off(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(pace, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(pace, "MIN_BYTES_PER_SECOND", 400_000)
    hub.answers[PLACE] = hubs.trickles(BODY, first)
    said = fetch_refused(hub, tmp_path)
    assert re.fullmatch(
        r"the transfer broke off 4 times, at [\d,]+ bytes of 102,402: it sends too slowly", said
    )
    assert len(hub.asked) == 4


def test_transfer_that_trickled_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(pace, "MIN_BYTES_PER_SECOND", 400_000)

    def recover(request: Request) -> None:
        monkeypatch.setattr(pace, "SLOW_SECONDS", FOREVER)
        hubs.sends(BODY, ETag='"1"')(request)

    hub.answers[PLACE] = hubs.in_turn(hubs.trickles(BODY, 70_000, ETag='"1"'), recover)
    assert fetch(hub, tmp_path) == BODY


def test_slow_but_steady_transfer_is_let_through(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(pace, "MIN_BYTES_PER_SECOND", 40)

    def pieces(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        for start in range(0, len(BODY), 5000):
            request.wfile.write(BODY[start : start + 5000])
            time.sleep(0.03)

    hub.answers[PLACE] = pieces
    assert fetch(hub, tmp_path) == BODY
    assert len(hub.asked) == 1


def test_chunked_body_that_trickles_is_broken_off(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Send the length of a chunk, which is read as a line, without ever ending the line."""
    monkeypatch.setattr(pace, "SLOW_SECONDS", 0.1)

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
    for _ in range(2000):
        yield b"x"
        time.sleep(0.05)


def head_that_goes_on() -> Iterator[bytes]:
    while True:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 1000


def test_head_that_trickles_is_too_slow(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SLOW_SECONDS", 0.2)
    hub.answers[PLACE] = hubs.writes(head_that_trickles)
    said = fetch_refused(hub, tmp_path)
    assert said == "it sends too slowly"


@pytest.fixture
def untimed_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up names without a bound, so that none but the server uses up the time."""
    monkeypatch.setattr(pace, "run_within", lambda _, work: work())


@pytest.mark.usefixtures("untimed_lookup")
@pytest.mark.parametrize("pieces", [head_that_trickles, head_that_goes_on])
def test_answer_has_to_begin_in_time(
    hub: Hub, tmp_path: Path, pieces: Callable[[], Iterator[bytes]]
) -> None:
    hub.answers[PLACE] = hubs.writes(pieces)
    said = fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.5))
    assert said == "no answer in time"


@pytest.mark.usefixtures("untimed_lookup")
@pytest.mark.parametrize("answer", [hubs.stalls(FOREVER), hubs.writes(head_that_trickles)])
def test_socket_that_gives_up_first_says_the_same(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: hubs.Answer
) -> None:
    """Two clocks watch the same time; here only the socket's runs."""
    monkeypatch.setattr(connections, "run_within", lambda _, work: work())
    hub.answers[PLACE] = answer
    said = fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.3))
    assert said == "no answer in time"


@pytest.mark.usefixtures("untimed_lookup")
def test_redirects_that_dawdle_share_one_bound(hub: Hub, tmp_path: Path) -> None:
    def dawdle(request: Request) -> None:
        time.sleep(0.2)
        hubs.redirects(f"{PLACE}?{time.monotonic_ns()}")(request)

    hub.answers[PLACE] = dawdle
    said = fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.7))
    assert said == "no answer in time"
    assert len(hub.asked) <= 4


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


def test_silence_after_the_answer_counts_as_waiting(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little time left, a transfer must prove soon that it flows."""
    request_in_time = connections.HttpClient.request

    def request_late(client: connections.HttpClient, *arguments: Any) -> Any:
        answer = request_in_time(client, *arguments)
        client.left = 0.1
        return answer

    monkeypatch.setattr(connections.HttpClient, "request", request_late)
    monkeypatch.setattr(connections, "_GRACE_SECONDS", 0.2)

    def silent(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.flush()
        time.sleep(FOREVER)

    hub.answers[PLACE] = silent
    said = fetch_refused(hub, tmp_path)
    assert said == "the transfer broke off once, at 0 bytes of 1,000: it stopped answering"


def test_name_that_is_not_resolved_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: time.sleep(5))
    with pytest.raises(SourceError, match=r"^its name cannot be resolved in time$"):
        download.download(
            "https://modules.example/m.tgz", tmp_path / "x", DownloadPolicy(connect=0.2)
        )


def test_time_for_the_name_is_time_for_the_answer(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look-up takes all of the time, by the clock; the second one never ends."""
    look, clock = socket.getaddrinfo, time.monotonic
    late: list[float] = []

    def look_slowly(*arguments: Any, **options: Any) -> Any:
        if late:
            time.sleep(FOREVER)
        late.append(FOREVER)
        return look(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_slowly)
    late_clock = SimpleNamespace(monotonic=lambda: clock() + sum(late), sleep=time.sleep)
    monkeypatch.setattr(connections, "time", late_clock)
    said = fetch_refused(hub, tmp_path)
    assert said == "no answer in time"


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
        assert said == "HTTP 503, and it asks to wait 999,999,999 s"
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
