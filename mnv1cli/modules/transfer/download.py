"""A URL downloaded to a file: retried, resumed, bounded in time, and checked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mnv1cli.errors import ChecksumError, SourceError
from mnv1cli.modules.formats.recognise import ARCHIVE_HEAD_BYTES, is_archive
from mnv1cli.modules.transfer import connections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from mnv1cli.modules.transfer.connections import DownloadPolicy, HttpClient

MAX_RESUMES = 3
MAX_BYTES = 2 << 30


def download(url: str, target: Path, policy: DownloadPolicy, sha256: str | None = None) -> int:
    """Download an archive to `target`, and return its size in bytes.

    A transfer that breaks off is resumed where it stopped, if the server can.

    Raises:
        SourceError: the source cannot be reached, refuses, or sends no archive.
        ChecksumError: the content is not what was published.
        OSError: `target` cannot be written.
    """
    with _connect(url, policy, checked=sha256 is not None) as client:
        _Transfer(client, url, target, policy.bar).run()
    actual = _hash_file(target)
    if sha256 is not None and actual != sha256:
        raise ChecksumError(f"{url} has the sha256 {actual}, not {sha256}")
    return target.stat().st_size


def fetch_text(url: str, policy: DownloadPolicy, max_bytes: int) -> bytes:
    """Fetch a short text.

    Raises:
        SourceError: the source cannot be reached, refuses, or sends more than `max_bytes`.
    """
    with (
        _connect(url, policy, checked=False) as client,
        client.request(url, {}) as answer,
    ):
        text = b""
        while block := client.read(answer, decode=True):
            text += block
            if len(text) > max_bytes:
                raise SourceError(f"it sends more than {max_bytes:,} bytes")
    return text


@contextlib.contextmanager
def _connect(url: str, policy: DownloadPolicy, checked: bool) -> Iterator[HttpClient]:
    """Open a client for a URL; errors of the libraries become a reason in a few words.

    Raises:
        SourceError: the source cannot be reached, or fails.
    """
    import requests
    from urllib3.exceptions import HTTPError

    client = connections.HttpClient(policy, checked)
    try:
        with client.waiting():
            _resolve_host(url, policy)
        yield client
    except (requests.RequestException, HTTPError, connections.TooSlowError) as error:
        raise SourceError(_describe_error(error) or str(error).partition("\n")[0]) from error
    finally:
        client.close()


def _resolve_host(url: str, policy: DownloadPolicy) -> None:
    """Look up a host's name, so that a failure of this step can be reported as such."""
    from requests.utils import get_environ_proxies, select_proxy

    host = urlsplit(url).hostname
    if not host or select_proxy(url, get_environ_proxies(url, no_proxy=None)):
        return

    def look_up() -> None:
        # The connection looks it up again, and reports the error.
        with contextlib.suppress(OSError, UnicodeError):
            socket.getaddrinfo(host, None)

    try:
        connections.run_within(min(policy.connect, policy.answer), look_up)
    except connections.NotInTimeError:
        is_used_up = policy.answer <= policy.connect
        reason = "no answer in time" if is_used_up else "its name cannot be resolved in time"
        raise SourceError(reason) from None


class _Transfer:
    """A download under way: its size so far, and the version of the file."""

    def __init__(self, client: HttpClient, url: str, target: Path, bar: TextIO | None) -> None:
        self._client = client
        self._url = url
        self._target = target
        self._bar = bar
        self._answered = False
        self._version = ""
        self._total: int | None = None

    def run(self) -> None:
        """Request the file until all of it has come, or no more comes."""
        import requests
        from urllib3.exceptions import HTTPError

        kinds = (requests.ConnectionError, requests.Timeout, HTTPError, connections.TooSlowError)
        broken: list[Exception] = []
        with self._target.open("wb") as file:
            while len(broken) <= MAX_RESUMES:
                if not self._client.pause(connections.PAUSE_SECONDS * len(broken)):
                    break
                try:
                    self._request_once(file)
                except kinds as error:
                    if not self._answered:
                        raise
                    broken.append(error)
                else:
                    return
        raise SourceError(self._describe_break(broken)) from broken[-1]

    def _describe_break(self, broken: list[Exception]) -> str:
        times = "once" if len(broken) == 1 else f"{len(broken)} times"
        of = f" of {self._total:,}" if self._total else ""
        reason = _describe_error(broken[-1])
        return f"the transfer broke off {times}, at {self._target.stat().st_size:,} bytes{of}" + (
            f": {reason}" if reason else ""
        )

    def _request_once(self, file: Any) -> None:
        """Request the file once, from where the last request stopped."""
        start = file.tell()
        headers = {}
        if start and self._version:
            headers = {"Range": f"bytes={start}-", "If-Range": self._version}
        with self._client.request(self._url, headers) as answer:
            self._answered = True
            if answer.status_code != 206:
                file.seek(0)
                file.truncate()
                start = 0
                self._total = _parse_length(answer)
                self._version = _read_validator(answer)
            if (self._total or 0) > MAX_BYTES:
                raise SourceError(f"it sends more than {MAX_BYTES >> 30} GiB")
            self._copy(answer, file, start)

    def _copy(self, answer: Any, file: Any, start: int) -> None:
        with _make_bar(self._bar, self._total, start, self._url) as bar:
            # Not decoded: a server may call the archive's own gzip an encoding of the transfer.
            head = b"" if start == 0 else None
            while block := self._client.read(answer):
                file.write(block)
                if head is not None:
                    head += block
                    # The mark of a tar is behind its first header.
                    if len(head) >= ARCHIVE_HEAD_BYTES or is_archive(head):
                        _check_head(head, answer)
                        head = None
                if file.tell() > MAX_BYTES:
                    raise SourceError(f"it sends more than {MAX_BYTES >> 30} GiB")
                bar.update(len(block))
            if head is not None:
                _check_head(head, answer)


def _check_head(head: bytes, answer: Any) -> None:
    """Refuse a body that does not begin as an archive."""
    if not is_archive(head):
        kind = answer.headers.get("Content-Type", "unknown type")
        raise SourceError(f"it sent no archive but {kind.partition(';')[0]}")


def _parse_length(answer: Any) -> int | None:
    length = answer.headers.get("Content-Length", "")
    # More digits than any file size has are ignored.
    return int(length[:19]) if length.isdecimal() else None


def _read_validator(answer: Any) -> str:
    """Read what identifies this version of the file: a strong ETag, else its date."""
    tag: str = answer.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    modified: str = answer.headers.get("Last-Modified", "")
    return modified


def _make_bar(stream: TextIO | None, total: int | None, start: int, url: str) -> Any:
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


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _describe_error(error: Exception) -> str:
    """Describe an error in a few words, without the library's nesting; empty if it is unknown."""
    import requests
    from urllib3 import exceptions as inner

    kinds: tuple[tuple[type[BaseException], str], ...] = (
        (inner.NameResolutionError, "its name cannot be resolved"),
        (ConnectionRefusedError, "it refuses the connection"),
        (inner.ConnectTimeoutError, "no connection in time"),
        (connections.TooSlowError, "it sends too slowly"),
        (inner.ReadTimeoutError, "it stopped answering"),
        (inner.ProxyError, "the proxy cannot be reached"),
        (inner.SSLError, "its certificate is not trusted"),
        (requests.exceptions.InvalidURL, "it is not a valid URL"),
        (requests.Timeout, "it stopped answering"),
        # The same type is raised in a transfer, where it means nothing.
        (requests.ConnectionError, "it cannot be reached"),
    )
    causes = list(_walk_causes(error))
    return next(
        (words for kind, words in kinds if any(isinstance(cause, kind) for cause in causes)), ""
    )


def _walk_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it wraps, in any of the ways that libraries use."""
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
