"""Results go to a store when they are complete, and are lost nowhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support import webserver
from tests.support.objectstore import ObjectStore, object_store
from tests.support.shell import mnv1
from tests.support.webserver import Answer, WebServer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["object_store"]

PHOTOS = ROOT / "examples" / "photos"
PLAIN = (str(PHOTOS), "--module", "bundled")


@pytest.fixture
def web(object_store: ObjectStore) -> Iterator[WebServer]:
    with webserver.serving() as server, server.as_s3():
        yield server


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for what is written before it is stored."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture(scope="module")
def bucket(object_store: ObjectStore) -> str:
    return object_store.bucket("results")


@pytest.mark.parametrize(
    ("command", "name", "beside"),
    [
        ("classify", "a.csv", ["a.csv.meta.json"]),
        ("classify", "a.jsonl", ["a.jsonl.meta.json"]),
        ("embed", "a.npy", ["a.npy.meta.json", "a.index.csv"]),
        ("embed", "a.npz", []),
        ("embed", "a.parquet", []),
    ],
)
def test_what_is_stored_is_what_would_be_written(
    object_store: ObjectStore, bucket: str, tmp_path: Path, scratch: Path,
    command: str, name: str, beside: list[str],
) -> None:  # fmt: skip
    prefix = f"{command}/{name} of/"
    result = mnv1(command, *PLAIN, "-o", f"s3://{bucket}/{prefix}{name}")
    assert result.exit_code == 0
    assert f"in s3://{bucket}/{prefix}{name}" in result.stderr
    mnv1(command, *PLAIN, "-o", tmp_path / name)
    stored = {key for key in object_store.keys(bucket) if key.startswith(prefix)}
    assert stored == {prefix + each for each in (name, *beside)}
    if name != "a.npz" and name != "a.parquet":
        assert object_store.get(bucket, prefix + name) == (tmp_path / name).read_bytes()
    if beside:
        told = json.loads(object_store.get(bucket, f"{prefix}{name}.meta.json"))
        assert told["counts"] == {"done": 3, "failed": 0}
    assert not list(scratch.glob("mnv1-results-*"))


def test_objects_are_replaced_by_force_alone(
    object_store: ObjectStore, bucket: str, tmp_path: Path
) -> None:
    object_store.put(bucket, {"there.csv.meta.json": b"old"})
    place = f"s3://{bucket}/there.csv"
    refused = mnv1("classify", *PLAIN, "-o", place)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert f"{place}.meta.json exists; add --force" in refused.stderr
    assert "there.csv" not in object_store.keys(bucket)
    taken = mnv1("classify", *PLAIN, "-o", place, "--force", "--errors", tmp_path / "e.csv")
    assert taken.exit_code == 0
    assert object_store.get(bucket, "there.csv").startswith(b"path,rank")
    assert object_store.get(bucket, "there.csv.meta.json") != b"old"
    assert (tmp_path / "e.csv").read_text() == "path,reason\n"


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["-o", "s3://no-such-bucket/a.csv"], 1, "no such bucket"),
        (["-o", "s3://no-such-bucket/a.csv", "--force"], 1, "no such bucket"),
        (["-o", "https://host.invalid/a.csv"], 2, "results cannot be written there"),
        (["-o", "s3://results"], 2, "names a folder"),
        (["-o", "s3://results/a//b.csv"], 1, "the key a//b.csv has an empty part"),
        (["-o", "s3://results/a.what"], 2, "the name s3://results/a.what tells no format"),
        (["-o", "s3://results/a.jpg"], 2, "s3://results/a.jpg is the name of an image"),
        (["-o", "s3://results/a.csv", "--resume"], 2, "--resume cannot be used with s3:"),
        (["-o", "s3://results/a.csv", "--append"], 2, "--append cannot be used with s3:"),
        (
            ["-o", "a.csv", "--errors", "s3://results/e.csv"],
            2,
            "e.csv is not a local file",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused_before_any_work(
    bucket: str, scratch: Path, arguments: list[str], code: int, what: str
) -> None:
    result = mnv1("classify", *PLAIN, *arguments)
    assert result.exit_code == code
    assert what in result.stderr
    assert "images in" not in result.stderr
    assert not list(scratch.glob("mnv1-results-*"))


def test_what_cannot_be_stored_at_the_end_is_kept(web: WebServer, tmp_path: Path) -> None:
    web.answers = {"/bucket/a.csv.meta.json": Answer(status=403)}
    result = mnv1("classify", *PLAIN, "-o", "s3://bucket/a.csv", "--force")
    assert result.exit_code == 1
    assert "cannot write s3://bucket/a.csv.meta.json: access denied; the results are in" in (
        result.stderr
    )
    kept = re.search(r"the results are in (\S+);", result.stderr)
    assert kept
    mnv1("classify", *PLAIN, "-o", tmp_path / "a.csv")
    assert Path(kept[1], "a.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    assert Path(kept[1], "a.csv.meta.json").exists()
    # The main object comes last, so it is not there without the others.
    assert ("PUT", "/bucket/a.csv") not in web.asked


def test_what_was_done_when_a_run_stops_is_kept(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    result = mnv1("classify", str(PHOTOS), tmp_path / "bad.jpg", "--module", "bundled",
                  "-o", "s3://results/stopped.csv", "--on-error", "fail")  # fmt: skip
    assert result.exit_code == 1
    assert "--resume" not in result.stderr
    kept = re.search(
        r"done so far: .*, in (\S+\.part); .*a dataset \(-o NAME/\) can$", result.stderr, re.M
    )
    assert kept
    assert b"coffee.jpg" in Path(kept[1]).read_bytes()


def test_whoever_may_not_look_is_told_of_force(web: WebServer) -> None:
    web.answers = {"/bucket/a.csv": Answer(status=403)}
    result = mnv1("classify", *PLAIN, "-o", "s3://bucket/a.csv")
    assert result.exit_code == 1
    assert "access denied" in result.stderr
    assert "--force writes without looking" in result.stderr
