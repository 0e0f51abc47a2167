"""Objects are read whole or not at all, and what stands in the way is told in one line."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import ImageError, OptionError
from mnv1cli.storage import clients, stores
from mnv1cli.storage import web as web_module
from mnv1cli.storage.stores import RemoteImage
from tests.conftest import ROOT
from tests.support import webserver
from tests.support.shell import program
from tests.support.webserver import Answer, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PHOTOS = ROOT / "examples" / "photos"
LIMIT = 1 << 20


@pytest.fixture
def web() -> Iterator[WebServer]:
    with webserver.serving() as server, server.as_s3():
        yield server


@pytest.fixture(params=["http", "s3"])
def base(request: pytest.FixtureRequest, web: WebServer) -> bytes:
    """What the objects of the server are called, by one protocol and the other."""
    return web.url.encode() if request.param == "http" else b"s3:/"


def reason(remote: RemoteImage, limit: int = LIMIT) -> str:
    with pytest.raises(ImageError) as caught:
        remote(limit)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_object_is_read(web: WebServer, base: bytes) -> None:
    web.answers["/bucket/a b?.jpg"] = Answer(b"bytes")
    name = b"/bucket/a b?.jpg" if base == b"s3:/" else b"/bucket/a b%3F.jpg"
    assert RemoteImage(base + name)(5) == b"bytes"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/a%20b.jpg", "/a b.jpg"),
        ("/a b.jpg", "/a b.jpg"),
        ("/%C3%A9.jpg", "/é.jpg"),
        ("/é.jpg", "/é.jpg"),
        ("/a.jpg?token=1&x=%2F", "/a.jpg"),
        ("/a%2Fb.jpg", "/a/b.jpg"),
        ("/a//b.jpg", "/a//b.jpg"),
    ],
)
def test_urls_are_asked_for_as_they_are(web: WebServer, name: str, path: str) -> None:
    web.answers[path] = Answer(b"bytes")
    assert RemoteImage(f"{web.url}{name}".encode())(LIMIT) == b"bytes"


def test_an_empty_object_is_empty(web: WebServer, base: bytes) -> None:
    web.answers["/bucket/a"] = Answer(b"")
    assert RemoteImage(base + b"/bucket/a")(LIMIT) == b""


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "no such file"),
        (403, "cannot be read: access denied"),
        (400, "cannot be read: "),
        (500, "cannot be read: "),
        (503, "cannot be read: "),
    ],
)
def test_what_the_server_refuses(web: WebServer, base: bytes, status: int, expected: str) -> None:
    web.answers["/bucket/a"] = Answer(status=status)
    assert reason(RemoteImage(base + b"/bucket/a")).startswith(expected)


def test_a_transfer_that_breaks_off_is_no_short_image(
    web: WebServer, base: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnv1cli.storage.base.time.sleep", lambda _seconds: None)
    web.answers["/bucket/a"] = Answer(b"half of it", announced=20)
    assert "broke off" in reason(RemoteImage(base + b"/bucket/a"))
    assert web.gets("/bucket/a") == 3


def test_a_transfer_is_tried_again(
    web: WebServer, base: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/bucket/a"] = Answer(b"half of it", announced=20)

    def mended(_: float) -> None:
        web.answers["/bucket/a"] = Answer(b"half of it and the rest")

    monkeypatch.setattr("mnv1cli.storage.base.time.sleep", mended)
    assert RemoteImage(base + b"/bucket/a")(LIMIT) == b"half of it and the rest"


def test_too_large_by_its_listing_is_not_asked_for(web: WebServer, base: bytes) -> None:
    assert "too large: the file has 2.0 kB" in reason(RemoteImage(base + b"/bucket/a", 2000), 1999)
    assert not web.asked


def test_too_large_by_what_the_server_says_is_not_read(web: WebServer, base: bytes) -> None:
    # It would wait for ever for what was announced.
    web.answers["/bucket/a"] = Answer(b"", announced=5_000_000_000)
    assert "too large: the file has 5.0 GB" in reason(RemoteImage(base + b"/bucket/a"))


def test_too_large_without_a_word_is_read_no_further(web: WebServer) -> None:
    web.answers["/a"] = Answer(bytes(3 << 20), announced=None)
    uri = web.url.encode() + b"/a"
    assert "too large" in reason(RemoteImage(uri))
    assert len(RemoteImage(uri)(3 << 20)) == 3 << 20


def test_a_silent_store_is_not_waited_for(
    web: WebServer, base: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "SILENCE_SECONDS", 0.2)
    web_module._open_origin.cache_clear()
    web.answers["/bucket/a"] = Answer(b"late", ready=lambda: False)
    assert reason(RemoteImage(base + b"/bucket/a")) == "cannot be read: no answer in time"
    web_module._open_origin.cache_clear()


@pytest.mark.parametrize("name", [b"s3://", b"s3://bucket", b"s3://bucket/", b"s3:///key"])
def test_names_of_no_object(web: WebServer, name: bytes) -> None:
    assert reason(RemoteImage(name)).startswith("it names no object: s3://bucket/key does")


def test_names_that_are_no_text(web: WebServer, base: bytes) -> None:
    assert "UTF-8" in reason(RemoteImage(base + b"/bucket/\xff.jpg"))


def test_nobody_there(web: WebServer) -> None:
    assert "cannot be read: no connection: Connection refused" in reason(
        RemoteImage(b"http://127.0.0.1:9/a.jpg")
    )


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(OptionError, match="swift:// is not known"):
        stores.open_store("swift")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["s3://bucket/photos"], "s3"),
        (["gs://bucket/photos"], "gs"),
        (["https://host.invalid/a.jpg"], "http"),
        ([str(PHOTOS), "-o", "s3://bucket/out.csv"], "s3"),
        (["--files-from", "{list}"], "s3"),
    ],
)
def test_a_library_that_is_missing_is_named(
    tmp_path: Path, arguments: list[str], extra: str
) -> None:
    (tmp_path / "list").write_text("s3://bucket/a.jpg")
    for name in ("obstore",):
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError(__name__)")
    words = [word.format(list=tmp_path / "list") for word in arguments]
    run = program("classify", *words, "--module", "bundled", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert run.returncode == 2
    assert f"pip install 'mnv1cli[{extra}]'" in run.stderr.decode()
    assert "Traceback" not in run.stderr.decode()


def test_local_images_need_no_library_of_stores(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from mnv1cli.cli.main import cli\n"
        "try: cli(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'obstore', 'boto3', 'botocore', 'requests', 'asyncio'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    # What compiles the module loads more.
    assert program("classify", PHOTOS, "--module", "bundled").returncode == 0
    words = ["classify", str(PHOTOS), "-o", str(tmp_path / "a.csv"), "--module", "bundled"]
    run = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
