"""Stores that throttle, break off, refuse or are gone: bounded retries, and errors of one line."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mnv1cli.storage import clients, objects
from tests.conftest import ROOT
from tests.support import webserver
from tests.support.shell import mnv1
from tests.support.webserver import Answer, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

COFFEE = (ROOT / "examples" / "photos" / "coffee.jpg").read_bytes()
PLAIN = ("--module", "bundled", "--top", 1, "-f", "csv")
SLOW_DOWN = Answer(b"<Error><Code>SlowDown</Code></Error>", status=503)
OWN = ("AWS_", "GOOGLE_", "AZURE_", "FSSPEC_", "STORAGE_EMULATOR_HOST")


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A store with two photos, which is asked again without long pauses."""
    with webserver.serving() as server, server.as_s3():
        monkeypatch.setattr(clients, "RETRIES", 7)
        pauses = dict.fromkeys(("init_backoff", "max_backoff"), timedelta(milliseconds=5))
        monkeypatch.setattr(clients, "_PAUSES", {**pauses, "base": 2})
        monkeypatch.setattr("mnv1cli.storage.base.time.sleep", lambda _seconds: None)
        server.keys = ["p/a.jpg", "p/b.jpg"]
        server.answers = {f"/bucket/{key}": Answer(COFFEE) for key in server.keys}
        yield server


def test_busy_store_is_asked_again(web: WebServer) -> None:
    def mend() -> bool:
        if web.gets("/bucket/p/b.jpg") >= 4:
            web.answers["/bucket/p/b.jpg"] = Answer(COFFEE)
        return True

    web.answers["/bucket/p/b.jpg"] = Answer(SLOW_DOWN.body, SLOW_DOWN.status, ready=mend)
    result = mnv1("classify", "s3://bucket/p", *PLAIN)
    assert result.exit_code == 0, result.stderr
    assert web.gets("/bucket/p/b.jpg") == 5


@pytest.mark.parametrize(
    ("answer", "requests", "reason"),
    [
        (SLOW_DOWN, 8, "cannot be read: the server says 503 Service Unavailable: SlowDown"),
        (Answer(COFFEE[:2000], announced=len(COFFEE)), 3, "cannot be read: the transfer broke off"),
        (Answer(status=403), 1, "cannot be read: access denied"),
        (Answer(status=404), 1, "no such file"),
    ],
)
def test_retries_are_bounded(web: WebServer, answer: Answer, requests: int, reason: str) -> None:
    web.answers["/bucket/p/b.jpg"] = answer
    result = mnv1("classify", "s3://bucket/p", *PLAIN)
    assert result.exit_code == 3
    assert f"s3://bucket/p/b.jpg: {reason}\n" in result.stderr
    assert web.gets("/bucket/p/b.jpg") == requests


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=403), "access denied; set AWS_ACCESS_KEY_ID"),
        (Answer(b"<Error><Code>NoSuchBucket</Code></Error>", status=404), "no such bucket"),
        (SLOW_DOWN, "the server says 503 Service Unavailable: SlowDown"),
    ],
)
def test_bucket_that_cannot_be_listed_is_an_error(
    web: WebServer, answer: Answer, reason: str
) -> None:
    web.answers["/bucket"] = answer
    result = mnv1("classify", "s3://bucket/p", *PLAIN)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"s3://bucket/p: {reason}" in result.stderr


@pytest.mark.parametrize(
    ("uri", "variables", "reason"),
    [
        ("s3://bucket/p", {}, "no credentials; set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/p", {"AWS_PROFILE": "nope"}, "no credentials: The config profile (nope)"),
        ("gs://bucket/p", {}, "no credentials; run 'gcloud auth application-default login'"),
        ("az://bucket/p", {}, "no credentials; set AZURE_STORAGE_ACCOUNT_NAME"),
        ("az://bucket/p", {"AZURE_STORAGE_ACCOUNT_NAME": "a"}, "no credentials; set AZURE"),
        ("s3://bad bucket/p", {}, "no such bucket"),
    ],
)
def test_credentials_that_are_missing_are_said_at_once(
    monkeypatch: pytest.MonkeyPatch, uri: str, variables: dict[str, str], reason: str
) -> None:
    for name in [name for name in os.environ if name.startswith(OWN)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    # Nobody answers there.
    monkeypatch.setattr(clients, "_METADATA_SERVER", ("127.0.0.1", 9))
    monkeypatch.setattr(objects, "_clients", {})
    monkeypatch.setattr(objects, "_failures", {})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = mnv1("classify", uri, *PLAIN)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"{uri}: {reason}" in result.stderr


def test_profiles_have_credentials_and_endpoints(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = tmp_path_factory.mktemp("aws") / "config"
    config.write_text(
        "[profile mine]\naws_access_key_id = a\naws_secret_access_key = b\n"
        f"region = eu-west-1\nendpoint_url = {web.url}\n"
    )
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert mnv1("classify", "s3://bucket/p", *PLAIN).exit_code == 0
