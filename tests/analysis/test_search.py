"""`mnv1 similar`: the search is exact, the queries are embedded as the index was."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pyarrow import parquet

from mnv1cli.analysis import near_duplicates, search
from mnv1cli.analysis.search_index import Index
from mnv1cli.api import Classifier
from mnv1cli.errors import Mnv1Error
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import FORMATS
from mnv1cli.types import Layout, Table
from tests.conftest import ROOT
from tests.support.shell import command, mnv1, program, rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mnv1cli.types import FloatArray

EXAMPLES = ROOT / "examples" / "photos"
CAT = EXAMPLES / "chelsea.png"
BUNDLED = ("--module", "bundled")
INDEXES = ["npy", "npz", "parquet", "csv", "tsv", "jsonl"]
TOLD = {
    "version": "0", "command": "embed", "engine": "litert", "precision": "float32",
    "module": {"handle": "none", "fingerprint": "0" * 64, "image_size": 128},
    "preprocess": "slim", "exif": True, "decode": "scaled", "output": "features",
    "counts": {"done": 0, "failed": 0}, "seconds": 0, "failures": [],
}  # fmt: skip


def written(
    file: Path, features: FloatArray, paths: Sequence[bytes] = (), errors: Sequence[str] = ()
) -> Path:
    """An index of these features, as `embed` writes it."""
    form = FORMATS[file.suffix[1:]]
    outputs = ResultFiles(file, None, form.sidecars, force=True, with_meta=not form.holds_metadata)
    writer = form.create(outputs, Layout(features.shape[1:], errors=bool(errors)))
    names = tuple(paths) or tuple(b"%d.jpg" % i for i in range(len(features)))
    for start in range(0, len(features), 1000):
        part = slice(start, start + 1000)
        told = tuple(errors[part]) or ("",) * len(features[part])
        writer.write(Table(names[part], told, values=features[part]))
    writer.close(TOLD)
    if outputs.meta:
        outputs.write_json(outputs.meta, TOLD)
    outputs.commit()
    return file


def cosines(one: FloatArray, two: FloatArray) -> FloatArray:
    """The cosine of each row of `one` with each of `two`, 0 for zeros, pair by pair."""
    found = np.zeros((len(one), len(two)), np.float32)
    for i, a in enumerate(one.astype(np.float64)):
        for j, b in enumerate(two.astype(np.float64)):
            if a.any() and b.any():
                found[i, j] = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    return found


@st.composite
def matrices(draw: st.DrawFn, most: int = 40) -> FloatArray:
    """Rows with ties, zeros, and NaN where an image failed; whole numbers, or random ones."""
    n, d = draw(st.integers(0, most)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole = draw(st.booleans())
    made = rng.integers(-2, 3, (n, d)) if whole else rng.standard_normal((n, d))
    found: FloatArray = made.astype(np.float32)
    found[rng.random(n) < draw(st.sampled_from([0, 0.2]))] = np.nan
    return found


def small_blocks(block: int) -> Any:
    """Everything that is done in blocks is done in small ones."""
    patches = mock.patch.multiple(near_duplicates, _BLOCK=block)
    other = mock.patch.multiple(search, _CHUNK=block)
    readers = mock.patch("mnv1cli.results.readers.npy.IMAGES", block)

    class Both:
        def __enter__(self) -> None:
            for each in (patches, other, readers):
                each.start()

        def __exit__(self, *_: object) -> None:
            for each in (patches, other, readers):
                each.stop()

    return Both()


# --- the search --------------------------------------------------------------------


@given(matrices(), st.integers(1, 50), st.integers(1, 9), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_search_is_a_sort_of_all_cosines(
    tmp_path_factory: pytest.TempPathFactory,
    features: FloatArray,
    top: int,
    block: int,
    seed: int,
    told: bool,
) -> None:
    folder = tmp_path_factory.mktemp("search")
    failed = np.isnan(features.sum(axis=1))
    errors = ["it failed" if each else "" for each in failed] if told else []
    index = Index(written(folder / "x.npy", features, errors=errors))
    rng = np.random.default_rng(seed)
    queries = rng.integers(-2, 3, (5, features.shape[1])).astype(np.float32)
    with small_blocks(block):
        found = index.search(queries, top)
    there = np.flatnonzero(~failed)
    assert index.paths == [b"%d.jpg" % i for i in there]
    expected = cosines(queries, features[there])
    for matches, row in zip(found, expected, strict=True):
        order = np.argsort(-row, kind="stable")[:top]
        assert [match.path for match in matches] == [b"%d.jpg" % i for i in there[order]]
        similarities = [match.similarity for match in matches]
        assert similarities == pytest.approx(row[order].tolist(), rel=2e-7, abs=1e-11)
        assert [match.rank for match in matches] == list(range(1, len(order) + 1))


@given(matrices(), st.floats(-1, 1), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_groups_are_those_of_all_pairs(
    tmp_path_factory: pytest.TempPathFactory, features: FloatArray, threshold: float, block: int
) -> None:
    there = np.flatnonzero(~np.isnan(features).any(axis=1))
    alike = cosines(features[there], features[there])
    np.fill_diagonal(alike, -2)
    # Within the rounding of float32 it is anybody's choice.
    assume(not (np.abs(alike - threshold) < 1e-5).any())
    index = Index(written(tmp_path_factory.mktemp("groups") / "x.npy", features))
    with small_blocks(block):
        found = index.groups(threshold)
    groups: list[set[int]] = [{i} for i in range(len(there))]
    for i, j in np.argwhere(alike >= threshold).tolist():
        one, two = (next(g for g in groups if k in g) for k in (i, j))
        if one is not two:
            groups.remove(two)
            one |= two
    expected = sorted(sorted(group) for group in groups if len(group) > 1)
    names = [[b"%d.jpg" % there[i] for i in group] for group in expected]
    assert [[member.path for member in group] for group in found] == names
    for group, members in zip(expected, found, strict=True):
        for i, member in zip(group, members, strict=True):
            assert member.similarity == pytest.approx(alike[i].max(), abs=2e-6)


@pytest.mark.parametrize("name", INDEXES)
def test_every_format_is_searched_alike(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((2500, 7)).astype(np.float32)
    features[[0, 1030, 2499]] = np.nan
    errors = ["" if np.isfinite(row).all() else "it failed" for row in features]
    paths = [b"l\xe9 %d,\n.jpg" % i for i in range(2500)]
    index = Index(written(tmp_path / f"x.{name}", features, paths, errors))
    queries = features[[1, 2, 1500]]
    expected = cosines(queries, np.nan_to_num(features, nan=0))
    expected[:, [0, 1030, 2499]] = -2
    for matches, row in zip(index.search(queries, 9), expected, strict=True):
        assert [m.path for m in matches] == [paths[i] for i in np.argsort(-row, kind="stable")[:9]]
    assert len(index.paths) == 2497


def test_copies_are_1_and_come_in_their_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    features = np.maximum(rng.standard_normal((300, 1024)), 0).astype(np.float32)
    features[[7, 100, 299]] = features[3] * np.array([[1], [3], [0.1]], np.float32)
    index = Index(written(tmp_path / "x.npy", features))
    [matches] = index.search(features[[3]], 5)
    assert [(m.path, m.similarity) for m in matches[:4]] == [
        (b"3.jpg", 1), (b"7.jpg", 1), (b"100.jpg", 1), (b"299.jpg", 1),
    ]  # fmt: skip
    assert index.search(features, 5)[3] == matches
    [group] = index.groups(1)
    assert group == [(b"3.jpg", 1), (b"7.jpg", 1), (b"100.jpg", 1), (b"299.jpg", 1)]


def test_blank_images_without_number_are_one_group(tmp_path: Path) -> None:
    features = np.ones((2500, 3), np.float32)
    index = Index(written(tmp_path / "x.npy", features))
    with small_blocks(300):
        [group] = index.groups(0.95)
    assert len(group) == 2500


MEASURE = """
import sys
from mnv1cli.cli.main import cli
from tests.support.memory import most
try:
    cli(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(most() >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
@pytest.mark.parametrize("name", ["npy", "npz", "parquet"])
def test_memory_is_that_of_the_matrix(tmp_path: Path, name: str) -> None:
    features = np.random.default_rng(0).standard_normal((10_000, 1024), np.float32)
    few = written(tmp_path / "few.npy", features[:3])
    indexes = {n: written(tmp_path / f"{n}.{name}", features[:n]) for n in (5_000, 10_000)}

    def peak(count: int, *query: object) -> int:
        out = tmp_path / f"{count}{query[0]}.csv"
        words: list[Any] = [
            sys.executable,
            "-c",
            MEASURE,
            "similar",
            indexes[count],
            *query,
            "-o",
            out,
            "--force",
        ]
        return int(subprocess.run(words, capture_output=True, check=True, cwd=ROOT).stdout)

    # A search has nothing of the index in memory but what it is at.
    assert peak(10_000, "--from", few) < peak(5_000, "--from", few) + 20
    grown = (10_000 - 5_000) * 4096 >> 20
    least = peak(5_000, "--all-pairs")
    assert peak(10_000, "--all-pairs") < least + 1.2 * grown + 15
    # As much as there is room for beside a matrix of 100,000 rows.
    assert least < 20 + 0.2 * 391 + 150


# --- the command -------------------------------------------------------------------


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example photos in an index of each format."""
    folder = tmp_path_factory.mktemp("indexes")
    for name in INDEXES:
        assert mnv1("embed", EXAMPLES, *BUNDLED, "-o", folder / f"x.{name}", "-q").exit_code == 0
    return folder


@pytest.mark.parametrize("name", INDEXES)
def test_images_are_looked_for_in_every_format(indexes: Path, name: str) -> None:
    result = mnv1("similar", indexes / f"x.{name}", CAT)
    assert result.exit_code == 0
    found = rows(result.stdout)
    assert [list(row) for row in found] == [["query", "rank", "path", "similarity"]] * 3
    assert found[0] == {"query": str(CAT), "rank": "1", "path": str(CAT), "similarity": "1"}
    assert result.stderr == f"mnv1: 1 query, among 3 images of {indexes}/x.{name}\n"


def test_copies_find_one_another_first(photos: Path, tmp_path: Path) -> None:
    original = photos / "n02018207_American_coot.JPEG"
    folder = tmp_path / "copies"
    folder.mkdir()
    with Image.open(original) as opened:
        picture = opened.convert("RGB")
    shutil.copy(original, folder / "same.jpg")
    ImageOps.mirror(picture).save(folder / "flipped.png")
    picture.resize((picture.width // 2, picture.height // 2)).save(folder / "half.png")
    picture.save(folder / "coarse.jpg", quality=50)
    index = tmp_path / "x.npy"
    assert mnv1("embed", photos, folder, *BUNDLED, "-o", index, "-q").exit_code == 0
    copies = {str(original), *map(str, folder.iterdir())}
    found = rows(mnv1("similar", index, original, folder, "-q").stdout)
    assert len(found) == 25
    for query in copies:
        assert {row["path"] for row in found if row["query"] == query} == copies
    groups = rows(mnv1("similar", index, "--all-pairs", "--threshold", 0.8, "-q").stdout)
    [number] = {row["group"] for row in groups if row["path"] in copies}
    assert {row["path"] for row in groups if row["group"] == number} == copies


@pytest.mark.parametrize(
    "more",
    [
        ("--preprocess", "pad"), ("--no-exif",), ("--endpoint", "global_pool"), ("--engine", "tf"),
        ("--decode", "full"), ("--endpoint", "Conv2d_5_pointwise"), ("--no-pool",),
        ("--no-exif", "--preprocess", "square", "--decode", "full"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_queries_are_embedded_as_the_index_was(
    tmp_path: Path, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Turned, and so large that it matters how it is decoded.
    picture = Image.open(CAT).convert("RGB").resize((1600, 900))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    index = tmp_path / "x.npz"
    run = mnv1("embed", tmp_path / "a.jpg", CAT, *BUNDLED, *more, "-o", index, "-q")
    assert run.exit_code == 0
    # Where other modules are usual, the index's own is meant.
    monkeypatch.setenv("MNV1_MODULE", "no such module")
    [row] = rows(mnv1("similar", index, tmp_path / "a.jpg", "--top", 1).stdout)
    assert (row["path"], float(row["similarity"])) == (str(tmp_path / "a.jpg"), 1)
    other = tmp_path / "y.npy"
    assert mnv1("embed", CAT, *BUNDLED, "-o", other, "-q").exit_code == 0
    if more != ("--no-pool",):
        refused = mnv1("similar", index, "--from", other)
        assert refused.exit_code == 1
        assert "was made with" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1


def test_features_of_another_module_are_refused(tmp_path: Path, indexes: Path) -> None:
    other = written(tmp_path / "x.npy", np.ones((2, 1024), np.float32))
    for run in ((indexes / "x.npy", "--from", other), (other, CAT, *BUNDLED)):
        result = mnv1("similar", *run)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert "module" in result.stderr


def test_module_may_have_moved(bundled_module: Any, tmp_path: Path, cache: Path,
                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundled_module.path, tmp_path / "mine")
    (tmp_path / "mine" / "assets").mkdir(exist_ok=True)
    (tmp_path / "mine" / "assets" / "note").write_text("another module")
    assert mnv1("embed", CAT, "--module", "mine", "-o", "x.npy", "-q").exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    # A relative path is looked for beside the result, too.
    assert mnv1("similar", "../x.npy", CAT).exit_code == 0
    shutil.move("../mine", "moved")
    refused = mnv1("similar", "../x.npy", CAT)
    assert refused.exit_code == 1
    assert refused.stderr == (
        "mnv1: error: ../x.npy was made with module mine, which does not exist any more; "
        "name it with --module where it is now\n"
    )
    assert mnv1("similar", "../x.npy", CAT, "--module", "moved").exit_code == 0
    refused = mnv1("similar", "../x.npy", CAT, "--module", "bundled")
    assert refused.exit_code == 1
    assert "../x.npy was made with module mine, not bundled; " in refused.stderr


def test_features_are_looked_for_without_a_module(indexes: Path, unwritable_cache: Path) -> None:
    found = rows(mnv1("similar", indexes / "x.npy", "--from", indexes / "x.parquet").stdout)
    assert [row["similarity"] for row in found if row["rank"] == "1"] == ["1"] * 3
    result = mnv1("similar", indexes / "x.csv", "--all-pairs", "--threshold", -1)
    assert [row["group"] for row in rows(result.stdout)] == ["1"] * 3
    assert result.stderr == f"mnv1: 1 group among 3 images of {indexes}/x.csv\n"
    result = mnv1("similar", indexes / "x.csv", "--all-pairs")
    assert result.stdout == "group,path,similarity\n"
    assert result.stderr == f"mnv1: 0 groups among 3 images of {indexes}/x.csv\n"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", INDEXES)
def test_query_that_is_not_finite_is_a_failure(tmp_path: Path, name: str, value: float) -> None:
    queries = np.ones((3, 4), np.float32)
    queries[1, 2] = value
    index = written(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    saved = written(tmp_path / f"q.{name}", queries)
    out = tmp_path / "found.csv"
    result = mnv1("similar", index, "--from", saved, "--top", 1, "-o", out)
    assert result.exit_code == 3
    assert "1.jpg: its features have NaN or infinity" in result.stderr
    assert [row["query"] for row in rows(out.read_bytes())] == ["0.jpg", "2.jpg"]
    metadata = json.loads((tmp_path / "found.csv.meta.json").read_text())
    assert (metadata["counts"]["done"], metadata["counts"]["failed"]) == (2, 1)


def test_query_that_fails_is_named_among_good_ones(indexes: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    (tmp_path / "none").mkdir()
    out = tmp_path / "x.jsonl"
    run = ("similar", indexes / "x.npy", tmp_path / "bad.jpg", CAT, tmp_path / "none")
    result = mnv1(*run, "--top", 9, "-o", out)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"mnv1: {tmp_path}/bad.jpg: the file is empty",
        f"mnv1: warning: no images in {tmp_path}/none",
        f"mnv1: 1 query, 1 failed, among 3 images of {indexes}/x.npy, in {out}",
    ]
    assert len(out.read_text().splitlines()) == 3
    told = json.loads((tmp_path / "x.jsonl.meta.json").read_text())
    assert told["counts"] == {"index": 3, "done": 1, "failed": 1}
    assert told["failures"] == [{"path": f"{tmp_path}/bad.jpg", "reason": "the file is empty"}]
    assert (told["command"], told["index"], told["top"]) == ("similar", "x.npy", 9)
    quiet = mnv1(*run, "-q")
    assert quiet.stderr == f"mnv1: {tmp_path}/bad.jpg: the file is empty\n"
    alone = mnv1(*run[:3])
    assert alone.exit_code == 3
    assert alone.stdout == "query,rank,path,similarity\n"
    assert alone.stderr.endswith(f"mnv1: 0 queries, 1 failed, among 3 images of {run[1]}\n")


def test_images_of_the_index_that_failed_are_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    for name in INDEXES:
        index = tmp_path / f"x.{name}"
        run = ("embed", tmp_path / "bad.jpg", CAT, *BUNDLED, "--on-error", "row", "-o", index)
        assert mnv1(*run, "-q").exit_code == 3
        result = mnv1("similar", index, CAT)
        assert result.stderr.endswith(f"among 1 image of {index}\n")
        assert len(rows(result.stdout)) == 1


@pytest.mark.parametrize("name", ["npy", "npz", "parquet", "csv"])
def test_empty_index_has_nothing_alike(tmp_path: Path, name: str) -> None:
    index = written(tmp_path / f"x.{name}", np.empty((0, 1024), np.float32))
    few = written(tmp_path / "few.npy", np.ones((2, 1024), np.float32))
    result = mnv1("similar", index, "--from", few)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "query,rank,path,similarity\n"
    assert result.stderr == f"mnv1: 2 queries, among 0 images of {index}\n"
    result = mnv1("similar", index, "--all-pairs")
    assert result.stdout == "group,path,similarity\n"


def test_paths_that_are_no_text_stay_as_they_are(tmp_path: Path) -> None:
    image = os.fsencode(tmp_path) + b'/l\xe9\n".jpg'
    with open(image, "wb") as file:
        file.write(CAT.read_bytes())
    index = tmp_path / "x.npy"
    assert program("embed", image, *BUNDLED, "-o", index, "-q").returncode == 0
    result = program("similar", index, image)
    [row] = rows(result.stdout)
    assert (os.fsencode(row["query"]), os.fsencode(row["path"])) == (image, image)
    record = json.loads(program("similar", index, image, "-f", "jsonl").stdout)
    assert {"query_bytes", "path_bytes"} < set(record)
    out = tmp_path / "out.parquet"
    assert program("similar", index, image, "-o", out).returncode == 0
    [line] = parquet.read_table(out).to_pylist()
    assert (line["query_bytes"], line["path_bytes"]) == (image, image)
    assert b"l\\xe9\\n" in program("similar", index, image, "-f", "table").stdout


def test_closed_pipe_is_no_error(indexes: Path) -> None:
    words = command("similar", indexes / "x.npy", EXAMPLES, "-q")
    for form in ("csv", "jsonl", "table"):
        line = f"{shlex.join([*words, '-f', form])} | head -1"
        run = ["bash", "-o", "pipefail", "-c", line]
        found = subprocess.run(run, capture_output=True, check=False)
        assert (found.returncode, found.stderr) == (0, b"")
        assert found.stdout.count(b"\n") == 1


def test_lists_of_queries_come_on_stdin(indexes: Path) -> None:
    result = mnv1("similar", indexes / "x.npy", "-", "-q", stdin=os.fsencode(CAT) + b"\n")
    assert result.exit_code == 0, result.stderr
    assert rows(result.stdout)[0]["query"] == str(CAT)


# --- misuse ------------------------------------------------------------------------


@pytest.fixture
def here(indexes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for each in indexes.iterdir():
        shutil.copy(each, tmp_path)
    shutil.copy(CAT, tmp_path / "cat.png")
    for name in ("bare", "alone", "cut", "wrong"):
        for suffix in (".npy", ".index.csv", ".npy.meta.json"):
            shutil.copy(f"x{suffix}", f"{name}{suffix}")
    os.remove("bare.npy.meta.json")
    os.remove("alone.index.csv")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:5000])
    told = json.loads((tmp_path / "x.npy.meta.json").read_text())
    (tmp_path / "wrong.npy.meta.json").write_text(json.dumps({**told, "module": {"handle": 3}}))
    (tmp_path / "there.csv").touch()
    assert mnv1("classify", "cat.png", *BUNDLED, "-o", "labels.csv", "-q").exit_code == 0
    assert mnv1("logits", "cat.png", *BUNDLED, "-o", "scores.npy", "-q").exit_code == 0
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        ("x.npy", 2, "give exactly one of QUERY, --from and --all-pairs"),
        ("x.npy cat.png --all-pairs", 2, "one of QUERY, --from and --all-pairs"),
        ("x.npy --all-pairs --top 3", 2, "--top cannot be used with --all-pairs"),
        ("x.npy cat.png --threshold 0.5", 2, "--threshold can only be used with --all-pairs"),
        ("x.npy --all-pairs --threshold nan", 2, "--threshold nan is not a number"),
        ("none.npy cat.png", 2, "no such file: none.npy"),
        (". cat.png", 1, ". is no dataset of mnv1: it has alone.npy"),
        ("cat.png cat.png", 1, "cat.png is no result of mnv1"),
        ("x.npy none.png", 2, "no such file or folder: none.png"),
        ("x.npy --from none.npy", 2, "no such file: none.npy"),
        ("labels.csv cat.png", 1, "labels.csv holds no features; 'mnv1 embed -o FILE' writes them"),
        ("scores.npy cat.png", 1, "scores.npy holds no features"),
        ("x.npy --from scores.npy", 1, "scores.npy holds no features"),
        ("bare.npy cat.png", 1, "has no metadata: the settings that it was made with are unknown"),
        ("alone.npy cat.png", 1, "cannot read alone.index.csv: No such file or directory"),
        ("cut.npy cat.png", 1, "cannot read cut.npy"),
        ("wrong.npy cat.png", 1, "the metadata lack the module's handle"),
        ("wrong.npy --from x.npy", 1, "was made with module"),
        ("x.npy --from wrong.npy", 1, "was made with module"),
        ("x.npy cat.png -o there.csv", 1, "there.csv exists; add --force to replace it"),
        ("x.npy cat.png -o x.csv --force --from x.csv", 2, "one of QUERY, --from and --all-pairs"),
        ("x.npy --from x.csv -o x.csv --force", 2, "x.csv is read, and cannot be written"),
        ("x.csv cat.png -o x.csv --force", 2, "x.csv is read, and cannot be written"),
        ("x.npy cat.png -o x.index.csv --force", 2, "x.index.csv is read"),
        ("x.npy cat.png -o out.npy", 2, "npy holds no rows of names"),
        ("x.npy cat.png -o out.what", 2, "the name out.what tells no format; end it with .csv"),
        ("x.npy cat.png -f parquet", 2, "parquet needs a file; name it with -o"),
        ("x.npy cat.png -o none/out.csv", 1, "there is no folder none"),
    ],
)  # fmt: skip
def test_misuse_is_told_in_one_line(here: Path, arguments: str, exit_code: int, said: str) -> None:
    before = {name: os.stat(name).st_mtime_ns for name in os.listdir(here)}
    result = mnv1("similar", *arguments.split())
    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("mnv1: error: ")
    assert said in line
    assert {name: os.stat(name).st_mtime_ns for name in os.listdir(here)} == before


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
def test_nothing_half_done_is_left(here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def broken(*_: object) -> Any:
        raise Mnv1Error("it broke")

    monkeypatch.setattr(Index, "search", broken)
    result = mnv1("similar", "x.npy", "cat.png", "-o", name)
    assert result.exit_code == 1
    assert result.stderr == "mnv1: error: it broke\n"
    assert not list(here.glob("out*"))


def test_output_is_replaced_when_that_is_wanted(here: Path) -> None:
    assert mnv1("similar", "x.npy", "cat.png", "-o", "there.csv", "--force", "-q").exit_code == 0
    assert len(rows((here / "there.csv").read_bytes())) == 3
    assert (here / "there.csv.meta.json").exists()


def test_index_is_searched_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "moved").mkdir()
    for name in ("x.npy", "x.index.csv", "x.npy.meta.json"):
        shutil.move(name, here / "moved" / name)
    result = mnv1("similar", "moved/x.npy", "cat.png", "--top", 1)
    assert rows(result.stdout)[0]["path"] == str(CAT)


def test_help_says_what_it_is_for() -> None:
    said = mnv1("similar", "--help").stdout
    assert "The module that INDEX was made with" in said
    assert "MNV1_MODULE" not in said


# --- for Python --------------------------------------------------------------------


def test_python_users_have_it_too(indexes: Path) -> None:
    classifier = Classifier("bundled")
    with Image.open(CAT) as picture:
        [matches] = classifier.similar(indexes / "x.npy", picture, top=2)
    assert [match.rank for match in matches] == [1, 2]
    assert matches[0].path == os.fsencode(CAT)
    with pytest.raises(Mnv1Error, match="preprocess slim, not pad"):
        Classifier("bundled", preprocess="pad").similar(indexes / "x.npy", CAT)


def test_settings_of_a_result_make_a_classifier(tmp_path: Path) -> None:
    run = ("embed", CAT, *BUNDLED, "--preprocess", "pad", "--no-exif", "-o", tmp_path / "x.csv")
    assert mnv1(*run, "-q").exit_code == 0
    told = json.loads((tmp_path / "x.csv.meta.json").read_text())
    values = Classifier.as_for(told).embed(CAT)
    written = np.loadtxt(io.StringIO((tmp_path / "x.csv").read_text().split("png,")[1]),
                         np.float32, delimiter=",")  # fmt: skip
    np.testing.assert_array_equal(values[0], written)
    for key in ("preprocess", "engine"):
        with pytest.raises(Mnv1Error, match=f"the metadata lack {key}"):
            Classifier.as_for({name: value for name, value in told.items() if name != key})
