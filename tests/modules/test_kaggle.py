"""Models on Kaggle: their handles, versions and login, and the cache of kagglehub."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import ModuleError, UnreachableError
from mnv1cli.modules import cache, files, kaggle, locate
from mnv1cli.modules.kaggle import KaggleModel
from mnv1cli.modules.transfer import connections, kaggle_login
from mnv1cli.types import FetchOptions
from tests.support import exports, tls
from tests.support import hub as hubs
from tests.support.hub import SLOT
from tests.support.laid import lay
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.tls import TlsHub

PATH = "google/mobilenet-v1/tensorFlow2/100-128-classification"
MODEL = KaggleModel("google", "mobilenet-v1", "tensorFlow2", "100-128-classification", 2)
PAGES = "https://www.kaggle.com/models"
API = f"https://www.kaggle.com/api/v1/models/{PATH}"
DOWNLOAD = f"{API}/2/download"
STORAGE = "https://storage.googleapis.com/kaggle-models/archive.tar.gz?X-Goog-Signature=1"
LONG = "google/mobilenet-v1/frameworks/tensorFlow2/variations/100-128-classification"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a login."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("API_TOKEN", "USERNAME", "KEY", "CONFIG_DIR"):
        monkeypatch.delenv(f"KAGGLE_{name}", raising=False)
    monkeypatch.delenv("KAGGLEHUB_CACHE")
    return home


@pytest.fixture
def world(
    tmp_path: Path, home: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TlsHub]:
    """Kaggle, its storage, and a mirror."""
    hosts = ["www.kaggle.com", "storage.googleapis.com", "mirror.example", "tfhub.dev"]
    with tls.serve(tmp_path, hosts) as hub:
        monkeypatch.setenv("MNV1_OFFLINE", "0")
        monkeypatch.setenv("https_proxy", hub.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hub.certificate))
        monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.01)
        yield hub


def keep_in_kagglehub(home: Path, path: str, complete: bool = True) -> Path:
    directory = lay(home / ".cache" / "kagglehub" / "models" / path)
    if complete:
        directory.with_name(f"{directory.name}.complete").touch()
    return directory


# --- handles -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        f"{PATH}/2",
        f"{PATH}/2/",
        f"{PATH.replace('tensorFlow2', 'TensorFlow2')}/2",
        f"{PATH.replace('tensorFlow2', 'tensorflow2')}/2",
        f"{PATH.replace('tensorFlow2', 'TENSORFLOW-2')}/2",
        f"{PAGES}/{PATH}/2",
        f"{PAGES}/{PATH}/2/",
        f"{PAGES}/{PATH}/2?tfhub-redirect=true",
        f"{PAGES}/{PATH}/2?a=b#usage",
        f"{PAGES}/{LONG}/versions/2",
        f"{PAGES}/{LONG}/versions/2/?tfhub-redirect=true",
        f"{PAGES}/{LONG.replace('tensorFlow2', 'TensorFlow2')}/versions/2",
        f"https://kaggle.com/models/{PATH}/2",
        f"http://www.kaggle.com/models/{PATH}/2",
        f"https://WWW.Kaggle.com/models/{PATH}/2",
        f"kaggle.com/models/{PATH}/2",
        DOWNLOAD,
    ],
)
def test_every_spelling_is_one_entry_of_the_cache(spelling: str) -> None:
    assert kaggle.parse_handle(spelling) == MODEL
    assert locate.resolve_handle(spelling) == f"{PAGES}/{PATH}/2" == MODEL.handle
    assert MODEL.download_url == DOWNLOAD


@pytest.mark.parametrize(
    "spelling", [PATH, f"{PAGES}/{PATH}", f"{PAGES}/{LONG}?tfhub-redirect=true", f"{PATH}/0"]
)
def test_version_may_be_left_out(spelling: str) -> None:
    assert kaggle.parse_handle(spelling) == MODEL._replace(version=None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hub",
        "a/b/c/d",
        "photos/2024/keras.d/1",
        f"../{PATH}",
        f"/{PATH}",
        f"{PATH}/two",
        f"{PATH}/2/3",
        "google/../tensorFlow2/x/2",
        "https://kaggle.com.evil.example/models/google/mobilenet-v1/tensorFlow2/x/2",
        "https://www.kaggle.com@evil.example/models/google/mobilenet-v1/tensorFlow2/x/2",
        "https://[www.kaggle.com/models/google/mobilenet-v1/tensorFlow2/x/2",
        "ftp.example/google/mobilenet-v1",
    ],
)
def test_other_texts_are_no_handles(text: str) -> None:
    assert kaggle.parse_handle(text) is None


@pytest.mark.parametrize(
    "url",
    [
        f"{PAGES}/google/mobilenet-v1",
        f"{PAGES}/google/mobilenet-v1/discussion/12",
        f"{PAGES}/google/mobilenet-v1/frameworks/tensorFlow2",
        "https://www.kaggle.com/datasets/a/b",
    ],
)
def test_page_of_kaggle_that_is_no_variation_is_refused_by_name(url: str) -> None:
    result = mnv1("module", "path", "--module", url)
    assert result.exit_code == 1
    assert result.stderr == (
        f"mnv1: error: {url} is not the page of a model's variation on Kaggle; name framework and "
        "variation too, as in google/mobilenet-v1/tensorFlow2/100-128-classification/2\n"
    )


def test_directory_of_the_same_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / PATH / "2")
    assert locate.locate(f"{PATH}/2") == locate.LocatedModule(f"{PATH}/2", Path(PATH, "2"))


# --- versions ----------------------------------------------------------------------


def test_newest_version_is_asked_for(world: TlsHub, bundled: Path) -> None:
    world.answers[f"{API}/get"] = hubs.sends(json.dumps({"versionNumber": 7}).encode())
    world.answers[f"{API}/7/download"] = hubs.sends(hubs.pack(bundled))
    located = locate.locate(PATH)
    assert located.handle == f"{PAGES}/{PATH}/7"
    assert located.path == cache.cache_directory(f"{PAGES}/{PATH}/7")
    world.asked.clear()
    assert locate.locate(PATH) == located
    assert [path for path in world.asked if "download" in path] == []
    # Where Kaggle cannot be asked, the newest in the cache is taken.
    assert locate.locate(PATH, FetchOptions(offline=True)) == located
    world.answers.clear()
    assert locate.locate(PATH) == located
    facts = json.loads(mnv1("module", "fetch", f"{PAGES}/{LONG}", "--json").stdout)
    assert (facts["handle"], facts["cached"]) == (located.handle, True)
    assert json.loads(mnv1("module", "remove", PATH, "--json").stdout)[0]["path"] == str(
        located.path
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (hubs.sends(b"<html>"), "its answer does not name a version"),
        (hubs.sends(b'{"versionNumber": "x"}'), "its answer does not name a version"),
        (hubs.sends(b"[" * 100_000), "its answer does not name a version"),
        (hubs.sends(b" " * (2 << 20)), "it sends more than 1,048,576 bytes"),
        (hubs.fails(404), "Kaggle has no such model (HTTP 404), or it is private"),
    ],
)
def test_version_that_kaggle_does_not_name_is_one_line(
    world: TlsHub, answer: hubs.Answer, reason: str
) -> None:
    world.answers[f"{API}/get"] = answer
    result = mnv1("module", "fetch", PATH)
    assert result.exit_code == 1
    assert result.stderr == (
        f"mnv1: error: the newest version of {PATH} is unknown ({API}/get: {reason}); "
        f"give the version, as in {PATH}/1\n"
    )


# --- the cache of kagglehub ------------------------------------------------------------


@pytest.mark.parametrize("typed", ["tensorFlow2", "TensorFlow2", "tensorflow2"])
def test_cache_of_kagglehub_is_read_where_it_is(home: Path, own_cache: Path, typed: str) -> None:
    directory = keep_in_kagglehub(home, f"{PATH.replace('tensorFlow2', typed)}/2")
    before = sorted(home.rglob("*"))
    assert locate.locate(f"{PATH}/2") == locate.LocatedModule(f"{PAGES}/{PATH}/2", directory)
    assert locate.locate(PATH).path == directory
    assert mnv1("module", "path", f"{PAGES}/{LONG}/versions/2").stdout == f"{directory}\n"
    assert json.loads(mnv1("module", "fetch", PATH, "--json").stdout)["cached"] is True
    (entry,) = json.loads(mnv1("module", "verify", PATH, "--json").stdout)
    assert (entry["path"], entry["ok"], entry["checksums"]) == (str(directory), True, False)
    refused = mnv1("module", "remove", f"{PATH}/2")
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"mnv1: error: {directory} is in the cache of kagglehub, which mnv1 does not change; "
        "remove the folder there\n"
    )
    assert sorted(home.rglob("*")) == before
    assert not own_cache.exists()


def test_setting_names_another_cache_of_kagglehub(
    home: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = keep_in_kagglehub(home, f"{PATH}/3")
    shutil.move(home / ".cache" / "kagglehub", tmp_path / "moved")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "moved"))
    assert not directory.exists()
    assert locate.locate(f"{PATH}/3").path == tmp_path / "moved" / "models" / PATH / "3"


def test_newest_of_what_kagglehub_has_completely(home: Path, own_cache: Path) -> None:
    for version in (2, 10, 9):
        keep_in_kagglehub(home, f"{PATH}/{version}")
    keep_in_kagglehub(home, f"{PATH}/11", complete=False)
    (keep_in_kagglehub(home, f"{PATH}/12") / "saved_model.pb").unlink()
    keep_in_kagglehub(home, f"{PATH}x/13")
    assert locate.locate(PATH).handle == f"{PAGES}/{PATH}/10"
    for version in (11, 12):
        with pytest.raises(UnreachableError, match="offline"):
            locate.locate(f"{PATH}/{version}")


def test_tf1_module_is_built_from_what_kagglehub_has(
    home: Path, own_cache: Path, bundled: Path
) -> None:
    directory = home / ".cache" / "kagglehub" / "models" / PATH / "2"
    exports.export_wrapped(directory, bundled)
    assert locate.locate().handle == "bundled"
    directory.with_name("2.complete").touch()
    # Offline: it is on this machine already.
    assert locate.locate().path == own_cache / SLOT
    assert files.compute_fingerprint(own_cache / SLOT) == files.compute_fingerprint(bundled)
    assert locate.locate("hub").path == own_cache / SLOT


# --- the login ---------------------------------------------------------------------------


def fetch_by_redirects(world: TlsHub, packed: bytes) -> dict[str, str | None]:
    """Fetch a model that Kaggle redirects to its storage; return the login of each request."""
    world.answers[DOWNLOAD] = hubs.redirects(STORAGE)
    world.answers[STORAGE] = hubs.sends(packed)
    locate.locate(f"{PATH}/2")
    return {url: headers.get("Authorization") for url, headers in world.headers.items()}


def test_token_is_sent_to_kaggle_alone(
    world: TlsHub, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
    monkeypatch.setenv("MNV1_MIRRORS", "https://mirror.example/models")
    mirrored = f"https://mirror.example/models/{PATH}/2.tar.gz"
    assert fetch_by_redirects(world, packed) == {
        mirrored: None,
        DOWNLOAD: "Bearer KGAT_secret",
        STORAGE: None,
    }


def test_mirror_that_redirects_to_kaggle_and_on_gets_no_login(
    world: TlsHub, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
    handle = "https://mirror.example/m/1"
    pages = ["https://www.kaggle.com/me", "https://mirror.example/api/v1/models/x"]
    world.answers = {
        handle: hubs.redirects(pages[0]),
        pages[0]: hubs.redirects(pages[1]),
        pages[1]: hubs.sends(packed),
    }
    locate.locate(handle)
    assert len(world.headers) == 3
    assert {headers.get("Authorization") for headers in world.headers.values()} == {None}


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("settings", "login"),
    [
        ({}, basic("mia:from-file")),
        ({"KAGGLE_USERNAME": "tom", "KAGGLE_KEY": "k"}, basic("tom:k")),
        ({"KAGGLE_USERNAME": "tom"}, basic("mia:from-file")),
        ({"KAGGLE_API_TOKEN": " t \n", "KAGGLE_USERNAME": "tom", "KAGGLE_KEY": "k"}, "Bearer t"),
        ({"KAGGLE_API_TOKEN": "HOME/token"}, "Bearer in-a-file"),
        ({"KAGGLE_CONFIG_DIR": "HOME/config"}, basic("eve:of-config")),
        ({"KAGGLE_CONFIG_DIR": "HOME/none"}, None),
    ],
)
def test_login_is_where_kagglehub_looks_for_it(
    world: TlsHub,
    home: Path,
    packed: bytes,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    login: str | None,
) -> None:
    for folder, name, key in ((".kaggle", "mia", "from-file"), ("config", "eve", "of-config")):
        (home / folder).mkdir()
        (home / folder / "kaggle.json").write_text(json.dumps({"username": name, "key": key}))
    (home / "token").write_text("in-a-file\n")
    for name, value in settings.items():
        monkeypatch.setenv(name, value.replace("HOME", str(home)))
    assert fetch_by_redirects(world, packed)[DOWNLOAD] == login


def test_token_of_a_login_by_browser_is_used(world: TlsHub, home: Path, packed: bytes) -> None:
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "access_token").write_text("of-the-browser\n")
    assert fetch_by_redirects(world, packed)[DOWNLOAD] == "Bearer of-the-browser"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"username": "x"}', "\udcff"])
def test_damaged_login_is_ignored_by_name(
    world: TlsHub,
    home: Path,
    packed: bytes,
    caplog: pytest.LogCaptureFixture,
    content: str,
) -> None:
    (home / ".kaggle").mkdir()
    file = home / ".kaggle" / "kaggle.json"
    file.write_text(content, errors="surrogateescape")
    assert fetch_by_redirects(world, packed)[DOWNLOAD] is None
    if content.isascii() and content:
        assert f"{file} is ignored: it does not hold a username and a key" in caplog.messages


def test_token_that_cannot_be_sent_is_one_line(
    world: TlsHub, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "a\r\nHost: evil")
    with pytest.raises(ModuleError, match="is not one line of plain characters"):
        fetch_by_redirects(world, packed)
    assert DOWNLOAD not in world.headers


@pytest.mark.parametrize(
    "url",
    [
        DOWNLOAD.replace("https:", "http:"),
        DOWNLOAD.replace("www.kaggle.com", "www.kaggle.com.evil.example"),
        DOWNLOAD.replace("www.kaggle.com", "www.kaggle.com@evil.example"),
        DOWNLOAD.replace("www.kaggle.com", "evil.example\\@www.kaggle.com"),
        DOWNLOAD.replace("www.kaggle.com", "www.kaggle.com\\@evil.example"),
        DOWNLOAD.replace("www.kaggle.com", "www.kaggle.com:8443"),
        "https://www.kaggle.com/models/x",
        "https://storage.googleapis.com/api/v1/models/x",
    ],
)
def test_no_login_for_other_urls(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    assert kaggle_login.authorize(DOWNLOAD) == "Bearer secret"
    assert kaggle_login.authorize(url) == ""


@pytest.mark.parametrize(
    ("status", "token", "reason"),
    [
        (401, "", "Kaggle asks for a login (HTTP 401): set KAGGLE_API_TOKEN to a token from "),
        (403, "", "Kaggle asks for a login (HTTP 403): set KAGGLE_API_TOKEN to a token from "),
        (401, "old", "Kaggle does not accept the login (HTTP 401): renew it in "),
        (403, "old", "Kaggle does not give this login the model (HTTP 403): accept the model's"),
        (404, "", "Kaggle has no such model (HTTP 404), or it is private"),
        (500, "", "HTTP 500"),
    ],
)
def test_refusal_says_what_to_do(
    world: TlsHub, monkeypatch: pytest.MonkeyPatch, status: int, token: str, reason: str
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    world.answers[DOWNLOAD] = hubs.fails(status)
    result = mnv1("module", "fetch", f"{PATH}/2")
    assert result.exit_code == 1
    assert f"({DOWNLOAD}: {reason}" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "old" not in result.stderr


def test_refusal_by_the_storage_is_not_kaggles(world: TlsHub) -> None:
    world.answers[DOWNLOAD] = hubs.redirects(STORAGE)
    world.answers[STORAGE] = hubs.fails(403)
    with pytest.raises(UnreachableError, match="HTTP 403") as caught:
        locate.locate(f"{PATH}/2")
    assert "login" not in str(caught.value)


def test_library_itself_finds_the_module_where_we_do(
    home: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kagglehub = pytest.importorskip("kagglehub")
    directory = keep_in_kagglehub(home, f"{PATH}/2")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(home / ".cache" / "kagglehub"))
    assert kagglehub.model_download(f"{PATH}/2") == str(directory)
    assert locate.locate(f"{PATH}/2").path == directory
