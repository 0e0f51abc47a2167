"""A web server on this machine whose answers a test says; it speaks what S3 needs for a listing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from mnv1cli.storage import clients, objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 1000
_PATIENCE = 100.0
DATE = "Tue, 02 Jan 2024 03:04:05 GMT"


@dataclass
class Answer:
    """What is sent for a path, as soon as `ready` says so.

    `announced` is another length than the body has, None none.
    """

    body: bytes = b""
    status: int = 200
    announced: int | None = -1
    ready: Callable[[], bool] = lambda: True


@dataclass
class WebServer:
    """A running server: its answers by path, and what was asked of it, by method and path."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    pages: int = 0
    at_once: int = 0
    most_at_once: int = 0
    lock: Any = field(default_factory=threading.Lock)

    @contextmanager
    def as_s3(self) -> Iterator[None]:
        """Let s3:// mean this server, where each answer counts."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", self.url)
            patch.setenv("AWS_ACCESS_KEY_ID", "testing")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setattr(objects, "_clients", {})
            patch.setattr(objects, "_failures", {})
            patch.setattr(clients, "RETRIES", 0)
            yield

    def gets(self, path: str) -> int:
        """How often a path was asked for."""
        return self.asked["GET", path]


def _page(server: WebServer, query: dict[str, list[str]]) -> bytes:
    """A page of `server.keys`, as S3's ListObjectsV2 gives it."""
    server.pages += 1
    prefix = query.get("prefix", [""])[0]
    keys = [key for key in server.keys if key.startswith(prefix)]
    start = int(query.get("continuation-token", ["0"])[0])
    some, rest = keys[start : start + PAGE], len(keys) - start - PAGE
    items = "".join(
        f"<Contents><Key>{key}</Key><Size>9</Size>"
        "<LastModified>2024-01-02T03:04:05.000Z</LastModified></Contents>"
        for key in some
    )
    token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if rest > 0 else ""
    return (
        f"<ListBucketResult><KeyCount>{len(some)}</KeyCount>"
        f"<IsTruncated>{str(rest > 0).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
    ).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        state: WebServer = self.server.state
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with state.lock:
            state.asked[self.command, path] += 1
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
        answer = state.answers.get(path)
        if answer is None and "list-type" in query:
            answer = Answer(_page(state, query))
        answer = answer or Answer(status=404)
        end = time.monotonic() + _PATIENCE
        while not answer.ready() and time.monotonic() < end:
            time.sleep(0.005)
        with state.lock:
            state.at_once -= 1
        self._send(answer)

    do_HEAD = do_PUT = do_GET  # noqa: N815 - the base class's names

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Last-Modified", DATE)
        length = len(answer.body) if answer.announced == -1 else answer.announced
        if length is not None:
            self.send_header("Content-Length", str(length))
        if length != len(answer.body):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""


@contextmanager
def serving() -> Iterator[WebServer]:
    """Run a server."""
    with _Quiet(("127.0.0.1", 0), _Handler) as server:
        state = WebServer(f"http://127.0.0.1:{server.server_address[1]}")
        server.state = state  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
