"""Files on a web server: looked up, listed by the links of a page, read."""

from __future__ import annotations

import asyncio
import email.utils
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin

from mnv1cli.errors import ImageError
from mnv1cli.limits import check_bytes
from mnv1cli.storage.base import (
    BrokenOffError,
    Entry,
    compute_timeout,
    retry_broken,
    run_in_loop,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.storage.base import Failures

# A page of a million links is smaller.
_MAX_PAGE_BYTES = 256 << 20
_MAX_DEPTH = 100
_CHUNK_BYTES = 1 << 18
_GOOD = 200
_MISSING, _REFUSED, _BUSY = (404, 410), (401, 403, 407), (429, 500, 502, 503, 504)


class AnswerError(OSError):
    """An answer of a server that is not a file."""


class BusyError(BrokenOffError):
    """An answer of a busy server, which may change in a moment."""


class Web:
    """Files below a URL, through fsspec's own session; used in the same way as `buckets.S3`."""

    def __init__(self, filesystem: Any) -> None:
        from aiohttp import ClientError, ClientPayloadError, ServerDisconnectedError

        self._fs = filesystem
        self.failures: Failures = (OSError, ValueError, ClientError)
        self._broken = (ClientPayloadError, ServerDisconnectedError, ConnectionResetError)

    def look_up(self, uri: bytes) -> Entry | None:
        """Ask the server for the size and time of a file; return None if it does not exist."""
        try:
            return run_in_loop(
                self._fs, asyncio.wait_for(self._request_head(_decode_url(uri)), compute_timeout())
            )
        except FileNotFoundError:
            return None

    def list_pages(self, uri: bytes, flat: bool = False) -> Iterator[list[Entry]]:
        """List the files that a page, and the pages below it, link to below their own URLs.

        Files are sorted by name. The files of a page take the position of the link to it;
        `flat` skips pages below.
        """
        yield from self._list_below(uri, uri, flat)

    def _list_below(
        self, top: bytes, page: bytes, flat: bool, depth: int = 0
    ) -> Iterator[list[Entry]]:
        if depth > _MAX_DEPTH:
            raise AnswerError("its pages lead on and on")
        files: list[Entry] = []
        for link in _collect_links(self.read(page, _MAX_PAGE_BYTES), page):
            files.append(Entry(link[len(top) :]))
            if link.endswith(b"/") and not flat:
                yield files
                files = []
                yield from self._list_below(top, link, flat, depth + 1)
        yield files

    def read(self, uri: bytes, limit: int) -> bytes:
        """Read the bytes of a file.

        Raises:
            ImageError: they are more than `limit`; at most `limit` + 1 are read.
        """
        url = _decode_url(uri)
        return retry_broken(lambda: run_in_loop(self._fs, self._read_content(url, limit)))

    async def _request_head(self, url: str) -> Entry:
        async with await self._request(url) as answer:
            return Entry(b"", _get_length(answer), _get_change_time(answer))

    async def _read_content(self, url: str, limit: int) -> bytes:
        try:
            async with await asyncio.wait_for(self._request(url), compute_timeout()) as answer:
                length = _get_length(answer)
                check_bytes(length or 0, limit)
                wait = compute_timeout(length or limit)
                return await asyncio.wait_for(_read_body(answer, length, limit), wait)
        except self._broken as error:
            raise BrokenOffError(f"the transfer broke off: {error}") from error

    async def _request(self, url: str) -> Any:
        session = await self._fs.set_session()
        answer = await session.get(self._encode(url), **self._fs.kwargs)
        if answer.status in _MISSING:
            error: OSError = FileNotFoundError(url)
        elif answer.status in _REFUSED:
            error = PermissionError(url)
        elif answer.status == _GOOD:
            return answer
        else:
            kind = BusyError if answer.status in _BUSY else AnswerError
            error = kind(f"the server says {answer.status} {answer.reason}")
        answer.close()
        raise error

    def _encode(self, url: str) -> Any:
        """Return the URL as it was given if it is valid, else quoted."""
        import yarl

        plain = url.isascii() and url.isprintable() and " " not in url
        return yarl.URL(url, encoded=True) if plain else self._fs.encode_url(url)


async def _read_body(answer: Any, length: int | None, limit: int) -> bytes:
    parts = []
    size = 0
    while part := await answer.content.read(min(_CHUNK_BYTES, limit + 1 - size)):
        parts.append(part)
        size += len(part)
        check_bytes(size, limit)
    if length is not None and size != length:
        raise BrokenOffError(f"{size} bytes of {length} came")
    return b"".join(parts)


def _get_length(answer: Any) -> int | None:
    """Return the number of bytes to come; None if it is unknown or they are compressed."""
    length = answer.headers.get("Content-Length", "")
    packed = answer.headers.get("Content-Encoding", "identity") != "identity"
    return int(length) if length.isdigit() and not packed else None


def _get_change_time(answer: Any) -> float | None:
    """Return the time of the last change in seconds since 1970; None if it is not stated."""
    try:
        return email.utils.parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None


def _decode_url(uri: bytes) -> str:
    try:
        return uri.decode()
    except UnicodeDecodeError:
        raise ImageError("no such file: URLs are UTF-8") from None


class _Page(HTMLParser):
    """A parser that collects the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the link of an anchor."""
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def _collect_links(page: bytes, url: bytes) -> list[bytes]:
    """Return the distinct links of a page to URLs below its own, sorted by name."""
    parser = _Page()
    parser.feed(page.decode("utf-8", "replace"))
    targets = set()
    for link in parser.links:
        try:
            target = urldefrag(urljoin(url.decode(), link)).url.encode()
        except ValueError:
            # Not a URL, for example half an IPv6 address.
            continue
        below = target.removeprefix(url)
        # Skip the page itself in a different order: `?C=M;O=D`.
        if below and below != target and not below.startswith(b"?"):
            targets.add(target)
    return sorted(targets)
