"""A store on this machine that speaks what obstore asks of Google Cloud Storage: its XML calls.

It is written for these tests: the emulators on PyPI answer without an ETag, and know no HEAD.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from mnv1cli.storage import objects

if TYPE_CHECKING:
    from collections.abc import Iterator

DATE = "Tue, 02 Jan 2024 03:04:05 GMT"
PAGE = 1000


@dataclass
class GoogleStore:
    """A running store: its buckets, with the bytes of each object by its key."""

    url: str = ""
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        bucket, key, query = self._locate()
        if bucket is None:
            self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif not key:
            self._send(200, _list(bucket, query))
        elif key not in bucket:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif (span := self.headers.get("Range")) is not None:
            first, last = span.removeprefix("bytes=").split("-")
            data, whole = bucket[key][int(first) : int(last) + 1], len(bucket[key])
            headers = {"Content-Range": f"bytes {first}-{int(first) + len(data) - 1}/{whole}"}
            self._send(206, data, headers, etag_of=bucket[key])
        else:
            self._send(200, bucket[key])

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def do_PUT(self) -> None:
        bucket, key, _ = self._locate()
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if bucket is None:
            self._send(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        elif self.headers.get("x-goog-if-generation-match") == "0" and key in bucket:
            self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            bucket[key] = data
            self._send(200, b"", etag_of=data)

    def do_DELETE(self) -> None:
        bucket, key, _ = self._locate()
        existed = bucket is not None and bucket.pop(key, None) is not None
        self._send(204 if existed else 404, b"")

    def _locate(self) -> tuple[dict[str, bytes] | None, str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
        return self.server.state.buckets.get(bucket), key, parse_qs(parts.query)

    def _send(
        self, status: int, body: bytes, headers: Any = (), etag_of: bytes | None = None
    ) -> None:
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        tag = hashlib.md5(body if etag_of is None else etag_of).hexdigest()
        self.send_header("ETag", f'"{tag}"')
        self.send_header("Last-Modified", DATE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


def _list(bucket: dict[str, bytes], query: dict[str, list[str]]) -> bytes:
    prefix, delimiter, start, token = (
        query.get(name, [""])[0]
        for name in ("prefix", "delimiter", "start-after", "continuation-token")
    )
    keys = [key for key in sorted(bucket, key=str.encode) if key.startswith(prefix)]
    keys = [key for key in keys if key.encode() > max(start, token).encode()]
    folders = set()
    if delimiter:
        below = {key: key[len(prefix) :].partition(delimiter) for key in keys}
        folders = {prefix + first + delimiter for first, slash, _ in below.values() if slash}
        keys = [key for key in keys if not below[key][1]]
    items = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{len(bucket[key])}</Size>"
        "<LastModified>2024-01-02T03:04:05.000Z</LastModified></Contents>"
        for key in keys[:PAGE]
    )
    items += "".join(
        f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders
    )
    if len(keys) > PAGE:
        items += f"<NextContinuationToken>{escape(keys[PAGE - 1])}</NextContinuationToken>"
    return f"<ListBucketResult>{items}</ListBucketResult>".encode()


@contextmanager
def serving() -> Iterator[GoogleStore]:
    """Run a store, with the environment of this process set to use it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        state = GoogleStore(f"http://127.0.0.1:{server.server_address[1]}")
        server.state = state  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("STORAGE_EMULATOR_HOST", state.url)
                patch.setenv("NO_PROXY", "127.0.0.1")
                patch.setattr(objects, "_clients", {})
                patch.setattr(objects, "_failures", {})
                yield state
        finally:
            server.shutdown()
            thread.join()
