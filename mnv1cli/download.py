"""One URL to one file: retried, resumed, bounded in time, and checked."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mnv1cli import __version__
from mnv1cli.errors import ChecksumError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

log = logging.getLogger(__name__)

_CHUNK = 1 << 18
_READ_SECONDS = 10.0
_RETRIED_STATUS = (429, 500, 502, 503, 504)
_RESUMES = 3
_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 10.0
_MAX_BYTES = 2 << 30

GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a download is, in seconds.

    `connect` bounds one attempt to connect, `read` a silence of the server,
    `retries` how often a connection or a failed answer is tried again.
    `bar` is the stream that a progress bar is shown on.
    """

    connect: float = 5.0
    read: float = _READ_SECONDS
    retries: int = 3
    bar: TextIO | None = None


def fetch(url: str, target: Path, policy: Policy, sha256: str | None = None) -> int:
    """Download a gzip archive to `target`; the number of bytes.

    A transfer that breaks off goes on where it stopped, where the server can.

    Raises:
        SourceError: the source cannot be reached, refuses, or sends something else.
        ChecksumError: what came is not what was published.
        OSError: `target` cannot be written.
    """
    import requests
    from urllib3.exceptions import HTTPError

    _resolve(url, policy.connect)
    with _session(policy) as session:
        transfer = _Transfer(session, url, target, policy)
        try:
            transfer.run()
        except (requests.RequestException, HTTPError) as error:
            raise SourceError(_reason(error)) from error
    found = _digest(target)
    if sha256 is not None and found != sha256:
        raise ChecksumError(f"{url} has the sha256 {found}, not {sha256}")
    return target.stat().st_size


def _resolve(url: str, seconds: float) -> None:
    """Look a host's name up in bounded time; the system's own patience has no bound of ours."""
    from requests.utils import get_environ_proxies, select_proxy

    host = urlsplit(url).hostname
    if not host or select_proxy(url, get_environ_proxies(url, no_proxy=None)):
        return
    answered = threading.Event()

    def look() -> None:
        # What it finds out is found out again by who connects.
        with contextlib.suppress(OSError, UnicodeError):
            socket.getaddrinfo(host, None)
        answered.set()

    threading.Thread(target=look, daemon=True).start()
    if not answered.wait(seconds):
        raise SourceError("its name cannot be resolved in time")


def _session(policy: Policy) -> Any:
    """A session that retries; proxies and CA bundles come from the environment."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class Patience(Retry):
        """Retries that do as the server asks, within reason."""

        def get_retry_after(self, response: Any) -> float | None:
            wanted = super().get_retry_after(response)
            return None if wanted is None else min(wanted, _MAX_PAUSE_SECONDS)

    retry = Patience(
        total=policy.retries,
        connect=min(policy.retries, 1),
        # A silence is answered by `_Transfer`, which goes on where it stopped.
        read=0,
        redirect=20,
        status_forcelist=_RETRIED_STATUS,
        backoff_factor=_PAUSE_SECONDS,
        respect_retry_after_header=True,
        raise_on_status=False,
    )
    session = requests.Session()
    session.headers["User-Agent"] = f"mnv1/{__version__}"
    # The archive is to come as it is, not in another compression.
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


class _Transfer:
    """A download under way: how much has come, and of which version of the file."""

    def __init__(self, session: Any, url: str, target: Path, policy: Policy) -> None:
        self._session = session
        self._url = url
        self._target = target
        self._policy = policy
        self._answered = False
        self._version = ""
        self._total: int | None = None

    def run(self) -> None:
        """Ask until everything has come, or nothing more comes."""
        import requests
        from urllib3.exceptions import HTTPError

        broken: Exception | None = None
        with self._target.open("wb") as file:
            for attempt in range(_RESUMES + 1):
                if attempt:
                    time.sleep(_PAUSE_SECONDS * attempt)
                try:
                    self._once(file)
                except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
                    if not self._answered:
                        raise
                    broken = error
                    continue
                if self._total is None or file.tell() >= self._total:
                    return
        raise SourceError(
            f"the transfer broke off {_RESUMES + 1} times, at {self._target.stat().st_size:,} bytes"
            + (f" of {self._total:,}" if self._total else "")
        ) from broken

    def _once(self, file: Any) -> None:
        """One request, from where the last one stopped."""
        start = file.tell()
        headers = {}
        if start and self._version:
            headers = {"Range": f"bytes={start}-", "If-Range": self._version}
        timeout = (self._policy.connect, self._policy.read)
        with self._session.get(self._url, headers=headers, timeout=timeout, stream=True) as answer:
            _check_status(answer)
            self._answered = True
            if answer.status_code != 206:
                file.seek(0)
                file.truncate()
                start = 0
                self._total = _length(answer)
                self._version = _validator(answer)
            self._copy(answer, file, start)

    def _copy(self, answer: Any, file: Any, start: int) -> None:
        with _bar(self._policy.bar, self._total, start, self._url) as bar:
            # As it is: a server may call the archive's own gzip an encoding of the transfer.
            for chunk in answer.raw.stream(_CHUNK, decode_content=False):
                if not file.tell() and not GZIP.startswith(chunk[:2]) and chunk[:2] != GZIP:
                    kind = answer.headers.get("Content-Type", "unknown type")
                    raise SourceError(f"it sent no archive but {kind.partition(';')[0]}")
                file.write(chunk)
                if file.tell() > _MAX_BYTES:
                    raise SourceError(f"it sends more than {_MAX_BYTES >> 30} GiB")
                bar.update(len(chunk))


def _check_status(answer: Any) -> None:
    if answer.status_code >= 400:
        raise SourceError(f"HTTP {answer.status_code} {answer.reason}".strip())


def _length(answer: Any) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _validator(answer: Any) -> str:
    """What tells this version of the file from another; a weak tag cannot."""
    tag: str = answer.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    modified: str = answer.headers.get("Last-Modified", "")
    return modified


def _bar(stream: TextIO | None, total: int | None, start: int, url: str) -> Any:
    from tqdm import tqdm

    return tqdm(
        file=stream,
        disable=stream is None,
        total=total,
        initial=start,
        desc=os.path.basename(url.partition("?")[0]) or url,
        unit="B",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    """What went wrong in a few words, without the library's nesting."""
    import requests
    from urllib3 import exceptions as inner

    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (inner.NameResolutionError, "its name cannot be resolved"),
        (ConnectionRefusedError, "it refuses the connection"),
        (inner.ConnectTimeoutError, "no connection in time"),
        (inner.ReadTimeoutError, "it stopped answering"),
        (inner.ProxyError, "the proxy cannot be reached"),
        (inner.SSLError, "its certificate is not trusted"),
        (requests.TooManyRedirects, "its redirects go in a circle"),
        (requests.exceptions.InvalidURL, "it is not a valid URL"),
        (requests.Timeout, "it stopped answering"),
        (requests.ConnectionError, "it cannot be reached"),
    )
    causes = list(_causes(error))
    for kind, words in kinds:
        if any(isinstance(cause, kind) for cause in causes):
            return words
    return str(error).partition("\n")[0]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it wraps, by any of the ways that libraries wrap them."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        reason = getattr(cause, "reason", None)
        waiting += [*cause.args, reason, cause.__cause__, cause.__context__]
