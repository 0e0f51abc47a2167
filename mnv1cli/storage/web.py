"""Files on a web server: looked up, listed by the links of a page, read.

Files are read through obstore. Pages, names that obstore would change, and answers that are
packed or without a length, which it does not take, go through requests.
"""

from __future__ import annotations

import contextlib
import email.utils
import io
import os
import re
import threading
from functools import lru_cache
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

from mnv1cli.errors import ImageError, first_line
from mnv1cli.limits import check_bytes
from mnv1cli.storage import clients
from mnv1cli.storage.base import (
    BUFFER_BYTES,
    BrokenOffError,
    DeniedError,
    Entry,
    MissingError,
    NoLengthError,
    StoreError,
    retry_broken,
)
from mnv1cli.storage.objects import read_object

if TYPE_CHECKING:
    from collections.abc import Iterator

# A page of a million links is smaller.
_MAX_PAGE_BYTES = 256 << 20
_MAX_FILE_BYTES = 1 << 30
_MAX_DEPTH = 100
_CHUNK_BYTES = 1 << 18
_CONNECT_SECONDS = 5
_MISSING, _REFUSED, _BUSY = (404, 410), (401, 403, 407), (429, 500, 502, 503, 504)
# The characters that obstore leaves as they are in a path.
_PLAIN = "!$&'()*+,;=:@~/"

_CAUSE = re.compile(r"\[Errno -?\d+\] ([^)'\"]+)")

_threads = threading.local()


class Web:
    """Files below a URL."""

    def look_up(self, uri: bytes) -> Entry | None:
        """Ask the server for the size and time of a file; return None if it does not exist."""
        try:
            with _request(_decode_url(uri)) as answer:
                return Entry(b"", _get_length(answer), _get_change_time(answer))
        except MissingError:
            return None

    def list_pages(self, uri: bytes, flat: bool = False) -> Iterator[list[Entry]]:
        """List the files that a page, and the pages below it, link to below their own URLs.

        Files are sorted by name. The files of a page take the position of the link to it;
        `flat` skips pages below.
        """
        yield from _list_below(uri, uri, flat)

    def read(self, uri: bytes, limit: int) -> bytes:
        """Read the bytes of a file.

        Raises:
            ImageError: they are more than `limit`; at most `limit` + 1 are read.
        """
        url = _decode_url(uri)
        origin, path = _split_url(url)
        if path:
            with contextlib.suppress(NoLengthError):
                return read_object(_open_origin(origin, os.getpid()), path, limit, unpacked=True)
        return retry_broken(lambda: _read_answer(url, limit))

    def open(self, uri: bytes, buffer: int = BUFFER_BYTES) -> BinaryIO:  # noqa: ARG002
        """Open a file, which is read as a whole: servers need not know of ranges."""
        return io.BytesIO(self.read(uri, _MAX_FILE_BYTES))


def _list_below(top: bytes, page: bytes, flat: bool, depth: int = 0) -> Iterator[list[Entry]]:
    if depth > _MAX_DEPTH:
        raise StoreError("its pages lead on and on")
    files: list[Entry] = []
    url = _decode_url(page)
    for link in _collect_links(retry_broken(lambda: _read_answer(url, _MAX_PAGE_BYTES)), page):
        files.append(Entry(link[len(top) :]))
        if link.endswith(b"/") and not flat:
            yield files
            files = []
            yield from _list_below(top, link, flat, depth + 1)
    yield files


@lru_cache(maxsize=256)
def _open_origin(origin: str, _process: int) -> Any:
    """Open obstore's client for a server; a forked process needs its own."""
    from obstore.store import HTTPStore

    options = clients.make_client_options(allow_http=True)
    return HTTPStore(origin, client_options=options, retry_config=clients.make_retries())


def _split_url(url: str) -> tuple[str, str]:
    """Split a URL into its server and the path for obstore, which is empty where it has none."""
    parts = urlsplit(url)
    path = unquote(parts.path, errors="surrogateescape").removeprefix("/")
    plain = quote(path, safe=_PLAIN, errors="surrogateescape") == parts.path.removeprefix("/")
    segments = path.split("/")
    if not plain or parts.query or parts.username or {"", ".", ".."} & set(segments):
        return "", ""
    return f"{parts.scheme}://{parts.netloc}", path


@contextlib.contextmanager
def _request(url: str) -> Iterator[Any]:
    """Yield the answer to a request for a file, whose bytes are still to be read."""
    import requests
    from urllib3.exceptions import HTTPError

    try:
        timeout = (_CONNECT_SECONDS, clients.SILENCE_SECONDS)
        with _open_session().get(url, stream=True, timeout=timeout) as answer:
            if answer.status_code in _MISSING:
                raise MissingError("no such file")
            if answer.status_code in _REFUSED:
                raise DeniedError("access denied")
            if not answer.ok:
                raise StoreError(f"the server says {answer.status_code} {answer.reason}")
            yield answer
    except requests.exceptions.ChunkedEncodingError as error:
        raise BrokenOffError("the transfer broke off") from error
    except requests.Timeout as error:
        raise StoreError("no answer in time") from error
    except (requests.RequestException, HTTPError, UnicodeError) as error:
        cause = match[1] if (match := _CAUSE.search(str(error))) else first_line(error)
        raise StoreError(f"no connection: {cause}") from error


def _open_session() -> Any:
    """Open the session of this thread, which tries again what a busy server refuses."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    if not hasattr(_threads, "session"):
        _threads.session = requests.Session()
        # Without the server's own pauses, which may be hours.
        retries = Retry(
            clients.RETRIES,
            connect=2,
            backoff_factor=0.1,
            status_forcelist=_BUSY,
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        for scheme in ("http://", "https://"):
            _threads.session.mount(scheme, HTTPAdapter(max_retries=retries))
    return _threads.session


def _read_answer(url: str, limit: int) -> bytes:
    with _request(url) as answer:
        length = _get_length(answer)
        check_bytes(length or 0, limit)
        data = io.BytesIO()
        for part in answer.iter_content(_CHUNK_BYTES):
            data.write(part)
            check_bytes(data.tell(), limit)
    if length is not None and data.tell() != length:
        raise BrokenOffError(f"{data.tell()} bytes of {length} came")
    return data.getvalue()


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
