"""Plain http is refused, unless a checksum is known or the user insists."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import ChecksumError, SourceError
from mnv1cli.modules.transfer import connections, download
from mnv1cli.modules.transfer.connections import DownloadPolicy
from tests.support import hub as hubs
from tests.support.downloads import BODY, PLACE, fetch, fetch_refused

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.hub import Hub


@pytest.fixture
def hub(hub_of_all_hosts: Hub) -> Hub:
    return hub_of_all_hosts


PLAIN = "http://modules.example/m.tgz"
REFUSED = (
    "plain http to modules.example, where the content can be changed on the way, and no "
    "checksum of it is known; --insecure accepts it"
)


def test_plain_http_is_refused_before_anybody_is_asked(hub: Hub, tmp_path: Path) -> None:
    hub.answers[PLAIN] = hubs.sends(BODY)
    with pytest.raises(SourceError) as caught:
        download.download(PLAIN, tmp_path / "x", DownloadPolicy())
    assert str(caught.value) == REFUSED
    assert hub.asked == []


def test_redirect_to_plain_http_is_refused_before_it_is_followed(hub: Hub, tmp_path: Path) -> None:
    hub.answers = {PLACE: hubs.redirects("/on"), "/on": hubs.redirects(PLAIN),
                   PLAIN: hubs.sends(BODY)}  # fmt: skip
    said = fetch_refused(hub, tmp_path)
    assert said == REFUSED
    assert hub.asked == [PLACE, "/on"]


def test_plain_http_is_taken_when_told(hub: Hub, tmp_path: Path) -> None:
    hub.answers = {PLACE: hubs.redirects(PLAIN), PLAIN: hubs.sends(BODY)}
    assert fetch(hub, tmp_path, DownloadPolicy(insecure=True)) == BODY


def test_plain_http_is_taken_where_the_checksum_is_known(hub: Hub, tmp_path: Path) -> None:
    hub.answers = {PLACE: hubs.redirects(PLAIN), PLAIN: hubs.sends(BODY)}
    assert fetch(hub, tmp_path, sha256=hashlib.sha256(BODY).hexdigest()) == BODY
    with pytest.raises(ChecksumError, match=r"m\.tgz has the sha256 .*, not 000"):
        fetch(hub, tmp_path, sha256="0" * 64)


@pytest.mark.parametrize(
    ("url", "proxy", "host"),
    [
        ("http://127.0.0.1/x", "", ""),
        ("http://127.8.9.1:80/x", "", ""),
        ("http://localhost:8080/x", "", ""),
        ("http://LOCALHOST/x", "", ""),
        ("http://[::1]:80/x", "", ""),
        ("https://modules.example/x", "", ""),
        ("https://modules.example/x", "http://proxy.example:3128", ""),
        ("http://modules.example/x", "http://127.0.0.1:9", "modules.example"),
        ("http://127.0.0.1/x", "http://proxy.example:3128", "proxy.example"),
        ("http://127.0.0.1/x", "proxy.example:3128", "proxy.example"),
        ("http://127.0.0.1/x", "http://localhost:3128", ""),
        ("http://127.0.0.1.modules.example/x", "", "127.0.0.1.modules.example"),
        ("http://localhost.modules.example/x", "", "localhost.modules.example"),
        ("http://127.0.0.1@modules.example/x", "", "modules.example"),
        # Other parsers see 127.0.0.1 here; the connection would go to modules.example.
        ("http://modules.example\\@127.0.0.1/x", "", "modules.example"),
        ("http://10.0.0.1/x", "", "10.0.0.1"),
        ("http://[2001:db8::1]/x", "", "[2001:db8::1]"),
        ("http:///x", "", "nowhere"),
    ],
)
def test_only_what_stays_on_this_machine_may_be_plain(url: str, proxy: str, host: str) -> None:
    proxies = {"http": proxy, "https": proxy} if proxy else {}
    assert connections.find_exposed_host(url, proxies) == host
