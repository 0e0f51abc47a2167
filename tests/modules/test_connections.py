"""Servers that stall, trickle, redirect without end, or ask to wait."""

from __future__ import annotations

import email.utils
import itertools
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.errors import SourceError
from mnv1cli.modules.transfer import connections, download, pace
from mnv1cli.modules.transfer.connections import DownloadPolicy
from tests.support import hub as hubs
from tests.support.downloads import BODY, PLACE, fetch, fetch_refused
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
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy())
    assert re.fullmatch(
        r"the transfer broke off 4 times, at [\d,]+ bytes of 102,402: it sends too slowly", said
    )
    assert len(hub.asked) == 4
    assert seconds < 5


def test_transfer_that_trickled_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(pace, "MIN_BYTES_PER_SECOND", 400_000)
    hub.answers[PLACE] = hubs.in_turn(
        hubs.trickles(BODY, 70_000, ETag='"1"'), hubs.sends(BODY, ETag='"1"')
    )
    assert fetch(hub, tmp_path) == BODY


def test_slow_but_steady_transfer_is_let_through(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SLOW_SECONDS", 0.1)

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
        for _ in range(200):
            yield b"0"
            time.sleep(0.05)

    hub.answers[PLACE] = hubs.writes(endless)
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy())
    assert said == "the transfer broke off 4 times, at 0 bytes: it sends too slowly"
    assert seconds < 5


def head_that_trickles() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX: "
    for _ in range(200):
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
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy())
    assert said == "it sends too slowly"
    assert seconds < 2


@pytest.mark.parametrize("pieces", [head_that_trickles, head_that_goes_on])
def test_answer_has_to_begin_in_time(
    hub: Hub, tmp_path: Path, pieces: Callable[[], Iterator[bytes]]
) -> None:
    hub.answers[PLACE] = hubs.writes(pieces)
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.5))
    assert said == "no answer in time"
    assert seconds < 1.5


@pytest.mark.parametrize("answer", [hubs.stalls(5), hubs.writes(head_that_trickles)])
def test_socket_that_gives_up_first_says_the_same(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: hubs.Answer
) -> None:
    """Two clocks watch the same time; here only the socket's runs."""
    monkeypatch.setattr(connections, "run_within", lambda _, work: work())
    hub.answers[PLACE] = answer
    said, _ = fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.3))
    assert said == "no answer in time"


def test_redirects_that_dawdle_share_one_bound(hub: Hub, tmp_path: Path) -> None:
    def dawdle(request: Request) -> None:
        time.sleep(0.2)
        hubs.redirects(f"{PLACE}?{time.monotonic_ns()}")(request)

    hub.answers[PLACE] = dawdle
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.7))
    assert said == "no answer in time"
    assert seconds < 1.5
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
    assert fetch(hub, tmp_path, DownloadPolicy(answer=5)) == BODY


def test_silence_after_the_answer_counts_as_waiting(hub: Hub, tmp_path: Path) -> None:
    """With little time left, a transfer must prove soon that it flows."""

    def silent(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.flush()
        time.sleep(10)

    hub.answers[PLACE] = silent
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.5))
    assert said == "the transfer broke off once, at 0 bytes of 1,000: it stopped answering"
    assert seconds < 4


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
    look = socket.getaddrinfo

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(0.4)
        return look(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    hub.answers[PLACE] = hubs.sends(BODY)
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy(answer=0.6))
    assert said == "no answer in time"
    assert seconds < 1


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
    said, _ = fetch_refused(hub, tmp_path, DownloadPolicy(answer=5))
    assert said == says


def test_file_that_exceeds_what_it_claims_takes_no_more_than_the_limit(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 200_000)

    def endless() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n" + BODY
        yield from itertools.repeat(bytes(1 << 16))

    hub.answers[PLACE] = hubs.writes(endless)
    said, _ = fetch_refused(hub, tmp_path, DownloadPolicy())
    assert said.startswith("it sends more than")
    assert (tmp_path / "m.tgz").stat().st_size < 300_000


# --- Retry-After -----------------------------------------------------------------


def format_date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def answer_busy(told: str, status: int = 503) -> hubs.Answer:
    """Answer once that the server is busy, and when to try again."""
    first = lambda request: request.send(status, b"later", Retry_After=told)  # noqa: E731
    return hubs.in_turn(first, hubs.sends(BODY))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_wait_that_the_server_asks_for_is_waited(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, dated: bool
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    hub.answers[PLACE] = answer_busy(format_date(7.9) if dated else "7", status)
    assert fetch(hub, tmp_path) == BODY
    assert 6 <= max(slept) <= 8
    assert len(hub.asked) == 2


@pytest.mark.parametrize("told", ["3600", "date"])
def test_server_that_wants_too_long_a_wait_is_left_alone(
    hub: Hub, tmp_path: Path, told: str
) -> None:
    hub.answers[PLACE] = answer_busy(format_date(3600.5) if told == "date" else told)
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy())
    assert re.fullmatch("HTTP 503, and it asks to wait 3,(600|599) s", said)
    assert len(hub.asked) == 1
    assert seconds < 1


def test_wait_that_is_longer_than_what_is_left_is_not_begun(hub: Hub, tmp_path: Path) -> None:
    hub.answers[PLACE] = answer_busy("20")
    said, seconds = fetch_refused(hub, tmp_path, DownloadPolicy(answer=15))
    assert said == "HTTP 503, and it asks to wait 20 s"
    assert seconds < 1


@pytest.mark.parametrize("told", ["", "soon", "-5", "9" * 5000, "Fri, 99 Foo 2026 00:00:00 GMT"])
def test_nonsense_in_the_place_of_a_wait(hub: Hub, tmp_path: Path, told: str) -> None:
    hub.answers[PLACE] = answer_busy(told)
    if told.isdecimal():
        said, _ = fetch_refused(hub, tmp_path, DownloadPolicy())
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
download(sys.argv[1], pathlib.Path(sys.argv[2]), DownloadPolicy(answer=5))
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
