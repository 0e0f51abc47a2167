"""Requests to servers in bounded time, over plain http only where that is safe."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli._version import __version__
from mnv1cli.errors import SourceError, StatusError
from mnv1cli.modules.transfer.pace import NotInTimeError, Pace, keep_pace, run_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO

_RETRIED_STATUS = (429, 500, 502, 503, 504)
_REDIRECTS = 20
PAUSE_SECONDS = 0.5
# A server that asks for a longer pause is given up.
MAX_PAUSE_SECONDS = 30.0
_YEAR = 365 * 24 * 60 * 60.0
# Even a transfer that begins when the time is nearly up has so long to prove that it flows.
_GRACE_SECONDS = 2.0


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
        self.pace = Pace(policy.read)
        self._policy = policy
        plain = checked or policy.insecure
        self._session = _make_session(self.pace, plain, policy.authorize)

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
        for attempt in range(self._policy.retries + 1):
            answer = self._follow(url, headers)
            if answer.status_code < 400:
                return answer
            answer.close()
            retry = answer.status_code in _RETRIED_STATUS and attempt < self._policy.retries
            if not retry or not self.pause(self._choose_pause(answer, attempt)):
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

    def _choose_pause(self, answer: Any, attempt: int) -> float:
        """Choose the seconds before the next try: as the server asks, or doubled each time."""
        seconds = _parse_retry_after(answer.headers.get("Retry-After", ""))
        if seconds is None:
            return PAUSE_SECONDS * float(1 << attempt)
        if seconds > min(MAX_PAUSE_SECONDS, self.left):
            raise SourceError(f"HTTP {answer.status_code}, and it asks to wait {seconds:,.0f} s")
        return seconds

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
        """Request a URL once, without following redirects."""
        import requests

        timeout = (min(self._policy.connect, max(self.left, 0.01)), self._policy.read)

        def get() -> Any:
            answer = self._session.get(
                url, headers=headers, timeout=timeout, stream=True, allow_redirects=False
            )
            if self.pace.given_up:
                answer.close()
            return answer

        self.pace.begin(self.left)
        try:
            with self.waiting():
                return run_within(self.left, get)
        except NotInTimeError:
            # The abandoned thread ends with the next byte.
            self.pace.given_up = True
            raise SourceError("no answer in time") from None
        except (requests.ConnectionError, requests.Timeout):
            # The socket waits just as long as this thread, and may give up first.
            if self.left:
                raise
            raise SourceError("no answer in time") from None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count all of the time, while nothing can arrive."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.left = max(0.0, self.left - (time.monotonic() - start))

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Count only the time that is waited in vain, while a body is read."""
        self.pace.begin(max(self.left, _GRACE_SECONDS))
        try:
            yield
        except BaseException:
            self.left = max(0.0, self.left - self.pace.count_lost_seconds())
            raise


def _parse_retry_after(text: str) -> float | None:
    """Parse a `Retry-After` (RFC 9110, 10.2.3), a number or a date, to seconds, else to None."""
    from email.utils import parsedate_to_datetime

    if text.strip().isdecimal():
        return float(text.strip()[:9])
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _YEAR)


def _make_session(pace: Pace, plain: bool, authorize: Callable[[str], str] | None) -> Any:
    """Make a session whose answers keep the pace, with proxies and CA bundles of the environment.

    Each hop of a redirect is checked and authorized here before anything is sent.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            keep_pace(self.poolmanager, pace)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            exists = proxy in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **options)
            if not exists:
                keep_pace(manager, pace)
            return manager

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
    retry = Retry(1, read=0, redirect=False, status=0, respect_retry_after_header=False)
    for scheme in ("http://", "https://"):
        # A failed connection is tried once more; `HttpClient` and its caller do the rest.
        session.mount(scheme, Adapter(max_retries=retry))
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
