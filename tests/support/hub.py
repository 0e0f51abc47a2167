"""A server on 127.0.0.1 that speaks the hub's protocol, and misbehaves on request."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

HANDLE_PATH = "/google/imagenet/mobilenet_v1_100_128/classification/1"
QUERY = f"{HANDLE_PATH}?tf-hub-format=compressed"
# The directory of the hub's default module in a cache: the sha1 of its handle.
SLOT = "5503b6afe269a54d2c6b31e191da98c2a85ddf04"

Answer = Callable[["Request"], None]
Server = TypeVar("Server", bound=ThreadingHTTPServer)


class Request(BaseHTTPRequestHandler):
    """A request that is answered from the table of the server, else with 404."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        """Look the path up, with its query and without."""
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path) or self.server.answers.get(
            self.path.partition("?")[0]
        )
        if answer is None:
            self.send(404, b"nothing here")
        else:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                answer(self)

    def send(self, status: int, body: bytes, **headers: str) -> None:
        """Send a complete answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Write nothing to stderr."""


class Hub(ThreadingHTTPServer):
    """A server; `asked` has the path of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing to stderr: clients that hang up are expected."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    with run_server(Hub()) as hub:
        yield hub


@contextlib.contextmanager
def run_server(server: Server) -> Iterator[Server]:
    """Run a server in a thread of its own, and end it."""
    # It looks so often whether it is to end.
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def pack(directory: Path, prefix: str = "./") -> bytes:
    """Pack a directory as the hub does, with `./` at its root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.add(directory, arcname=prefix.rstrip("/") or ".")
    return buffer.getvalue()


def sends(body: bytes, **headers: str) -> Answer:
    """Send the body, from where `Range` and `If-Range` ask for it."""

    def answer(request: Request) -> None:
        start = request.headers.get("Range", "")
        tag = headers.get("ETag")
        if start and tag and request.headers.get("If-Range") == tag:
            first = int(start.removeprefix("bytes=").rstrip("-"))
            span = f"bytes {first}-{len(body) - 1}/{len(body)}"
            request.send(206, body[first:], Content_Range=span, **headers)
        else:
            request.send(200, body, **headers)

    return answer


def redirects(place: str) -> Answer:
    return lambda request: request.send(302, b"", Location=place)


def fails(status: int, times: int | None = None, then: Answer | None = None) -> Answer:
    """Send a status, `times` times or always; then another answer."""
    left = [times]

    def answer(request: Request) -> None:
        if left[0] == 0 and then is not None:
            then(request)
            return
        if left[0] is not None:
            left[0] -= 1
        request.send(status, b"sorry")

    return answer


def breaks_off(body: bytes, at: int, times: int, **headers: str) -> Answer:
    """End a transfer early, `times` times."""
    left = [times]
    whole = sends(body, **headers)

    def answer(request: Request) -> None:
        if left[0] == 0:
            whole(request)
            return
        left[0] -= 1
        request.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[:at])
        request.wfile.flush()
        request.close_connection = True

    return answer


def stalls(seconds: float) -> Answer:
    def answer(request: Request) -> None:
        time.sleep(seconds)
        request.send(200, b"too late")

    return answer


def announces(length: int) -> Answer:
    """Send the head of an answer, and nothing of its body."""

    def answer(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(length))
        request.end_headers()
        request.wfile.flush()
        # Until the client hangs up.
        request.rfile.read(1)

    return answer


def trickles(body: bytes, first: int = 0, pause: float = 0.05, **headers: str) -> Answer:
    """Send the head and `first` bytes at once, then a byte now and then, for ever."""

    def answer(request: Request) -> None:
        request.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[:first])
        for byte in body[first:]:
            request.wfile.write(bytes([byte]))
            time.sleep(pause)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Send one answer after the other, then the last one always."""
    waiting = list(answers)

    def answer(request: Request) -> None:
        (waiting.pop(0) if len(waiting) > 1 else waiting[0])(request)

    return answer


def writes(pieces: Callable[[], Iterator[bytes]]) -> Answer:
    """Send pieces of bytes, which need not be HTTP, as long as they are read."""

    def answer(request: Request) -> None:
        for piece in pieces():
            request.wfile.write(piece)
        request.close_connection = True

    return answer


def text_archive() -> bytes:
    """Make a gzip file that is not a tar."""
    return gzip.compress(b"no tar in here" * 100)
