"""Images in stores and on servers as inputs: the same as on disk, but for their names."""

from __future__ import annotations

import json
import os
import pickle
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mnv1cli import Classifier
from mnv1cli.errors import MissingInputError
from mnv1cli.images import loader
from mnv1cli.inputs.listing import InputOptions, Listing
from mnv1cli.storage.stores import RemoteImage
from mnv1cli.types import ImageRef, PixelSpec
from tests.conftest import ROOT
from tests.support import webserver
from tests.support.objectstore import ObjectStore, object_store
from tests.support.reading import FEEDERS
from tests.support.shell import mnv1, rows
from tests.support.webserver import Answer, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["object_store"]

PHOTOS = ROOT / "examples" / "photos"
CHELSEA, COFFEE, ROCKET = (
    (PHOTOS / name).read_bytes() for name in ("chelsea.png", "coffee.jpg", "rocket.jpg")
)
FILES = {
    "photos/a.png": CHELSEA,
    "photos/b.jpg": COFFEE,
    "photos/broken.jpg": COFFEE[:3000],
    "photos/empty.jpg": b"",
    "photos/no image.jpg": b"not an image",
    "photos/notes.txt": b"notes",
    "photos/.hidden/a.jpg": ROCKET,
    "photos/.hidden.jpg": ROCKET,
    "photos/sub/100 %25 + #1?é.jpg": ROCKET,
    "photos/sub/deeper/B.JPG": ROCKET,
    "photos2/other.jpg": ROCKET,
    "strange/[a].jpg": CHELSEA,
    "strange/a.jpg": COFFEE,
    "markers/": b"",
    "texts/only.txt": b"text",
}
PLAIN = ("--module", "bundled", "--top", 2, "-f", "csv")


@pytest.fixture(scope="module")
def bucket(object_store: ObjectStore) -> ObjectStore:
    object_store.bucket("photos-bucket")
    object_store.put("photos-bucket", FILES)
    return object_store


@pytest.fixture
def web() -> Iterator[WebServer]:
    with webserver.serving() as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        if not name.endswith("/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
    return tmp_path


def content(ref: ImageRef) -> bytes:
    assert ref.member is not None
    return ref.member(1 << 20)


def listed(*names: str, recursive: bool = True) -> list[str]:
    options = InputOptions(recursive=recursive)
    return [os.fsdecode(ref.path) for ref in Listing([os.fsencode(n) for n in names], (), options)]


@pytest.mark.parametrize("extra", [(), ("--on-error", "row", "--wide"), ("--no-recursive",)])
def test_rows_and_faults_are_those_of_the_same_files_on_disk(
    bucket: ObjectStore, disk: Path, extra: tuple[str, ...]
) -> None:
    there = mnv1("classify", "s3://photos-bucket/photos", *PLAIN, *extra)
    here = mnv1("classify", disk / "photos", *PLAIN, *extra)
    assert there.exit_code == here.exit_code == 3
    assert there.stdout.replace("s3://photos-bucket/", f"{disk}/") == here.stdout
    faults = [line for line in there.stderr.splitlines() if ".jpg: " in line]
    assert len(faults) == 3
    for line in faults:
        assert line.replace("s3://photos-bucket/", f"{disk}/") in here.stderr
    assert "1 skipped by suffix (.txt 1)" in there.stderr


def test_every_feeder_gives_the_same_bits_as_from_disk(bucket: ObjectStore, disk: Path) -> None:
    spec = PixelSpec(128)
    there = list(Listing([b"s3://photos-bucket/photos"]))
    here = list(Listing([os.fsencode(disk / "photos")]))
    expected = list(loader.load_batches(here, spec, 16, 2))
    for feed in FEEDERS.values():
        found = list(feed(there, spec, 16, 2))
        assert [r for b in found for r in b.reasons] == [r for b in expected for r in b.reasons]
        one, other = (np.concatenate([b.pixels for b in some]) for some in (found, expected))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("photos2", ["photos2/other.jpg"]),
        ("photos2/", ["photos2/other.jpg"]),
        ("photos/sub", ["photos/sub/100 %25 + #1?é.jpg", "photos/sub/deeper/B.JPG"]),
        ("photos/sub/100 %25 + #1?é.jpg", ["photos/sub/100 %25 + #1?é.jpg"]),
        # What is named outright is tried, whatever its suffix.
        ("photos/notes.txt", ["photos/notes.txt"]),
        ("photos/.hidden", ["photos/.hidden/a.jpg"]),
        # A name that exists is no glob.
        ("strange/[a].jpg", ["strange/[a].jpg"]),
        ("strange/[ab].jpg", ["strange/a.jpg"]),
        ("photos/*.??g", ["photos/a.png", "photos/b.jpg", "photos/broken.jpg", "photos/empty.jpg",
                          "photos/no image.jpg"]),
        ("photos?", ["photos2/other.jpg"]),
        ("*/sub", ["photos/sub/100 %25 + #1?é.jpg", "photos/sub/deeper/B.JPG"]),
        ("photos/**/*.JPG", ["photos/sub/deeper/B.JPG"]),
        ("**/a.jpg", ["strange/a.jpg"]),
        ("photos/**/deeper/*", ["photos/sub/deeper/B.JPG"]),
        ("photos/.hid*/*", ["photos/.hidden/a.jpg"]),
    ],
)  # fmt: skip
def test_what_a_uri_names(bucket: ObjectStore, name: str, keys: list[str]) -> None:
    found = listed(f"s3://photos-bucket/{name}")
    assert [path.removeprefix("s3://photos-bucket/") for path in found] == keys


def test_keys_are_taken_as_they_are(object_store: ObjectStore) -> None:
    keys = ["a?versionId=3.jpg", "%2e%2e/a.jpg", "a&b=c;d.jpg", "\N{GRINNING FACE}.jpg",
            "e\u0301.jpg", " / .jpg", "<&amp;>.jpg", "back\\slash.jpg", "+.jpg", "'\"`.jpg",
            "]a[.jpg", "a*.jpg", "...jpg", "~.jpg", "{x}|^.jpg"]  # fmt: skip
    object_store.bucket("strange-keys")
    object_store.put("strange-keys", {key: key.encode() for key in keys})
    found = {ref.path: ref for ref in Listing([b"s3://strange-keys"])}
    keys.remove("...jpg")
    for key in keys:
        path = b"s3://strange-keys/" + key.encode()
        assert content(found[path]) == key.encode()
        assert [ref.path for ref in Listing([path])] == [path]
    assert len(found) == len(keys)


@pytest.mark.parametrize("key", ["p/b//c.jpg", "p/b/../c.jpg", "p/tab\t.jpg"])
def test_key_that_ends_its_listing_is_a_fault_by_name(object_store: ObjectStore, key: str) -> None:
    bucket = f"ends-{sum(key.encode())}"
    object_store.put(object_store.bucket(bucket), {"p/z.jpg": COFFEE, key: COFFEE})
    shown = key.replace("\t", "\\t")
    for uri in (f"s3://{bucket}/p", f"s3://{bucket}/p/*.jpg"):
        result = mnv1("classify", uri, str(PHOTOS / "coffee.jpg"), *PLAIN)
        assert result.exit_code == 3
        assert f"{uri}: cannot be listed to its end: the key {shown} has" in result.stderr
    named = mnv1("classify", f"s3://{bucket}/{key}", *PLAIN)
    assert (named.exit_code, named.stderr.count("\n")) == (2, 1)
    assert f"the key {shown} has" in named.stderr


def test_no_recursion_goes_for_globs_too(bucket: ObjectStore) -> None:
    assert len(listed("s3://photos-bucket/*/sub", recursive=False)) == 1
    assert len(listed("s3://photos-bucket", recursive=False)) == 0


def test_inputs_keep_their_order_and_stores_their_own(object_store: ObjectStore) -> None:
    object_store.bucket("order")
    names = ["a.jpg", "a/b.jpg", "a0.jpg", "Z.jpg", "é.jpg", "z.jpg"]
    object_store.put("order", dict.fromkeys(names, COFFEE))
    local = str(PHOTOS / "coffee.jpg")
    found = listed("s3://order/z.jpg", local, "s3://order")
    by_bytes = [f"s3://order/{name}" for name in sorted(names, key=os.fsencode)]
    assert found == ["s3://order/z.jpg", local, *by_bytes]


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("s3://photos-bucket/none", "no such object, and none below it"),
        ("s3://photos-bucket/photo", "no such object, and none below it"),
        ("s3://photos-bucket/none*", "nothing matches"),
        ("s3://no-such-bucket/photos", "no such bucket"),
        ("s3://no-such-bucket", "no such bucket"),
        ("s3://", "names no bucket"),
        ("http:///a.jpg", "names no host"),
        ("swift://a/b", "not a URI that can be read"),
    ],
)
def test_what_is_not_there_is_an_error_of_one_line(
    bucket: ObjectStore, uri: str, what: str
) -> None:
    result = mnv1("classify", str(PHOTOS), uri, *PLAIN)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert what in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def emptied(object_store: ObjectStore) -> str:
    object_store.bucket("nothing-at-all")
    object_store.put(object_store.bucket("emptied"), {"markers/": b"", "texts/only.txt": b"text"})
    return "emptied"


@pytest.mark.parametrize("name", ["markers", "texts", "markers/", ""])
def test_a_prefix_without_images_is_an_empty_folder(emptied: str, name: str) -> None:
    result = mnv1("classify", f"s3://emptied/{name}", *PLAIN)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no images in s3://emptied" in result.stderr


def test_a_bucket_without_keys_is_an_empty_folder(emptied: str) -> None:
    result = mnv1("classify", "s3://nothing-at-all", *PLAIN)
    assert (result.exit_code, result.stdout) == (1, "")


def test_lists_mix_paths_and_uris(bucket: ObjectStore, tmp_path: Path) -> None:
    names = ["s3://photos-bucket/photos/b.jpg", str(PHOTOS / "coffee.jpg"),
             "s3://photos-bucket/none.jpg", "s3://photos-bucket/photos",
             "s3://photos-bucket/photos/sub/100 %25 + #1?é.jpg"]  # fmt: skip
    list_file = tmp_path / "list.txt"
    list_file.write_text("\r\n".join(names) + "\r\n", "utf-8")
    result = mnv1("classify", "--files-from", list_file, *PLAIN, "--wide", "--on-error", "row")
    found = rows(result.stdout)
    assert [row["path"] for row in found] == names
    assert [row["error"] for row in found] == ["", "", "no such file", "no such file", ""]
    assert found[0]["label_1"] == found[1]["label_1"] == "espresso"
    from_stdin = mnv1("classify", "-", *PLAIN, "--wide", stdin=names[0].encode())
    assert rows(from_stdin.stdout)[0]["label_1"] == "espresso"


def test_an_object_that_goes_meanwhile_is_a_fault(object_store: ObjectStore) -> None:
    object_store.bucket("going")
    object_store.put("going", {"a.jpg": COFFEE, "b.jpg": ROCKET})
    refs = list(Listing([b"s3://going"]))
    object_store.client.delete_object(Bucket="going", Key="a.jpg")
    (batch,) = loader.load_batches(refs, PixelSpec(128), 16, 1)
    assert batch.reasons == ("no such file", "")


def test_facts_have_the_time_of_the_store(bucket: ObjectStore) -> None:
    result = mnv1("classify", "s3://photos-bucket/photos2", "s3://photos-bucket/photos/b.jpg",
                  *PLAIN, "--wide", "--with-meta")  # fmt: skip
    here = rows(mnv1("classify", PHOTOS, *PLAIN, "--wide", "--with-meta").stdout)
    sizes = {(row["label_1"], row["width"], row["height"]) for row in here}
    for row in rows(result.stdout):
        assert row["mtime"].startswith("20")
        assert (row["label_1"], row["width"], row["height"]) in sizes


def test_python_takes_uris_like_paths(bucket: ObjectStore) -> None:
    classifier = Classifier("bundled", threads=1)
    found = list(classifier.iter_classify("s3://photos-bucket/photos", on_error="row"))
    assert [f.path for f in found] == listed("s3://photos-bucket/photos")
    named = ["s3://photos-bucket/photos/b.jpg", str(PHOTOS / "coffee.jpg")]
    assert [f[0].label for f in classifier.iter_classify(named)] == ["espresso"] * 2
    with pytest.raises(MissingInputError, match="none below it"):
        classifier.classify("s3://photos-bucket/none")


def test_folders_below_a_uri_tell_what_images_show(object_store: ObjectStore) -> None:
    object_store.bucket("classes")
    object_store.put("classes", {"val/espresso/x/a.jpg": COFFEE, "val/Egyptian cat/b.png": CHELSEA})
    told = mnv1("evaluate", "s3://classes/val", "--module", "bundled", "--json")
    assert (json.loads(told.stdout)["n"], json.loads(told.stdout)["top1"]) == (2, 1.0)


@pytest.mark.parametrize(
    ("words", "offline", "pictures", "reason"),
    [
        ((), "", 0, "not opened; --remote shows URIs"),
        (("--remote",), "", 2, ""),
        (("--remote",), "1", 0, "not opened: mnv1 is offline"),
    ],
)
def test_a_report_opens_uris_only_where_it_is_told_to(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...], offline: str, pictures: int, reason: str,
) -> None:  # fmt: skip
    uris = ("s3://photos-bucket/photos/b.jpg", "s3://photos-bucket/photos/a.png")
    mnv1("classify", *uris, "--module", "bundled", "-o", tmp_path / "a.csv")
    monkeypatch.setenv("MNV1_OFFLINE", offline)
    shown = mnv1("report", tmp_path / "a.csv", "-o", tmp_path / "a.html", *words)
    assert shown.exit_code == 0
    page = (tmp_path / "a.html").read_text("utf-8")
    assert page.count("base64,") == pictures
    assert uris[0] in page
    assert reason in page


def test_what_reads_an_object_travels(bucket: ObjectStore) -> None:
    uri = "s3://photos-bucket/photos/sub/100 %25 + #1?é.jpg".encode()
    assert pickle.loads(pickle.dumps(RemoteImage(uri)))(1 << 20) == ROCKET
    assert pickle.loads(pickle.dumps(RemoteImage(uri, len(ROCKET))))(len(ROCKET)) == ROCKET


def test_listing_begins_before_all_keys_are_there(
    web: WebServer, object_store: ObjectStore
) -> None:
    with web.as_s3():
        web.keys = [f"p/{i:05}.jpg" for i in range(3 * webserver.PAGE)]
        listing = iter(Listing([b"s3://many/p"]))
        assert [ref.path for ref in islice(listing, 2)] == [b"s3://many/p/00000.jpg",
                                                            b"s3://many/p/00001.jpg"]  # fmt: skip
        assert web.pages == 1
        assert sum(1 for _ in listing) == 3 * webserver.PAGE - 2
        assert web.pages == 3


def test_a_listing_that_breaks_off_is_a_fault(web: WebServer, object_store: ObjectStore) -> None:
    with web.as_s3():
        web.keys = [f"p/{i:05}.jpg" for i in range(2 * webserver.PAGE)]
        listing = iter(Listing([b"s3://many/p"]))
        next(listing)
        web.answers["/many"] = Answer(status=403)
        *_, last = listing
        assert last.problem == "cannot be listed to its end: access denied"
        assert last.path == b"s3://many/p"


def test_pages_of_a_web_server(web: WebServer) -> None:
    web.answers = {
        "/p/": Answer(
            b'<a href="?C=N;O=D">Name</a> <a href="/">up</a> <a href="../x.jpg">x</a>'
            b'<a href="b%20c.jpg">b</a> <a href=./a.jpg>a</a> <A HREF="/p/sub/">s</A>'
            b'<a href="a.jpg#part">again</a> <a href="http://other.invalid/y.jpg">y</a>'
            b'<a href="notes.txt">n</a> <a href="http://[half/z.jpg">z</a>'
        ),
        "/p/sub/": Answer(b'<a href="c.jpg">c</a> <a href="/p/sub/">self</a>'),
        "/p/a.jpg": Answer(COFFEE),
        "/p/b c.jpg": Answer(b""),
        "/none/": Answer(b"nothing here"),
    }
    base = web.url + "/p/"
    assert listed(base) == [base + name for name in ("a.jpg", "b%20c.jpg", "sub/c.jpg")]
    assert listed(base, recursive=False) == [base + name for name in ("a.jpg", "b%20c.jpg")]
    result = mnv1("classify", base, *PLAIN, "--wide", "--on-error", "row")
    assert [row["error"] for row in rows(result.stdout)] == [
        "",
        "the file is empty",
        "no such file",
    ]
    assert mnv1("classify", web.url + "/none/", *PLAIN).exit_code == 1
    assert mnv1("classify", web.url + "/lost/", *PLAIN).exit_code == 2
    assert mnv1("classify", web.url + "/lost.jpg", *PLAIN).exit_code == 2
    told = mnv1("classify", base + "a.jpg", *PLAIN, "--wide", "--with-meta")
    assert rows(told.stdout)[0]["mtime"] == "2024-01-02T03:04:05Z"
