"""Downloads from a server that plays every host, and the reasons why they fail."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import SourceError
from mnv1cli.modules.transfer.connections import DownloadPolicy
from mnv1cli.modules.transfer.download import download

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.hub import Hub

# A download checks only the two bytes of gzip; the rest matters to who unpacks it.
BODY = b"\x1f\x8b" + bytes(range(256)) * 400
PLACE = "/m.tgz"


def fetch(
    hub: Hub, tmp_path: Path, policy: DownloadPolicy | None = None, sha256: str | None = None
) -> bytes:
    target = tmp_path / "m.tgz"
    download(hub.url + PLACE, target, policy or DownloadPolicy(), sha256)
    return target.read_bytes()


def fetch_refused(hub: Hub, tmp_path: Path, policy: DownloadPolicy) -> tuple[str, float]:
    """Return the reason why a download fails, and the seconds until then."""
    start = time.monotonic()
    with pytest.raises(SourceError) as caught:
        fetch(hub, tmp_path, policy)
    assert "\n" not in str(caught.value)
    return str(caught.value), time.monotonic() - start
