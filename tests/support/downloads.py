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
# The seconds that a server here dawdles: far more than a loaded machine is late.
FOREVER = 100.0


def fetch(
    hub: Hub, tmp_path: Path, policy: DownloadPolicy | None = None, sha256: str | None = None
) -> bytes:
    target = tmp_path / "m.tgz"
    download(hub.url + PLACE, target, policy or DownloadPolicy(), sha256)
    return target.read_bytes()


def fetch_refused(hub: Hub, tmp_path: Path, policy: DownloadPolicy | None = None) -> str:
    """Return the reason why a download fails, which it must say before the server is done."""
    start = time.monotonic()
    with pytest.raises(SourceError) as caught:
        fetch(hub, tmp_path, policy)
    assert time.monotonic() - start < FOREVER / 2
    assert "\n" not in str(caught.value)
    return str(caught.value)
