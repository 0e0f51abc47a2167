"""Every source of a module, against a server on 127.0.0.1 that plays all of them."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli.errors import ChecksumError, ModuleError, UnreachableError
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules import (
    build,
    cache,
    catalog,
    connections,
    download,
    files,
    inspection,
    locate,
    weights,
)
from mnv1cli.types import FetchOptions
from tests.conftest import ROOT
from tests.support import hub as hubs
from tests.support.hub import HANDLE_PATH, Hub
from tests.support.shell import command, mnv1, program, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PHOTO = ROOT / "examples" / "photos" / "chelsea.png"
QUERY = f"{HANDLE_PATH}?tf-hub-format=compressed"
SLOT = "5503b6afe269a54d2c6b31e191da98c2a85ddf04"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are allowed, but those to public addresses end at a closed local port."""
    monkeypatch.setenv("MNV1_OFFLINE", "0")
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hubs.serving() as server:
        monkeypatch.setenv("MNV1_MIRRORS", server.url)
        yield server


@pytest.fixture(scope="module")
def bundled() -> Path:
    return locate.locate("bundled").path


@pytest.fixture(scope="module")
def packed(bundled: Path) -> bytes:
    return hubs.packed(bundled)


@pytest.fixture(scope="module")
def checkpoint(bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled weights as TF-Slim keeps a checkpoint: with what is not the network's."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("checkpoint")
    variables = weights.read_checkpoint(bundled / "variables")
    names = list(variables)
    extra = {
        "global_step": np.array(5, np.int64),
        f"{names[0]}/RMSProp": np.ones(3, np.float32),
        f"{names[0]}/ExponentialMovingAverage": np.ones(3, np.float32),
    }
    everything = {**variables, **extra}
    tf.raw_ops.SaveV2(
        prefix=str(folder / "mobilenet_v1_1.0_128.ckpt"),
        tensor_names=list(everything),
        shape_and_slices=[""] * len(everything),
        tensors=[tf.constant(value) for value in everything.values()],
    )
    (folder / "mobilenet_v1_1.0_128.ckpt.meta").write_bytes(b"graph")
    return folder


def logits(path: Path) -> np.ndarray:
    found = inspection.read_module(locate.LocatedModule("x", path))
    model = TensorFlowModel(found, [found.logits()])
    return model(np.random.default_rng(0).random((2, 128, 128, 3), dtype=np.float32))["logits"]


def nothing_half_done(cache: Path) -> bool:
    return not list(cache.glob("*-tmp*")) and not (cache / SLOT).exists()


# --- the hub's protocol ----------------------------------------------------------


def test_first_run_downloads_and_the_second_asks_nobody(
    hub: Hub, own_cache: Path, packed: bytes, bundled: Path
) -> None:
    hub.answers = {"/moved/here.tgz": hubs.sends(packed), QUERY: hubs.redirects("/moved/here.tgz")}
    assert locate.locate("hub").path == own_cache / SLOT
    assert hub.asked == [QUERY, "/moved/here.tgz"]
    assert files.compute_fingerprint(own_cache / SLOT) == files.compute_fingerprint(bundled)
    hub.asked.clear()
    assert locate.locate().path == own_cache / SLOT
    assert hub.asked == []
    assert not list(own_cache.glob("*-tmp*"))


def test_module_laid_by_hand_needs_no_download(hub: Hub, own_cache: Path, bundled: Path) -> None:
    shutil.copytree(bundled, own_cache / SLOT)
    before = sorted(os.listdir(own_cache))
    assert locate.locate("hub").path == own_cache / SLOT
    assert hub.asked == []
    assert sorted(os.listdir(own_cache)) == before


def test_other_query_arguments_are_kept(hub: Hub, own_cache: Path, packed: bytes) -> None:
    handle = f"{hub.url}/team/model/1?key=a%20b"
    hub.answers["/team/model/1?key=a%20b&tf-hub-format=compressed"] = hubs.sends(packed)
    assert locate.locate(handle).path == cache.cache_directory(handle)


def test_a_bar_shows_on_a_stream(
    hub: Hub, own_cache: Path, packed: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    locate.locate("hub", FetchOptions(bar=sys.stderr))
    assert "B/s" in capsys.readouterr().err


# --- every source gives the same -------------------------------------------------


def test_every_source_gives_the_same_logits(
    hub: Hub, own_cache: Path, packed: bytes, checkpoint: Path, tmp_path: Path
) -> None:
    """The mirror stands in for the hub, the bucket and the checkpoint host in turn."""
    archive = hubs.packed(checkpoint)
    every = {
        QUERY: hubs.sends(packed),
        f"{HANDLE_PATH}.tar.gz": hubs.sends(packed),
        "/mobilenet_v1_1.0_128.tgz": hubs.sends(archive),
    }
    results = []
    while every:
        hub.answers = dict(every)
        path = locate.locate("hub").path
        results.append(logits(path))
        if len(every) == 1:
            built = tmp_path / "built"
            assert build.build_module(
                checkpoint, None, None, None, built
            ) == files.compute_fingerprint(path)
        cache.remove(path)
        del every[next(iter(every))]
    assert len(results) == 3
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-4)


def test_checkpoint_of_a_feature_module_leaves_the_head_out(
    hub: Hub, own_cache: Path, checkpoint: Path
) -> None:
    hub.answers["/mobilenet_v1_1.0_128.tgz"] = hubs.sends(hubs.packed(checkpoint))
    handle = f"{catalog.HUB}mobilenet_v1_100_128/feature_vector/1"
    found = inspection.open_module(handle)
    assert (found.classes(), found.feature_length()) == (None, 1024)


# --- what goes wrong -------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (hubs.fails(404), "HTTP 404"),
        (hubs.fails(403), "HTTP 403"),
        (hubs.fails(500), "HTTP 500"),
        (hubs.sends(b"<html>sign in</html>", Content_Type="text/html"), "no archive but text/html"),
        (hubs.sends(hubs.text_archive()), "not an intact .tar.gz"),
        (hubs.redirects(HANDLE_PATH), "redirects"),
    ],
    ids=["404", "403", "500", "HTML", "no tar", "redirect loop"],
)
def test_source_that_fails_is_named_with_the_reason_and_the_next_run_succeeds(
    hub: Hub, own_cache: Path, packed: bytes, answer: hubs.Answer, says: str
) -> None:
    hub.answers[HANDLE_PATH] = answer
    with pytest.raises(UnreachableError) as caught:
        locate.locate("hub")
    (failure,) = [told for told in caught.value.failures if told.startswith(hub.url + QUERY)]
    assert says in failure
    assert "\n" not in str(caught.value)
    assert nothing_half_done(own_cache)
    hub.answers[HANDLE_PATH] = hubs.sends(packed)
    assert locate.locate("hub").path == own_cache / SLOT


def test_server_that_recovers_is_asked_again(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.fails(503, times=2, then=hubs.sends(packed))
    assert locate.locate("hub").path == own_cache / SLOT
    assert hub.asked == [QUERY] * 3


def test_archive_that_is_called_an_encoding_is_taken_as_it_is(
    hub: Hub, own_cache: Path, packed: bytes
) -> None:
    hub.answers[QUERY] = hubs.sends(packed, Content_Encoding="gzip")
    assert locate.locate("hub").path == own_cache / SLOT


def test_broken_transfer_goes_on_where_it_stopped(
    hub: Hub, own_cache: Path, packed: bytes, bundled: Path
) -> None:
    hub.answers[QUERY] = hubs.breaks_off(packed, at=1_000_000, times=1, ETag='"v1"')
    assert files.compute_fingerprint(locate.locate("hub").path) == files.compute_fingerprint(
        bundled
    )
    assert hub.asked == [QUERY] * 2


def test_broken_transfer_without_a_version_begins_anew(
    hub: Hub, own_cache: Path, packed: bytes, bundled: Path
) -> None:
    hub.answers[QUERY] = hubs.breaks_off(packed, at=1_000_000, times=1)
    assert files.compute_fingerprint(locate.locate("hub").path) == files.compute_fingerprint(
        bundled
    )


def test_transfer_that_always_breaks_off_is_a_failure(
    hub: Hub, own_cache: Path, packed: bytes
) -> None:
    hub.answers[QUERY] = hubs.breaks_off(packed, at=1000, times=99, ETag='"v1"')
    with pytest.raises(UnreachableError, match="broke off"):
        locate.locate("hub")
    assert nothing_half_done(own_cache)


def test_archive_that_was_cut_off_is_a_failure(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed[: len(packed) // 2])
    with pytest.raises(UnreachableError, match=r"not an intact \.tar\.gz"):
        locate.locate("hub")
    assert nothing_half_done(own_cache)


def test_server_that_stalls_is_given_up(
    hub: Hub, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_RESUMES", 0)
    hub.answers[QUERY] = hubs.stalls(3)
    policy = connections.DownloadPolicy(read=0.2, retries=0)
    own_cache.mkdir()
    with pytest.raises(ModuleError, match="stopped answering"):
        download.download(f"{hub.url}{QUERY}", own_cache / "x", policy)


def silent(request: hubs.Request) -> None:
    """An archive is announced, and never comes."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    time.sleep(20)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (hubs.stalls(20), "no answer in time"),
        (silent, "broke off once, at 0 bytes of 1,000: it stopped answering"),
        (hubs.trickles(b"\x1f\x8b" + bytes(1000)), "broke off once, at 0 bytes of 1,002: it sends"),
        (hubs.fails(503), "HTTP 503"),
        (lambda request: request.send(429, b"", Retry_After="1"), "asks to wait 1 s"),
        (hubs.redirects(HANDLE_PATH), "circle"),
    ],
    ids=["stall", "silence", "trickle", "503", "Retry-After", "redirects"],
)
def test_default_waits_no_longer_than_it_may_whatever_the_servers_do(
    hub: Hub,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: hubs.Answer,
    says: str,
) -> None:
    monkeypatch.setattr(locate, "_ALL_SECONDS", 0.9)
    monkeypatch.setattr(connections, "PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(
        locate, "_build_bundled", lambda _: locate.LocatedModule("bundled", own_cache)
    )
    hub.answers = dict.fromkeys((HANDLE_PATH, f"{HANDLE_PATH}.tar.gz"), answer)
    start = time.monotonic()
    assert locate.locate().handle == "bundled"
    # A transfer has two seconds to show that it flows.
    assert time.monotonic() - start < 0.9 + 2 + 1
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "mnv1cli.modules.locate"]
    assert f"{hub.url}{QUERY}: " in warning
    assert says in warning


def test_plain_http_names_the_option_that_takes_it(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.delenv("MNV1_MIRRORS")
    handle = "http://modules.example/m/1"
    hub.answers[handle] = hubs.sends(packed)
    refused = mnv1("module", "fetch", handle)
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"mnv1: error: no source serves {handle} ({handle}?tf-hub-format=compressed: plain http to "
        "modules.example, where the content can be changed on the way, and no checksum of it is "
        "known; --insecure accepts it); put it into the cache, set MNV1_MIRRORS to a mirror, name "
        "its directory or its .tar.gz, or use --module bundled\n"
    )
    assert hub.asked == []
    assert mnv1("module", "fetch", handle, "--insecure").exit_code == 0
    assert locate.locate(handle).path == cache.cache_directory(handle)


def test_default_is_asked_for_again_with_insecure(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it could not be had was true of another question."""
    monkeypatch.setenv("MNV1_MIRRORS", "http://mirror.example")
    monkeypatch.setenv("http_proxy", hub.url)
    hub.answers[f"http://mirror.example{QUERY}"] = hubs.sends(packed)
    assert locate.locate().handle == "bundled"
    assert hub.asked == []
    assert locate.locate(None, FetchOptions(insecure=True)).path == own_cache / SLOT


def test_wrong_checksum_is_an_error_and_never_falls_through(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only(handle: str, mirrors: list[str]) -> list[catalog.ModuleSource]:
        return [
            catalog.ModuleSource(f"{hub.url}/a.tgz", sha256="0" * 64),
            catalog.ModuleSource(f"{hub.url}/b.tgz"),
        ]

    monkeypatch.setattr(catalog, "list_sources", only)
    hub.answers = {"/a.tgz": hubs.sends(packed), "/b.tgz": hubs.sends(packed)}
    for name in ("hub", None):
        with pytest.raises(ChecksumError, match=r"a\.tgz has the sha256"):
            locate.locate(name)
    assert "/b.tgz" not in hub.asked
    assert nothing_half_done(own_cache)


def test_full_disk_is_one_line_and_leaves_nothing(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    words = command("module", "fetch")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    run = subprocess.run(words, capture_output=True, preexec_fn=limit, check=False)
    assert run.returncode == 1
    assert run.stderr.count(b"\n") == 1
    assert b"Traceback" not in run.stderr
    assert nothing_half_done(own_cache)
    assert program("module", "fetch").returncode == 0


# --- the default, and what is remembered -----------------------------------------


def test_default_ends_on_the_bundled_module_with_one_warning_and_remembers(
    hub: Hub, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert locate.locate().handle == "bundled"
    (warning,) = [r.getMessage() for r in caplog.records if r.name.startswith("mnv1cli")]
    for source in catalog.list_sources(catalog.DEFAULT_HANDLE, [hub.url]):
        assert source.url in warning
    assert "HTTP 404" in warning
    assert "224" in warning
    hub.asked.clear()
    assert locate.locate().handle == "bundled"
    assert hub.asked == []


def test_fetch_asks_again_after_a_failure(hub: Hub, own_cache: Path, packed: bytes) -> None:
    assert locate.locate().handle == "bundled"
    hub.answers[QUERY] = hubs.sends(packed)
    assert locate.locate().handle == "bundled"
    result = mnv1("module", "fetch", "--json")
    facts = json.loads(result.stdout)
    assert facts["path"] == str(own_cache / SLOT)
    assert facts["cached"] is False
    assert locate.locate().path == own_cache / SLOT
    assert json.loads(mnv1("module", "fetch", "--json").stdout)["cached"] is True


def test_other_mirrors_are_asked_in_spite_of_an_earlier_failure(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locate.locate().handle == "bundled"
    hub.answers[f"/other{QUERY}"] = hubs.sends(packed)
    monkeypatch.setenv("MNV1_MIRRORS", f"{hub.url}/other/")
    assert locate.locate().path == own_cache / SLOT


def test_offline_asks_nobody(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    assert locate.locate(None, FetchOptions(offline=True)).handle == "bundled"
    with pytest.raises(UnreachableError, match="offline"):
        locate.locate("hub", FetchOptions(offline=True))
    monkeypatch.setenv("MNV1_OFFLINE", "1")
    with pytest.raises(UnreachableError, match="offline"):
        locate.locate("hub")
    assert hub.asked == []


def test_named_module_is_never_replaced(hub: Hub, own_cache: Path) -> None:
    for name in ("hub", "mobilenet_v1_050_160", f"{hub.url}/some/model/1"):
        result = mnv1("classify", PHOTO, "--module", name)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "MNV1_MIRRORS" in result.stderr
        assert result.stderr.count("\n") == 1


def test_classify_without_a_network_gives_labels_and_asks_once(own_cache: Path) -> None:
    first = program("classify", PHOTO, "--top", 1)
    assert rows(first.stdout)[0]["label"] == "Egyptian cat"
    assert first.stderr.count(b"warning:") == 1
    second = program("classify", PHOTO, "--top", 1)
    assert b"within the last day" in second.stderr
    assert second.stdout == first.stdout


# --- many processes --------------------------------------------------------------


def test_twenty_processes_download_once(
    hub: Hub, own_cache: Path, packed: bytes, bundled: Path
) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    code = (
        "from mnv1cli.modules import files, locate\n"
        "print(files.compute_fingerprint(locate.locate('hub').path))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(20)
    ]
    prints = {run.communicate(timeout=60)[0].decode().strip() for run in runs}
    assert prints == {files.compute_fingerprint(bundled)}
    assert hub.asked == [QUERY]


def test_others_finish_when_the_holder_of_the_lock_is_killed(
    hub: Hub, own_cache: Path, packed: bytes
) -> None:
    """The first one is killed in the middle of its download."""

    def slow(request: hubs.Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(packed)))
        request.end_headers()
        request.wfile.write(packed[:1000])
        request.wfile.flush()
        time.sleep(30)

    hub.answers[QUERY] = slow
    code = "from mnv1cli.modules import locate; print(locate.locate('hub').path)"
    holder = subprocess.Popen([sys.executable, "-c", code])
    while not list(own_cache.glob("*-tmp/.download")):
        time.sleep(0.05)
    hub.answers[QUERY] = hubs.sends(packed)
    others = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)
    ]
    time.sleep(1)
    holder.kill()
    holder.wait()
    places = {run.communicate(timeout=60)[0].decode().strip() for run in others}
    assert places == {str(own_cache / SLOT)}
    assert not list(own_cache.glob("*-tmp"))


def test_file_system_without_locks_is_no_obstacle(
    hub: Hub, own_cache: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    def refuse(self: filelock.FileLock) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    hub.answers[QUERY] = hubs.sends(packed)
    assert locate.locate("hub").path == own_cache / SLOT


# --- module verify, remove -------------------------------------------------------


def test_verify_names_what_is_wrong(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    place = locate.locate("hub").path
    assert mnv1("module", "verify").exit_code == 0
    index = place / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[:-1] + b"x")
    (place / "assets").mkdir(exist_ok=True)
    (place / "assets" / "new.txt").write_text("new")
    (place / "tfhub_module.pb").unlink()
    result = mnv1("module", "verify", "hub", "--json")
    assert result.exit_code == 1
    (entry,) = json.loads(result.stdout)
    assert entry["ok"] is False
    assert [problem.split(" ")[0] for problem in entry["problems"]] == [
        "tfhub_module.pb", "assets/new.txt", "variables/variables.index",
    ]  # fmt: skip


def test_verify_says_so_where_no_checksums_were_noted(own_cache: Path, bundled: Path) -> None:
    shutil.copytree(bundled, own_cache / SLOT)
    (own_cache / SLOT / ".mnv1-sha256").unlink()
    result = mnv1("module", "verify", "hub")
    assert result.exit_code == 0
    assert "no checksums" in result.stdout


def test_remove_takes_all_of_a_module(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    locate.locate("hub")
    locate.locate("bundled")
    assert len(json.loads(mnv1("module", "list", "--json").stdout)) == 2
    mnv1("module", "remove", "hub")
    assert [m.handle.split(":")[0] for m in locate.list_cached()] == ["bundled"]
    assert mnv1("module", "remove", "hub").exit_code == 1
    removed = json.loads(mnv1("module", "remove", "--all", "--json").stdout)
    assert len(removed) == 1
    assert os.listdir(own_cache) == []
    assert mnv1("module", "remove").exit_code == 2
    assert mnv1("module", "remove", "--all", "hub").exit_code == 2


def test_cache_is_read_by_handle_of_kaggle_in_either_spelling() -> None:
    short = "https://www.kaggle.com/models/google/mobilenet-v1/tensorFlow2/100-128-classification/2"
    long = (
        "https://www.kaggle.com/models/google/mobilenet-v1/frameworks/tensorFlow2/"
        "variations/100-128-classification/versions/2"
    )
    assert locate.resolve_handle(short) == locate.resolve_handle(long) == short
    urls = [source.url for source in catalog.list_sources(short, [])]
    assert urls == [
        "https://www.kaggle.com/api/v1/models/google/mobilenet-v1/tensorFlow2/"
        "100-128-classification/2/download"
    ]


def test_default_sources_are_those_of_the_contract() -> None:
    urls = [source.url for source in catalog.list_sources(catalog.DEFAULT_HANDLE, ["http://m/b"])]
    path = "google/imagenet/mobilenet_v1_100_128/classification/1"
    storage = "https://storage.googleapis.com"
    assert urls == [
        f"http://m/b/{path}?tf-hub-format=compressed",
        f"http://m/b/{path}.tar.gz",
        "http://m/b/mobilenet_v1_1.0_128.tgz",
        f"https://tfhub.dev/{path}?tf-hub-format=compressed",
        f"{storage}/tfhub-modules/{path}.tar.gz",
        f"{storage}/download.tensorflow.org/models/mobilenet_v1_2018_02_22/mobilenet_v1_1.0_128.tgz",
        "https://www.kaggle.com/api/v1/models/google/mobilenet-v1/tensorFlow2/"
        "100-128-classification/2/download",
    ]


def test_archive_with_a_module_below_one_folder_is_taken(
    hub: Hub, own_cache: Path, bundled: Path
) -> None:
    hub.answers[QUERY] = hubs.sends(hubs.packed(bundled, "mobilenet/"))
    assert locate.locate("hub").path == own_cache / SLOT


def test_build_makes_an_archive_that_the_hub_could_serve(
    bundled: Path, tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / "m.tar.gz"
    built = build.build_module(checkpoint, None, None, None, out, as_tar=True)
    assert built == files.compute_fingerprint(bundled)
    with tarfile.open(out) as tar:
        assert all(name.startswith("./") for name in tar.getnames())
    assert inspection.open_module(str(out)).fingerprint == built
    again = tmp_path / "again.tar.gz"
    build.build_module(checkpoint, None, None, None, again, as_tar=True)
    assert again.read_bytes() == out.read_bytes()


def damage(place: Path) -> None:
    data = place / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])


def test_fetch_mends_a_damaged_module(hub: Hub, own_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    place = locate.locate("hub").path
    damage(place)
    refused = mnv1("module", "fetch", "--offline")
    assert refused.exit_code == 1
    assert "damaged" in refused.stderr
    assert place.is_dir()
    assert json.loads(mnv1("module", "fetch", "--json").stdout)["cached"] is False
    assert files.find_problems(place) == []


def test_fetch_rebuilds_a_damaged_bundled_module_without_a_network(own_cache: Path) -> None:
    place = locate.locate("bundled").path
    damage(place)
    assert mnv1("module", "fetch", "bundled", "--offline").exit_code == 0
    assert files.find_problems(place) == []
    assert json.loads(mnv1("module", "fetch", "bundled", "--json").stdout)["cached"] is True


def test_verify_does_not_pass_without_its_checksums(own_cache: Path) -> None:
    place = locate.locate("bundled").path
    (place / ".mnv1-sha256").write_text("zzz\n")
    result = mnv1("module", "verify")
    assert result.exit_code == 1
    assert "checksums is damaged" in result.stdout


def test_list_shows_incomplete_modules(own_cache: Path) -> None:
    place = locate.locate("bundled").path
    (place / "saved_model.pb").unlink()
    (entry,) = json.loads(mnv1("module", "list", "--json").stdout)
    assert (entry["path"], entry["complete"]) == (str(place), False)
    assert "incomplete" in mnv1("module", "list").stdout


def test_remove_all_takes_what_dead_processes_left(own_cache: Path) -> None:
    locate.locate("bundled")
    left = own_cache / f"{SLOT}-{'0' * 32}-tmp"
    left.mkdir()
    (own_cache / f"{SLOT}.mnv1-lock").touch()
    assert mnv1("module", "remove", "--all").exit_code == 0
    assert os.listdir(own_cache) == []


def test_two_modules_at_once_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mnv1("module", "path", "bundled", "--module", "hub").exit_code == 2
    monkeypatch.setenv("MNV1_MODULE", "nowhere")
    assert mnv1("module", "path", "bundled").exit_code == 0
