"""Azurite, Microsoft's emulator of Azure's blobs, where npm has installed it."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import shutil
import socket
import subprocess
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mnv1cli.storage import objects
from tests.support.objectstore import await_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Documented with the emulator; the same everywhere.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def serving(folder: Path, container: str) -> Iterator[None]:
    """Run Azurite with one container, with the environment of this process set to use it."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("Azurite is not installed: npm install -g azurite")
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    words = [program, "--blobPort", str(port), "--location", str(folder), "--silent",
             "--skipApiVersionCheck", "--disableTelemetry"]  # fmt: skip
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    try:
        place = f"{endpoint}/{container}?restype=container"
        await_server(server, _sign(place, container))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(
                "AZURE_STORAGE_CONNECTION_STRING",
                f"AccountName={_ACCOUNT};AccountKey={_KEY};BlobEndpoint={endpoint};",
            )
            patch.setenv("NO_PROXY", "127.0.0.1")
            patch.setattr(objects, "_clients", {})
            patch.setattr(objects, "_failures", {})
            yield
    finally:
        server.terminate()
        server.wait()


def _sign(url: str, container: str) -> urllib.request.Request:
    """Sign the request for a new container with the shared key, as Azure's REST API wants it."""
    date = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06"}
    text = "PUT" + "\n" * 12 + "".join(f"{key}:{value}\n" for key, value in headers.items())
    text += f"/{_ACCOUNT}/{_ACCOUNT}/{container}\nrestype:container"
    digest = hmac.new(base64.b64decode(_KEY), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    headers |= {"Authorization": f"SharedKey {_ACCOUNT}:{signature}", "Content-Length": "0"}
    return urllib.request.Request(url, headers=headers, method="PUT")
