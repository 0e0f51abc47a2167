"""Google Cloud Storage: the same through its own protocol, held against an emulator."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import ImageError
from mnv1cli.inputs.listing import InputOptions, Listing
from mnv1cli.storage import stores
from mnv1cli.storage.stores import RemoteImage
from tests.conftest import ROOT
from tests.support.shell import mnv1, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.storage.base import Bucket

if not all(map(importlib.util.find_spec, ("gcsfs", "gcp_storage_emulator"))):
    pytest.skip("gcsfs and its emulator are not installed", allow_module_level=True)

PHOTOS = ROOT / "examples" / "photos"
ODD = "photos/sub/100 %25 + #1?é.jpg"
PLAIN = ("--module", "bundled", "--top", 1, "-f", "csv", "--wide")


@pytest.fixture(scope="module")
def emulator() -> Iterator[Bucket]:
    """An emulator with the bucket `bucket`, and the environment to use it."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    code = (
        "import sys; from gcp_storage_emulator.server import create_server as c\n"
        "c('127.0.0.1', int(sys.argv[1]), in_memory=True, default_bucket='bucket').run()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _await(url, server)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", url)
            patch.setenv("NO_PROXY", "127.0.0.1")
            patch.setattr(stores, "_filesystems", {})
            import fsspec

            patch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
            yield stores.open_bucket("gs")
    finally:
        server.terminate()
        server.wait()


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 200
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(f"{url}/storage/v1/b/bucket", timeout=5).close()
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def filled(emulator: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    bad = tmp_path_factory.mktemp("bad") / "bad"
    bad.write_bytes(b"")
    coffee = PHOTOS / "coffee.jpg"
    files = {"photos/a.jpg": coffee, "photos/empty.jpg": bad, ODD: coffee, "photos2/b.jpg": coffee}
    for key, file in files.items():
        emulator.write(f"gs://bucket/{key}".encode(), file)
    return emulator


@pytest.mark.parametrize(
    ("name", "recursive", "keys"),
    [
        ("photos", True, ["photos/a.jpg", "photos/empty.jpg", ODD]),
        ("photos", False, ["photos/a.jpg", "photos/empty.jpg"]),
        (ODD, True, [ODD]),
        ("photos*/?.jpg", True, ["photos/a.jpg", "photos2/b.jpg"]),
    ],
)
def test_what_a_uri_names(filled: Bucket, name: str, recursive: bool, keys: list[str]) -> None:
    listing = Listing([f"gs://bucket/{name}".encode()], (), InputOptions(recursive=recursive))
    assert [os.fsdecode(ref.path) for ref in listing] == [f"gs://bucket/{key}" for key in keys]


def test_rows_and_faults(filled: Bucket) -> None:
    result = mnv1("classify", "gs://bucket/photos", *PLAIN, "--on-error", "row", "--with-meta")
    found = rows(result.stdout)
    assert [row["label_1"] for row in found] == ["espresso", "", "espresso"]
    assert [row["error"] for row in found] == ["", "the file is empty", ""]
    assert found[0]["mtime"].startswith("20")


def test_reading(filled: Bucket) -> None:
    data = (PHOTOS / "coffee.jpg").read_bytes()
    remote = RemoteImage(b"gs://bucket/photos/a.jpg")
    assert remote(len(data)) == data
    for broken, limit, reason in (
        (remote, len(data) - 1, "too large"),
        (RemoteImage(b"gs://bucket/none"), 9, "no such file"),
    ):
        with pytest.raises(ImageError, match=reason):
            broken(limit)


def test_results(filled: Bucket, tmp_path: Path) -> None:
    place = "gs://bucket/out/r.csv"
    assert mnv1("classify", PHOTOS, *PLAIN, "-o", place).exit_code == 0
    mnv1("classify", PHOTOS, *PLAIN, "-o", tmp_path / "r.csv")
    assert filled.read(place.encode(), 1 << 20) == (tmp_path / "r.csv").read_bytes()
    assert f"{place} exists" in mnv1("classify", PHOTOS, *PLAIN, "-o", place).stderr
    lost = mnv1("classify", PHOTOS, *PLAIN, "-o", "gs://none/r.csv")
    assert "cannot write gs://none/r.csv: no such bucket" in lost.stderr
    assert mnv1("classify", "gs://none/photos", *PLAIN).exit_code == 2
