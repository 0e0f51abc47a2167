"""Files on a web server: looked up, listed where a page has links, read."""

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

# A page of a million links has less.
_MAX_PAGE = 256 << 20
_DEEPEST = 100
_CHUNK = 1 << 18
_GOOD = 200
_MISSING, _REFUSED, _BUSY = (404, 410), (401, 403, 407), (429, 500, 502, 503, 504)


class AnswerError(OSError):
    """A server's answer that is no file."""


class BusyError(BrokenOffError):
    """An answer that may be another one in a moment."""


class Web:
    """Files below a URL, through fsspec's own session; as `buckets.S3`."""

    def __init__(self, filesystem: Any) -> None:
        from aiohttp import ClientError, ClientPayloadError, ServerDisconnectedError

        self._fs = filesystem
        self.failures: Failures = (OSError, ValueError, ClientError)
        self._broken = (ClientPayloadError, ServerDisconnectedError, ConnectionResetError)

    def look_up(self, uri: bytes) -> Entry | None:
        """What the server tells of a file, None where there is none."""
        try:
            return run_in_loop(self._fs, asyncio.wait_for(self._head(_url(uri)), compute_timeout()))
        except FileNotFoundError:
            return None

    def list_pages(self, uri: bytes, flat: bool = False) -> Iterator[list[Entry]]:
        """The files that a page links to below its own URL, and so do the pages below it.

        By name, each page where its link stands; `flat` passes over them.
        """
        yield from self._below(uri, uri, flat)

    def _below(self, top: bytes, page: bytes, flat: bool, depth: int = 0) -> Iterator[list[Entry]]:
        if depth > _DEEPEST:
            raise AnswerError("its pages lead on and on")
        files: list[Entry] = []
        for link in _links(self.read(page, _MAX_PAGE), page):
            files.append(Entry(link[len(top) :]))
            if link.endswith(b"/") and not flat:
                yield files
                files = []
                yield from self._below(top, link, flat, depth + 1)
        yield files

    def read(self, uri: bytes, limit: int) -> bytes:
        """The bytes of a file.

        Raises:
            ImageError: they are more than `limit`; no more than that were read then.
        """
        url = _url(uri)
        return retry_broken(lambda: run_in_loop(self._fs, self._content(url, limit)))

    async def _head(self, url: str) -> Entry:
        async with await self._answer(url) as answer:
            return Entry(b"", _length(answer), _changed(answer))

    async def _content(self, url: str, limit: int) -> bytes:
        try:
            async with await asyncio.wait_for(self._answer(url), compute_timeout()) as answer:
                length = _length(answer)
                check_bytes(length or 0, limit)
                wait = compute_timeout(length or limit)
                return await asyncio.wait_for(_body(answer, length, limit), wait)
        except self._broken as error:
            raise BrokenOffError(f"the transfer broke off: {error}") from error

    async def _answer(self, url: str) -> Any:
        session = await self._fs.set_session()
        answer = await session.get(self._encoded(url), **self._fs.kwargs)
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

    def _encoded(self, url: str) -> Any:
        """The URL as it was given, where it is one; else quoted."""
        import yarl

        plain = url.isascii() and url.isprintable() and " " not in url
        return yarl.URL(url, encoded=True) if plain else self._fs.encode_url(url)


async def _body(answer: Any, length: int | None, limit: int) -> bytes:
    parts = []
    size = 0
    while part := await answer.content.read(min(_CHUNK, limit + 1 - size)):
        parts.append(part)
        size += len(part)
        check_bytes(size, limit)
    if length is not None and size != length:
        raise BrokenOffError(f"{size} bytes of {length} came")
    return b"".join(parts)


def _length(answer: Any) -> int | None:
    """How many bytes will come; what was packed for the way is longer then."""
    told = answer.headers.get("Content-Length", "")
    packed = answer.headers.get("Content-Encoding", "identity") != "identity"
    return int(told) if told.isdigit() and not packed else None


def _changed(answer: Any) -> float | None:
    """When the file was changed, in seconds since 1970, if the server tells."""
    try:
        return email.utils.parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None


def _url(uri: bytes) -> str:
    try:
        return uri.decode()
    except UnicodeDecodeError:
        raise ImageError("no such file: URLs are UTF-8") from None


class _Page(HTMLParser):
    """Collects where a page links to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the link of an anchor."""
        if tag == "a":
            self.links += [value for name, value in attrs if name == "href" and value]


def _links(page: bytes, url: bytes) -> list[bytes]:
    """Where a page links to below its own URL, by name, each once."""
    parser = _Page()
    parser.feed(page.decode("utf-8", "replace"))
    found = set()
    for link in parser.links:
        try:
            target = urldefrag(urljoin(url.decode(), link)).url.encode()
        except ValueError:
            # No URL at all, such as one with half an IPv6 address.
            continue
        rest = target.removeprefix(url)
        # Not itself in another order: `?C=M;O=D`.
        if rest and rest != target and not rest.startswith(b"?"):
            found.add(target)
    return sorted(found)
