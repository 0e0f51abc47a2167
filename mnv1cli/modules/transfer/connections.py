"""Requests to servers in bounded time, over plain http only where that is safe."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import sys
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mnv1cli._version import __version__
from mnv1cli.errors import SourceError, StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType
    from typing import TextIO

T = TypeVar("T")

_RETRIED_STATUS = (429, 500, 502, 503, 504)
_REDIRECTS = 20
PAUSE_SECONDS = 0.5
# A server that asks for a longer pause is given up.
MAX_PAUSE_SECONDS = 30.0
# A transfer slower than this counts as broken off: a trickle would never end.
MIN_BYTES_PER_SECOND = 4 << 10
SLOW_SECONDS = 30.0
# Even a transfer that begins when the time is nearly up has so long to prove that it flows.
GRACE_SECONDS = 2.0


class NotInTimeError(TimeoutError):
    """A step took longer than its time allows."""


class TooSlowError(NotInTimeError):
    """A server sends so slowly that the transfer would take for ever."""


@dataclass(frozen=True, slots=True)
class DownloadPolicy:
    """The patience of a download, in seconds, and what it allows.

    `connect` bounds an attempt to connect, `read` a silence of the server, and
    `answer` all waiting together: for answers, in pauses, and for transfers
    that do not flow. A request that fails is repeated up to `retries` times.
    `bar` is the stream on which a progress bar is shown. Without `insecure`,
    plain http is only for files whose checksum is known. `authorize` returns the
    Authorization header of a request to a URL, or an empty text.
    """

    connect: float = 5.0
    read: float = 10.0
    retries: int = 3
    answer: float = 60.0
    bar: TextIO | None = None
    insecure: bool = False
    authorize: Callable[[str], str] | None = None


class HttpClient:
    """A client of the servers that a URL leads to; it may still wait `left` seconds.

    `checked` means that a checksum of the content is known.
    """

    def __init__(self, policy: DownloadPolicy, checked: bool) -> None:
        self.left = policy.answer
        self._policy = policy
        self._session = _make_session(checked or policy.insecure, policy.authorize)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def request(self, url: str, headers: Mapping[str, str]) -> Any:
        """Request a URL; return the answer, whose body is not read yet.

        Redirects are followed, and a server that fails is asked again.

        Raises:
            StatusError: the server refuses.
            SourceError: the server does not answer in time.
        """
        from urllib3.util import Retry

        # Its rules, without its loop: that would read the bodies of failures, which may be endless.
        retry = Retry(
            self._policy.retries, status_forcelist=_RETRIED_STATUS, backoff_factor=PAUSE_SECONDS
        )
        for attempt in range(self._policy.retries + 1):
            answer = self._follow(url, headers)
            if answer.status_code < 400:
                return answer
            answer.close()
            can_retry = retry.is_retry("GET", answer.status_code) and attempt < self._policy.retries
            if not can_retry or not self.pause(self._choose_pause(retry, answer, attempt)):
                break
        words = f"HTTP {answer.status_code} {answer.reason}".strip()
        raise StatusError(words, answer.status_code, answer.url)

    def pause(self, seconds: float) -> bool:
        """Wait, if so much time is left; return whether it was."""
        if seconds > self.left:
            return False
        self.left -= seconds
        time.sleep(seconds)
        return True

    def read(self, answer: Any, decode: bool = False) -> bytes:
        """Read the next bytes of a body, as many as have to come in a while; none at its end.

        Only time that brings too little is counted as waiting.

        Raises:
            TooSlowError: they do not come in time.
        """
        seconds = min(SLOW_SECONDS, max(self.left, GRACE_SECONDS))
        size = int(MIN_BYTES_PER_SECOND * seconds)
        before = self.left
        with self.waiting():
            try:
                block: bytes = run_within(
                    seconds, lambda: answer.raw.read(size, decode_content=decode)
                )
            except NotInTimeError as error:
                # To close it would wait for the thread that reads.
                with contextlib.suppress(OSError, RuntimeError):
                    answer.raw.shutdown()
                raise TooSlowError(f"less than {MIN_BYTES_PER_SECOND} bytes per second") from error
        self.left = before
        return block

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of a block as waiting."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.left = max(0.0, self.left - (time.monotonic() - start))

    def _choose_pause(self, retry: Any, answer: Any, attempt: int) -> float:
        """Choose the seconds before the next try: as the server asks, or doubled each time.

        Raises:
            SourceError: the server asks for more than is left.
        """
        from urllib3.exceptions import InvalidHeader

        try:
            # A date has 29 characters, and no number that makes sense has as many.
            seconds = retry.parse_retry_after(answer.headers.get("Retry-After", "")[:40])
        except (InvalidHeader, ValueError, OverflowError):
            return PAUSE_SECONDS * float(1 << attempt)
        if seconds > min(MAX_PAUSE_SECONDS, self.left):
            raise SourceError(f"HTTP {answer.status_code}, and it asks to wait {seconds:,.0f} s")
        return float(seconds)

    def _follow(self, url: str, headers: Mapping[str, str]) -> Any:
        """Follow redirects to the last answer; their bodies may be endless and are not read."""
        from urllib.parse import urljoin

        for _ in range(_REDIRECTS):
            answer = self._get(url, headers)
            try:
                place = self._session.get_redirect_target(answer)
                url = urljoin(answer.url, place or "")
            except ValueError as error:
                answer.close()
                raise SourceError("it redirects to an invalid URL") from error
            if not place:
                return answer
            answer.close()
        raise SourceError("its redirects go in a circle")

    def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        """Request a URL once, without following redirects.

        Raises:
            SourceError: the time is used up, whichever clock notices it.
        """
        timeout = (min(self._policy.connect, max(self.left, 0.01)), self._policy.read)

        def get() -> Any:
            return self._session.get(
                url, headers=headers, timeout=timeout, stream=True, allow_redirects=False
            )

        try:
            with self.waiting():
                return run_within(self.left, get, lambda answer: answer.close())
        except NotInTimeError:
            raise SourceError("no answer in time") from None


def run_within(
    seconds: float, work: Callable[[], T], drop: Callable[[T], object] | None = None
) -> T:
    """Run `work` in bounded time and return its result.

    The timeouts of a socket bound a silence only: neither the look-up of a name nor a header
    that comes byte by byte. `drop` takes a result that comes too late.

    Raises:
        NotInTimeError: it took too long; its thread is abandoned.
    """
    outcome: Future[T] = Future()
    end = time.monotonic() + seconds

    def stop(frame: FrameType, event: str, _: object) -> None:
        """End an abandoned thread at its next read: a server may send for ever."""
        is_read = event == "call" and frame.f_code is socket.SocketIO.readinto.__code__
        if is_read and time.monotonic() >= end:
            raise NotInTimeError

    def run() -> None:
        sys.setprofile(stop)
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
            outcome.set_exception(error)

    def drop_late(late: Future[T]) -> None:
        if drop is not None and late.exception() is None:
            drop(late.result())

    threading.Thread(target=run, daemon=True).start()
    wait([outcome], max(seconds, 0.0))
    if not outcome.done():
        outcome.add_done_callback(drop_late)
        raise NotInTimeError
    if (error := outcome.exception()) is not None and time.monotonic() >= end:
        raise NotInTimeError from error
    return outcome.result()


def _make_session(plain: bool, authorize: Callable[[str], str] | None) -> Any:
    """Make a session with proxies and CA bundles of the environment.

    Each hop of a redirect is checked and authorized here before anything is sent.
    """
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            if not plain and (host := find_exposed_host(request.url, options.get("proxies") or {})):
                raise SourceError(
                    f"plain http to {host}, where the content can be changed on the way, and no "
                    "checksum of it is known; --insecure accepts it"
                )
            if authorize and (header := authorize(request.url)):
                request.headers["Authorization"] = header
            return super().send(request, *arguments, **options)

    class Session(requests.Session):
        def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
            """Return none: to find the next URL, requests would read the whole body first."""
            return iter(())

    session = Session()
    session.headers["User-Agent"] = f"mnv1/{__version__}"
    # The archive must come as it is, not compressed once more.
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return session


def find_exposed_host(url: str, proxies: Mapping[str, str]) -> str:
    """Return the host of a request in plain http if it leaves this machine, else an empty text."""
    from requests.utils import prepend_scheme_if_needed, select_proxy
    from urllib3.util import parse_url

    # Parsed as the connection parses it: other parsers may see another host in the same URL.
    if parse_url(url).scheme == "https":
        return ""
    hosts = [parse_url(url).host]
    if proxy := select_proxy(url, dict(proxies)):
        hosts.append(parse_url(prepend_scheme_if_needed(proxy, "http")).host)  # type: ignore[no-untyped-call]
    return next((host or "nowhere" for host in hosts if not _is_loopback(host or "")), "")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
