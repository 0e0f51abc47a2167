"""How servers are asked: in bounded time, and over plain http only where it is safe."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli._version import __version__
from mnv1cli.errors import SourceError
from mnv1cli.modules.pace import NotInTimeError, Pace, keep_pace, run_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

_RETRIED_STATUS = (429, 500, 502, 503, 504)
_REDIRECTS = 20
PAUSE_SECONDS = 0.5
# Whoever wants us to wait longer than that is left alone.
MAX_PAUSE_SECONDS = 30.0
_YEAR = 365 * 24 * 60 * 60.0
# A transfer that begins when the time is nearly up may show that it flows.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class DownloadPolicy:
    """How patient a download is, in seconds.

    `connect` bounds one attempt to connect, `read` a silence of the server,
    `retries` how often a failed answer is tried again. `answer` bounds all the
    waiting together, for answers, in pauses, and for transfers that do not
    flow. `bar` is the stream that a progress bar is shown on. Plain http is
    for checked files, unless `insecure`.
    """

    connect: float = 5.0
    read: float = 10.0
    retries: int = 3
    answer: float = 60.0
    bar: TextIO | None = None
    insecure: bool = False


class HttpClient:
    """A line to the servers that a URL leads to; `left` seconds may still be waited.

    `checked` says that a checksum of what comes is known.
    """

    def __init__(self, policy: DownloadPolicy, checked: bool) -> None:
        self.left = policy.answer
        self.pace = Pace(policy.read)
        self._policy = policy
        self._session = _make_session(self.pace, checked or policy.insecure)

    def close(self) -> None:
        """Hang up."""
        self._session.close()

    def request(self, url: str, headers: Mapping[str, str]) -> Any:
        """The answer to a request, its body not read yet.

        Redirects are followed, and a server that fails is asked again.

        Raises:
            SourceError: it refuses, or there is no answer in time.
        """
        for attempt in range(self._policy.retries + 1):
            answer = self._follow(url, headers)
            if answer.status_code < 400:
                return answer
            answer.close()
            again = answer.status_code in _RETRIED_STATUS and attempt < self._policy.retries
            if not again or not self.pause(self._wanted_pause(answer, attempt)):
                break
        raise SourceError(f"HTTP {answer.status_code} {answer.reason}".strip())

    def pause(self, seconds: float) -> bool:
        """Wait, if there is so much time left."""
        if seconds > self.left:
            return False
        self.left -= seconds
        time.sleep(seconds)
        return True

    def _wanted_pause(self, answer: Any, attempt: int) -> float:
        """The seconds to wait before the next try: as the server asks, or some more each time."""
        told = _parse_retry_after(answer.headers.get("Retry-After", ""))
        if told is None:
            return PAUSE_SECONDS * float(1 << attempt)
        if told > min(MAX_PAUSE_SECONDS, self.left):
            raise SourceError(f"HTTP {answer.status_code}, and it asks to wait {told:,.0f} s")
        return told

    def _follow(self, url: str, headers: Mapping[str, str]) -> Any:
        """The answer at the end of the redirects; their own bodies may be endless: unread."""
        from urllib.parse import urljoin

        for _ in range(_REDIRECTS):
            answer = self._get(url, headers)
            try:
                place = self._session.get_redirect_target(answer)
                url = urljoin(answer.url, place or "")
            except ValueError as error:
                answer.close()
                raise SourceError("it leads to what is no valid URL") from error
            if not place:
                return answer
            answer.close()
        raise SourceError("its redirects go in a circle")

    def _get(self, url: str, headers: Mapping[str, str]) -> Any:
        """One request, to one place."""
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
            # The thread that nobody waits for any more ends with the next byte.
            self.pace.given_up = True
            raise SourceError("no answer in time") from None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While nothing can come: all of the time counts."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.left = max(0.0, self.left - (time.monotonic() - start))

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While a body is read: only what is waited in vain counts."""
        self.pace.begin(max(self.left, _GRACE_SECONDS))
        try:
            yield
        except BaseException:
            self.left = max(0.0, self.left - self.pace.lost())
            raise


def _parse_retry_after(text: str) -> float | None:
    """The seconds that a `Retry-After` asks for: a number, or a date."""
    from email.utils import parsedate_to_datetime

    if text.strip().isdecimal():
        return float(text.strip()[:9])
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _YEAR)


def _make_session(pace: Pace, plain: bool) -> Any:
    """A session whose answers keep the pace; proxies and CA bundles come from the environment.

    Every hop of a redirect comes by here, before anything is sent.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            keep_pace(self.poolmanager, pace)

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            known = proxy in self.proxy_manager
            manager = super().proxy_manager_for(proxy, **options)
            if not known:
                keep_pace(manager, pace)
            return manager

        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            if not plain and (
                host := _find_exposed_host(request.url, options.get("proxies") or {})
            ):
                raise SourceError(
                    f"plain http to {host}, where what comes can be changed on the way, and no "
                    "checksum of it is known; --insecure takes it"
                )
            return super().send(request, *arguments, **options)

    class Session(requests.Session):
        def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
            """None: to find the next place it would read the whole body first."""
            return iter(())

    session = Session()
    session.headers["User-Agent"] = f"mnv1/{__version__}"
    # The archive is to come as it is, not in another compression.
    session.headers["Accept-Encoding"] = "identity"
    retry = Retry(1, read=0, redirect=False, status=0, respect_retry_after_header=False)
    for scheme in ("http://", "https://"):
        # A failed connection is tried once more; all else is for `Line` and its caller.
        session.mount(scheme, Adapter(max_retries=retry))
    return session


def _find_exposed_host(url: str, proxies: Mapping[str, str]) -> str:
    """The host that a request goes to in plain http, if it leaves this machine."""
    from requests.utils import prepend_scheme_if_needed, select_proxy
    from urllib3.util import parse_url

    # Parsed as the connection parses it: others may see another host in the same URL.
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
