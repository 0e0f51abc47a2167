"""The commands as a user sees them: results, formats, faults, exit codes."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import mnv1cli
from mnv1cli.modules import artifacts
from tests.conftest import ROOT
from tests.support.shell import command, mnv1, program, rows

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.modules.artifacts import CompiledModel
    from mnv1cli.modules.hub_module import HubModule

BUNDLED = ("--module", "bundled")
EXAMPLES = ROOT / "examples" / "photos"
# The one photo with an EXIF orientation; the reference was made without EXIF.
TURNED = "n02951585_can_opener.JPEG"


@pytest.fixture(scope="session")
def reference(shared: Path) -> Any:
    return np.load(shared / "reference.npz")


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A folder with four small photos."""
    folder = tmp_path / "few"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name in ("b.png", "a.jpg", "d.jpg", "c.bmp"):
        Image.fromarray(rng.integers(0, 256, (50, 60, 3), np.uint8)).save(folder / name)
    return folder


def names(results: list[dict[str, str]]) -> list[str]:
    return [os.path.basename(row["path"]) for row in results]


# --- results ---------------------------------------------------------------------


def test_classify_is_as_accurate_as_the_reference(photos: Path, reference: Any) -> None:
    result = mnv1("classify", photos, *BUNDLED, "-f", "csv", "--top", 5, "--no-exif")
    assert result.exit_code == 0
    found = rows(result.stdout)
    assert len(found) == 465
    assert list(dict.fromkeys(names(found))) == list(reference["names"])
    hits = [os.path.basename(row["path"]).startswith(row["wnid"]) for row in found]
    top1 = sum(hit for hit, row in zip(hits, found, strict=True) if row["rank"] == "1")
    assert (round(top1 / 93, 3), round(sum(hits) / 93, 3)) == (0.591, 0.806)


def test_probabilities_are_those_of_the_reference(photos: Path, reference: Any) -> None:
    result = mnv1("classify", photos, *BUNDLED, "-f", "csv")
    powers = np.exp(reference["logits"].astype(np.float64))
    softmax = powers / powers.sum(axis=1, keepdims=True)
    expected = dict(zip(reference["names"], softmax, strict=True))
    sums: dict[str, float] = {}
    for row in rows(result.stdout):
        name = os.path.basename(row["path"])
        sums[name] = sums.get(name, 0) + float(row["probability"])
        if name != TURNED:
            wanted = expected[name][int(row["class_id"])]
            assert float(row["probability"]) == pytest.approx(wanted, abs=1e-3)
    assert len(sums) == 93
    assert max(sums.values()) <= 1 + 1e-5


@pytest.mark.parametrize(("name", "key", "atol"), [("logits", "logits", 0.02),
                                                   ("embed", "features", 0.01)])  # fmt: skip
def test_values_are_those_of_the_reference(
    photos: Path, reference: Any, tmp_path: Path, name: str, key: str, atol: float
) -> None:
    out = tmp_path / "x.npy"
    assert mnv1(name, photos, *BUNDLED, "-o", out, "--no-exif").exit_code == 0
    values = np.load(out)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, reference[key], atol=atol)
    index = rows((tmp_path / "x.index.csv").read_bytes())
    assert names(index) == list(reference["names"])
    assert [row["row"] for row in index] == [str(i) for i in range(93)]


def test_a_genuine_feature_module_gives_features_close_to_the_reference(
    shared: Path, photos: Path, reference: Any, tmp_path: Path
) -> None:
    archive = shared / "hub" / "feature_vector.tar.gz"
    out = tmp_path / "f.npy"
    assert mnv1("embed", photos, "--module", archive, "-o", out, "--no-exif").exit_code == 0
    ours, theirs = np.load(out), reference["features"]
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() >= 0.9995
    assert np.abs(ours - theirs).max() <= 0.2


def test_classify_with_a_feature_module_names_the_signatures_it_has(
    shared: Path, photos: Path
) -> None:
    archive = shared / "hub" / "feature_vector.tar.gz"
    result = mnv1("classify", photos, "--module", archive)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "default, image_feature_vector" in result.stderr


def test_the_cat_is_a_cat() -> None:
    result = mnv1("classify", EXAMPLES, *BUNDLED, "--top", 1, "-f", "csv", "-q")
    labels = {os.path.basename(r["path"]): r["label"] for r in rows(result.stdout)}
    assert labels["chelsea.png"] == "Egyptian cat"
    assert labels["coffee.jpg"] == "espresso"
    assert result.stderr == ""


def test_batch_size_does_not_change_a_digit(photos: Path, tmp_path: Path) -> None:
    results = {
        mnv1("logits", photos, *BUNDLED, "--batch-size", n).stdout_bytes for n in (1, 7, 31, 200)
    }
    assert len(results) == 1


def test_probabilities_sum_to_one(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.npy"
    mnv1("logits", few, *BUNDLED, "--probabilities", "-o", out)
    np.testing.assert_allclose(np.load(out).sum(axis=1), 1, atol=1e-5)
    assert json.loads((tmp_path / "p.npy.meta.json").read_text())["output"] == "probabilities"


def test_spatial_endpoint_is_averaged_or_kept(few: Path, tmp_path: Path) -> None:
    pooled, whole = tmp_path / "p.npy", tmp_path / "w.npy"
    endpoint = ("--endpoint", "Conv2d_5_pointwise")
    assert mnv1("embed", few, *BUNDLED, *endpoint, "-o", pooled).exit_code == 0
    assert mnv1("embed", few, *BUNDLED, *endpoint, "--no-pool", "-o", whole).exit_code == 0
    assert np.load(whole).shape == (4, 16, 16, 256)
    np.testing.assert_allclose(np.load(whole).mean(axis=(1, 2)), np.load(pooled), atol=1e-6)


def test_global_pool_is_the_feature_vector(few: Path, tmp_path: Path) -> None:
    mnv1("embed", few, *BUNDLED, "--endpoint", "global_pool", "-o", tmp_path / "g.npy")
    mnv1("embed", few, *BUNDLED, "-o", tmp_path / "f.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "g.npy"), np.load(tmp_path / "f.npy"))


def test_unknown_endpoint_is_refused_with_those_there_are(few: Path) -> None:
    result = mnv1("embed", few, *BUNDLED, "--endpoint", "fc7")
    assert result.exit_code == 1
    assert "MobilenetV1/global_pool" in result.stderr
    assert result.stderr.count("\n") == 1


# --- engines ---------------------------------------------------------------------


def test_engines_agree_and_are_named(photos: Path, tmp_path: Path) -> None:
    values = {}
    for engine in ("litert", "tf"):
        out = tmp_path / f"{engine}.npy"
        assert mnv1("logits", photos, *BUNDLED, "--engine", engine, "-o", out).exit_code == 0
        values[engine] = np.load(out)
        meta = json.loads((tmp_path / f"{engine}.npy.meta.json").read_text())
        assert (meta["engine"], meta["precision"]) == (engine, "float32")
    np.testing.assert_allclose(values["litert"], values["tf"], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(values["litert"].argmax(1), values["tf"].argmax(1))


@pytest.mark.parametrize("engine", ["litert", "tf"])
def test_threads_do_not_change_a_digit(photos: Path, engine: str) -> None:
    some = sorted(photos.iterdir())[:20]
    run = ("logits", *some, *BUNDLED, "--engine", engine, "-q")
    results = {mnv1(*run, "--threads", n).stdout_bytes for n in (1, 2, 5)}
    assert len(results) == 1


def test_int8_that_was_not_calibrated_is_refused_in_one_line(
    few: Path, own_cache: Path, bundled_module: HubModule
) -> None:
    result = mnv1("classify", few, "--module", bundled_module.path, "--precision", "int8")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "is not calibrated for int8" in result.stderr
    assert "mnv1 module quantize" in result.stderr


def test_calibrated_model_stands_in_the_metadata(
    few: Path, tmp_path: Path, own_cache: Path, bundled_module: HubModule,
    compiled_both: CompiledModel,
) -> None:  # fmt: skip
    kept = dataclasses.replace(compiled_both, precision="int8", calibration={"samples": 1})
    artifacts.save_model(bundled_module.fingerprint, kept)
    run = ("embed", few, "--module", bundled_module.path, "--precision", "int8")
    assert mnv1(*run, "-o", tmp_path / "x.npy").exit_code == 0
    meta = json.loads((tmp_path / "x.npy.meta.json").read_text())
    assert (meta["engine"], meta["precision"]) == ("litert", "int8")
    assert meta["calibrated"] == kept.sha256


def test_module_is_prepared_once_and_says_so(
    few: Path, own_cache: Path, bundled_module: HubModule
) -> None:
    run = ("classify", few, "--module", bundled_module.path, "-f", "csv")
    first, second = mnv1(*run), mnv1(*run)
    assert first.stderr.count("preparing the module (once)") == 1
    assert "preparing" not in second.stderr
    assert first.stdout == second.stdout


WITHOUT_TENSORFLOW = """
import sys
from mnv1cli.cli.main import cli
try: cli(sys.argv[1:])
except SystemExit as end: assert not end.code, end.code
loaded = {"tensorflow", "google.protobuf", "requests"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize(
    "task",
    [
        ("classify",),
        ("logits",),
        ("embed",),
        ("embed", "--endpoint", "Conv2d_5_pointwise"),
        ("classify", "--preprocess", "pad", "--decode", "full", "--no-exif", "--threads", "1"),
    ],
)
def test_start_with_a_warm_cache_pays_for_no_tensorflow(task: tuple[str, ...]) -> None:
    run = (*task, str(EXAMPLES), *BUNDLED, "-f", "csv", "-q")
    expected = mnv1(*run)
    assert expected.exit_code == 0
    words = [sys.executable, "-c", WITHOUT_TENSORFLOW, *run]
    found = subprocess.run(words, capture_output=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout == expected.stdout_bytes
    assert found.stderr == b""


# --- formats ---------------------------------------------------------------------


def test_formats_hold_the_same_labels(few: Path) -> None:
    run = ("classify", few, *BUNDLED, "--top", 2, "-f")
    long = rows(mnv1(*run, "csv").stdout)
    assert rows(mnv1(*run, "tsv").stdout, "\t") == long
    objects = [json.loads(line) for line in mnv1(*run, "jsonl").stdout.splitlines()]
    flat = [
        {"path": o["path"], **{k: str(v) for k, v in p.items() if k != "probability"}}
        for o in objects
        for p in o["predictions"]
    ]
    assert flat == [{k: v for k, v in row.items() if k != "probability"} for row in long]
    wide = rows(mnv1(*run, "csv", "--wide").stdout)
    assert [row["label_2"] for row in wide] == [r["label"] for r in long if r["rank"] == "2"]
    assert list(wide[0]) == ["path", "label_1", "probability_1", "label_2", "probability_2"]
    table = mnv1(*run, "table").stdout
    assert all(row["label"] in table for row in long)


def test_values_round_trip_in_every_format(few: Path, tmp_path: Path) -> None:
    run = ("embed", few, *BUNDLED)
    assert mnv1(*run, "-o", tmp_path / "x.npy").exit_code == 0
    array = np.load(tmp_path / "x.npy")
    table = rows(mnv1(*run).stdout)
    assert list(table[0]) == ["path", *map(str, range(1024))]
    parsed = np.array([[float(row[str(i)]) for i in range(1024)] for row in table], np.float32)
    np.testing.assert_array_equal(parsed, array)
    objects = [json.loads(line) for line in mnv1(*run, "-f", "jsonl").stdout.splitlines()]
    np.testing.assert_array_equal(np.array([o["values"] for o in objects], np.float32), array)


def test_top_is_clipped_to_the_classes(few: Path) -> None:
    found = rows(mnv1("classify", few / "a.jpg", *BUNDLED, "--top", 5000, "-f", "csv").stdout)
    assert len(found) == 1001
    assert sum(float(row["probability"]) for row in found) == pytest.approx(1, abs=1e-4)


def test_min_probability_leaves_out_what_is_less_probable(few: Path) -> None:
    everything = rows(mnv1("classify", few, *BUNDLED, "-f", "csv").stdout)
    limit = sorted(float(row["probability"]) for row in everything)[len(everything) // 2]
    run = ("classify", few, *BUNDLED, "--min-probability", limit, "-f")
    kept = rows(mnv1(*run, "csv").stdout)
    assert kept == [row for row in everything if float(row["probability"]) >= limit]


def test_image_without_a_probable_label_is_not_lost(few: Path) -> None:
    result = mnv1("classify", few, *BUNDLED, "--min-probability", 1, "-f", "jsonl")
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [o["predictions"] for o in objects] == [[]] * 4
    assert "4 without a label" in result.stderr


def test_own_labels_must_fit_and_are_used(few: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("".join(f"thing {i}\n" for i in range(1001)))
    found = rows(mnv1("classify", few, *BUNDLED, "--labels", own, "-f", "csv").stdout)
    assert all(row["label"] == f"thing {row['class_id']}" for row in found)
    own.write_text("".join(f"thing {i}\n" for i in range(1000)))
    result = mnv1("classify", few, *BUNDLED, "--labels", own)
    assert result.exit_code == 1
    assert "1000 names" in result.stderr
    assert "1001 classes" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("classify", "-f", "npy", "-o", "x.npy"), "npy holds numbers"),
        (("logits", "-f", "npy"), "-o"),
        (("logits", "-f", "table"), "table is for labels"),
        (("embed", "--no-pool", "-f", "csv"), "--no-pool"),
        (("logits", "-o", "x.txt"), ".npy"),
        (("classify", "--wide", "-f", "jsonl"), "--wide is for csv"),
        (("classify", "--top", "0"), "--top"),
        (("classify", "--preprocess", "crop"), "slim"),
        (("classify", "--batch-size", "0"), "--batch-size"),
        (("classify", "--threads", "0"), "--threads"),
        (("classify", "--engine", "onnx"), "litert"),
        (("classify", "--precision", "int4"), "int8"),
        (("classify", "--engine", "tf", "--precision", "int8"), "--engine litert"),
        (("classify", "--min-probability", "2"), "--min-probability"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir())
    result = mnv1(arguments[0], few, *BUNDLED, *arguments[1:])
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""
    assert sorted(os.listdir()) == before


# --- files -----------------------------------------------------------------------


def test_a_file_gets_its_name_and_its_metadata_when_it_is_complete(
    few: Path, tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    (few / "bad.jpg").write_bytes(b"")
    assert mnv1("classify", few, *BUNDLED, "-o", out, "--preprocess", "pad").exit_code == 3
    assert sorted(os.listdir(tmp_path)) == ["few", "r.csv", "r.csv.meta.json"]
    meta = json.loads((tmp_path / "r.csv.meta.json").read_text())
    assert list(meta) == [
        "version", "command", "module", "engine", "precision", "preprocess", "exif", "decode",
        "output", "counts", "seconds", "failures",
    ]  # fmt: skip
    assert meta["version"] == mnv1cli.__version__
    assert meta["module"].keys() == {"handle", "fingerprint", "image_size"}
    assert (meta["command"], meta["engine"], meta["preprocess"]) == ("classify", "litert", "pad")
    assert meta["counts"] == {"done": 4, "failed": 1}
    assert meta["failures"] == [{"path": str(few / "bad.jpg"), "reason": "the file is empty"}]


@pytest.mark.parametrize("name", ["x.npy", "x.npy.meta.json", "x.index.csv", "x.npy.part"])
def test_no_file_is_overwritten_without_force(few: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    result = mnv1("embed", few, *BUNDLED, "-o", tmp_path / "x.npy")
    assert result.exit_code == 1
    assert name in result.stderr
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["few", name]
    assert mnv1("embed", few, *BUNDLED, "-o", tmp_path / "x.npy", "--force").exit_code == 0
    assert np.load(tmp_path / "x.npy").shape == (4, 1024)


def test_manifest_tells_of_results_on_stdout(few: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "run.json"
    mnv1("logits", few, *BUNDLED, "--manifest", manifest)
    meta = json.loads(manifest.read_text())
    assert (meta["command"], meta["output"], meta["counts"]["done"]) == ("logits", "logits", 4)


def test_dash_is_stdout(few: Path) -> None:
    assert rows(mnv1("classify", few, *BUNDLED, "-o", "-").stdout)


@pytest.mark.parametrize("place", ["missing/r.csv", "few"])
def test_place_that_cannot_be_written_is_found_before_any_work(
    few: Path, tmp_path: Path, place: str
) -> None:
    result = mnv1("classify", few, "--module", "nowhere", "-o", tmp_path / place, "-f", "csv")
    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert result.stderr.count("\n") == 1


# --- inputs ----------------------------------------------------------------------


def test_lists_and_folders_keep_their_order(few: Path, tmp_path: Path) -> None:
    paths = [few / name for name in ("d.jpg", "a.jpg", "d.jpg")]
    file = tmp_path / "list"
    file.write_text("\n".join(map(str, paths)))
    run = ("classify", *BUNDLED, "--top", 1, "-f", "csv")
    listed = rows(mnv1(*run, "--files-from", file).stdout)
    assert [row["path"] for row in listed] == [str(path) for path in paths]
    piped = rows(mnv1(*run, "-", stdin=file.read_bytes()).stdout)
    assert piped == listed
    nul = "\0".join(map(str, paths)).encode()
    assert rows(mnv1(*run, "-0", "-", stdin=nul).stdout) == listed
    walked = rows(mnv1(*run, few).stdout)
    assert names(walked) == ["a.jpg", "b.png", "c.bmp", "d.jpg"]


def test_empty_list_gives_a_header_and_exit_code_0() -> None:
    for name, header in (("classify", b"path,rank"), ("logits", b"path,0,1")):
        result = mnv1(name, "-", *BUNDLED, "-f", "csv", stdin=b"")
        assert result.exit_code == 0
        assert result.stdout_bytes.startswith(header)
        assert result.stdout_bytes.count(b"\n") == 1


def test_empty_list_gives_an_array_without_rows(tmp_path: Path) -> None:
    out = tmp_path / "x.npy"
    assert mnv1("embed", "-", *BUNDLED, "-o", out, stdin=b"").exit_code == 0
    assert np.load(out).shape == (0, 1024)


def test_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    result = mnv1("classify", tmp_path, *BUNDLED, "-o", tmp_path / "r.csv")
    assert result.exit_code == 1
    assert "no images in" in result.stderr
    assert ".txt 1" in result.stderr
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_folder_without_images_beside_one_with_them_is_told(few: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (few / "notes.txt").write_text("no image")
    result = mnv1("classify", empty, few, *BUNDLED, "-f", "csv")
    assert result.exit_code == 0
    assert f"no images in {empty}" in result.stderr
    assert "1 skipped by suffix (.txt 1)" in result.stderr


@pytest.mark.parametrize("arguments", [["nowhere.jpg"], ["*.nothing"], ["--files-from", "nowhere"]])
def test_missing_input_is_an_error_before_any_work(
    few: Path, tmp_path: Path, arguments: list[str]
) -> None:
    result = mnv1("classify", few, *arguments, *BUNDLED, "-o", tmp_path / "r.csv")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["few"]


@pytest.mark.parametrize("arguments", [[], ["-", "-"], ["-", "--files-from", "-"]])
def test_inputs_that_make_no_sense_are_usage_errors(arguments: list[str]) -> None:
    result = mnv1("classify", *arguments, *BUNDLED)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_any_name_goes_through(few: Path, tmp_path: Path) -> None:
    odd = [b"a b.jpg", b'q"uote.jpg', b"new\nline.jpg", b"latin\xe9.jpg", b"-o.jpg", b"%s\t.jpg"]
    folder = os.fsencode(tmp_path / "odd")
    os.mkdir(folder)
    paths = [os.path.join(folder, name) for name in odd]
    for path in paths:
        shutil.copy(os.fsencode(few / "a.jpg"), path)
    stdin = b"\0".join(paths)
    run = ("classify", "-0", "-", *BUNDLED, "--top", "1", "-f")
    found = rows(mnv1(*run, "csv", stdin=stdin).stdout_bytes)
    assert [os.fsencode(row["path"]) for row in found] == paths
    tabbed = rows(mnv1(*run, "tsv", stdin=stdin).stdout_bytes, "\t")
    assert [os.fsencode(row["path"]) for row in tabbed] == paths
    lines = mnv1(*run, "jsonl", stdin=stdin).stdout_bytes.splitlines()
    objects = [json.loads(line) for line in lines]
    back = [base64.b64decode(o["path_bytes"]) if "path_bytes" in o else o["path"].encode()
            for o in objects]  # fmt: skip
    assert back == paths
    assert [o["path"] for o in objects if "path_bytes" in o] == [f"{tmp_path}/odd/latin\ufffd.jpg"]


# --- bad images ------------------------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.fixture
def bad(tmp_path: Path, few: Path) -> dict[str, Path]:
    """Twelve things that are no usable image, by what is wrong with them."""
    folder = tmp_path / "bad"
    folder.mkdir()
    jpeg, png = (few / "a.jpg").read_bytes(), (few / "b.png").read_bytes()
    Image.open(few / "b.png").save(folder / "corrupt.webp", lossless=True)
    webp = (folder / "corrupt.webp").read_bytes()
    claim = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"this is a text\n" * 20,
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": png[: len(png) // 2],
        "huge.png": b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", claim) + png_chunk(b"IEND", b""),
        "corrupt.webp": webp[:30] + b"\x00" * (len(webp) - 30),
        "nothing.tiff": b"II*\0" + struct.pack("<IHI", 8, 0, 0),
        "zeros.jpg": bytes(len(jpeg)),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.jpg").mkdir()
    (folder / "link.jpg").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(folder / "socket.jpg"))
    every = [*contents, "folder.jpg", "link.jpg", "socket.jpg", "removed.jpg"]
    return {name: folder / name for name in every}


@pytest.fixture
def mixed(tmp_path: Path, few: Path, bad: dict[str, Path]) -> tuple[Path, list[Path], list[Path]]:
    """A list with the bad ones among good ones; and both of them."""
    good = [few / name for name in ("a.jpg", "b.png", "c.bmp", "d.jpg")] * 3
    mixed = [path for pair in zip(good, bad.values(), strict=True) for path in pair]
    file = tmp_path / "mixed"
    file.write_text("\n".join(map(str, mixed)))
    return file, good, list(bad.values())


def test_bad_images_are_told_and_leave_their_neighbours_alone(
    mixed: tuple[Path, list[Path], list[Path]], tmp_path: Path
) -> None:
    file, good, bad = mixed
    errors = tmp_path / "errors.csv"
    result = mnv1("logits", *BUNDLED, "--files-from", file, "--errors", errors)
    assert result.exit_code == 3
    told = rows(errors.read_bytes())
    assert list(told[0]) == ["path", "reason"]
    assert [row["path"] for row in told] == [str(path) for path in bad]
    assert all(row["reason"] for row in told)
    assert result.stdout_bytes == mnv1("logits", *BUNDLED, *good).stdout_bytes
    for path in bad:
        assert result.stderr.count(str(path)) == 1
    assert "12 failed" in result.stderr


def test_bad_images_keep_their_rows_where_that_is_wanted(
    mixed: tuple[Path, list[Path], list[Path]], tmp_path: Path
) -> None:
    file, good, _ = mixed
    run = (*BUNDLED, "--files-from", file, "--on-error", "row", "-q")
    out = tmp_path / "x.npy"
    assert mnv1("logits", *run, "-o", out).exit_code == 3
    values = np.load(out)
    assert np.isnan(values[1::2]).all()
    mnv1("logits", *BUNDLED, *good, "-o", tmp_path / "good.npy")
    np.testing.assert_array_equal(values[::2], np.load(tmp_path / "good.npy"))
    index = rows((tmp_path / "x.index.csv").read_bytes())
    assert [bool(row["error"]) for row in index] == [False, True] * 12
    found = rows(mnv1("classify", *run, "-f", "csv", "--top", 2).stdout)
    assert list(found[0])[-1] == "error"
    assert [bool(r["error"]) for r in found] == [False, False, True] * 12
    objects = [json.loads(x) for x in mnv1("classify", *run, "-f", "jsonl").stdout.splitlines()]
    assert [o["predictions"] is None for o in objects] == [False, True] * 12
    assert [bool(o["error"]) for o in objects] == [False, True] * 12


def test_on_error_fail_stops_at_the_first_and_leaves_what_was_done(
    few: Path, bad: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "r.csv"
    inputs = [few / "a.jpg", few / "b.png", bad["empty.jpg"], few / "d.jpg", bad["text.jpg"]]
    result = mnv1("classify", *inputs, *BUNDLED, "--on-error", "fail", "-o", out, "--top", 1)
    assert result.exit_code == 1
    assert not out.exists()
    assert names(rows((tmp_path / "r.csv.part").read_bytes())) == ["a.jpg", "b.png"]
    assert "empty.jpg" in result.stderr
    assert "text.jpg" not in result.stderr
    assert "r.csv.part" in result.stderr


def test_all_bad_is_exit_code_3_with_a_header(bad: dict[str, Path]) -> None:
    del bad["removed.jpg"]  # named outright, it would be a missing input
    result = mnv1("logits", *bad.values(), *BUNDLED)
    assert result.exit_code == 3
    assert result.stdout.startswith("path,0,1,")
    assert result.stdout.count("\n") == 1


def test_a_message_about_a_file_is_one_line_that_no_terminal_obeys(tmp_path: Path) -> None:
    bad = tmp_path / "a\nb\x1b[31m.jpg"
    bad.write_bytes(b"")
    result = mnv1("classify", tmp_path, *BUNDLED, "-q", "-f", "csv")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr


# --- the program -----------------------------------------------------------------


def test_closed_pipe_ends_the_program_quietly(photos: Path) -> None:
    words = command("logits", photos, *BUNDLED, "--batch-size", "1")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline().startswith(b"path,0,")
        run.stdout.close()
        errors = run.stderr.read()
    assert run.returncode == 0
    assert errors == b""


def test_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            command("classify", EXAMPLES, *BUNDLED),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert run.returncode == 1
    assert run.stderr == b"mnv1: error: cannot write stdout: No space left on device\n"


def test_closed_stdin_and_stdout_are_no_obstacle(tmp_path: Path) -> None:
    words = command("classify", EXAMPLES, *BUNDLED, "-q")
    closed = ["sh", "-c", '"$@" <&- >&-', "sh"]
    refused = subprocess.run([*closed, *words], capture_output=True, check=False)
    assert (refused.returncode, refused.stderr.count(b"\n")) == (1, 1)
    assert b"stdout is closed" in refused.stderr
    out = tmp_path / "r.csv"
    run = subprocess.run([*closed, *words, "-o", out], capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")
    assert len(rows(out.read_bytes())) == 15


def test_stderr_of_a_clean_run_is_empty_with_quiet() -> None:
    run = program("classify", EXAMPLES, *BUNDLED, "-q")
    assert (run.returncode, run.stderr) == (0, b"")
    assert len(rows(run.stdout)) == 15


def test_verbose_shows_what_the_libraries_say() -> None:
    quiet = program("classify", EXAMPLES / "coffee.jpg", *BUNDLED)
    verbose = program("classify", EXAMPLES / "coffee.jpg", *BUNDLED, "-v", TF_CPP_MIN_LOG_LEVEL="0")
    assert quiet.stderr.count(b"\n") == 1
    assert b"tensorflow" in verbose.stderr.lower() or b"cpu" in verbose.stderr.lower()
    assert verbose.stdout == quiet.stdout


def test_module_show_tells_signatures_and_endpoints() -> None:
    facts = json.loads(mnv1("module", "show", "bundled", "--json").stdout)
    assert facts["tags"] == [[], ["train"]]
    assert facts["signatures"]["default"]["outputs"]["default"]["shape"] == [None, 1001]
    assert (facts["image_size"], facts["classes"], facts["features"]) == (128, 1001, 1024)
    assert "MobilenetV1/Conv2d_5_pointwise" in facts["endpoints"]
    assert facts == json.loads(mnv1("module", "show", "--module", "bundled", "--json").stdout)
    table = mnv1("module", "show", "bundled").stdout
    for fact in (facts["fingerprint"], facts["handle"], "image_feature_vector", "[train]"):
        assert fact in table


def test_module_path_and_list_agree() -> None:
    path = mnv1("module", "path", "bundled").stdout.strip()
    assert json.loads(mnv1("module", "path", "bundled", "--json").stdout)["path"] == path
    cached = json.loads(mnv1("module", "list", "--json").stdout)
    assert path in [entry["path"] for entry in cached]
    assert path in mnv1("module", "list").stdout


def test_module_list_of_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNV1_CACHE_DIR", str(tmp_path / "none"))
    assert json.loads(mnv1("module", "list", "--json").stdout) == []
    assert "no modules" in mnv1("module", "list").stdout


def test_labels_are_found_by_word_and_number() -> None:
    assert [row["class_id"] for row in rows(mnv1("labels", "tabby").stdout)] == ["282"]
    assert rows(mnv1("labels", "282").stdout)[0]["label"] == "tabby"
    assert len(rows(mnv1("labels").stdout)) == 1001
    found = [
        json.loads(line) for line in mnv1("labels", "crane", "-f", "jsonl").stdout.splitlines()
    ]
    assert len([entry for entry in found if entry["label"] == "crane"]) == 2
    assert "tabby cat" in mnv1("labels", "tabby", "-f", "table").stdout
    nothing = mnv1("labels", "no such thing")
    assert (nothing.exit_code, nothing.stdout) == (1, "")


def test_version_is_the_package_version() -> None:
    assert mnv1cli.__version__ in mnv1("--version").stdout


def test_module_comes_from_the_environment(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNV1_MODULE", "nowhere")
    result = mnv1("classify", few)
    assert result.exit_code == 1
    assert "no module 'nowhere'" in result.stderr


def test_image_size_that_the_module_does_not_take_is_refused(few: Path) -> None:
    result = mnv1("classify", few, *BUNDLED, "--image-size", 224)
    assert result.exit_code == 2
    assert "128" in result.stderr
    assert mnv1("classify", few, *BUNDLED, "--image-size", 128).exit_code == 0


def test_two_runs_do_not_write_one_file(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    words = command("classify", "-", *BUNDLED, "-o", out, "--batch-size", 1, "-q")
    with subprocess.Popen(words, stdin=subprocess.PIPE) as first:
        assert first.stdin is not None
        first.stdin.write(f"{few}/a.jpg\n".encode() * 2)
        first.stdin.flush()
        while not (tmp_path / "r.csv.part").exists():
            assert first.poll() is None
        for options in ((), ("--force",)):
            second = mnv1("classify", few, *BUNDLED, "-o", out, *options)
            assert second.exit_code == 1
            assert "another run is writing" in second.stderr
        first.stdin.close()
    assert first.returncode == 0
    assert len(rows(out.read_bytes())) == 10


def test_link_stays_a_link_when_its_file_is_replaced(few: Path, tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert mnv1("classify", few, *BUNDLED, "-o", tmp_path / "link.csv").exit_code == 1
    run = mnv1("classify", few, *BUNDLED, "-o", tmp_path / "link.csv", "--force")
    assert run.exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert rows((tmp_path / "real.csv").read_bytes())


@pytest.mark.parametrize("name", ["out.jpg", ".JPG", "x.tiff"])
def test_results_are_not_written_into_images(few: Path, tmp_path: Path, name: str) -> None:
    result = mnv1("classify", few, *BUNDLED, "-f", "csv", "-o", tmp_path / name, "--force")
    assert result.exit_code == 2
    assert "name of an image" in result.stderr


def test_summary_names_the_file(few: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "r.csv") in mnv1(
        "classify", few, *BUNDLED, "-o", tmp_path / "r.csv"
    ).stderr  # fmt: skip


def test_nan_is_no_probability(few: Path) -> None:
    assert mnv1("classify", few, *BUNDLED, "--min-probability", "nan").exit_code == 2


def test_narrow_terminal_keeps_every_column(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = mnv1("classify", few, *BUNDLED, "-f", "table", "--top", 1).stdout.splitlines()
    assert lines[0].split() == ["image", "rank", "label", "prob."]
    assert max(map(len, lines)) <= 40
    assert sum(line.rstrip().endswith("%") for line in lines) == 4


@pytest.mark.parametrize("name", ["br [1]*?", "back\\slash", "na\u00efve"])
def test_any_name_of_a_modules_folder_works(few: Path, tmp_path: Path, name: str) -> None:
    place = mnv1("module", "path", "bundled").stdout.strip()
    copy = shutil.copytree(place, tmp_path / name)
    result = mnv1("classify", few, "--module", copy, "-f", "csv", "--top", 1)
    assert result.exit_code == 0, result.stderr
    assert len(rows(result.stdout)) == 4


def test_path_of_a_module_that_would_not_stay_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MNV1_CACHE_DIR", str(tmp_path / "file" / "cache"))
    result = mnv1("module", "path", "bundled")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "MNV1_CACHE_DIR" in result.stderr


@pytest.mark.parametrize("arguments", [("labels",), ("module", "list"), ("--version",)])
def test_full_disk_is_one_line_for_small_commands(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        words = command(*arguments)
        run = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert run.returncode == 1
    assert run.stderr.count(b"\n") == 1
    assert b"Traceback" not in run.stderr


@pytest.mark.parametrize(
    "arguments", [("classify", EXAMPLES, *BUNDLED, "-f", "table"), ("labels", "-f", "table")]
)
def test_closed_pipe_is_no_error_for_tables(arguments: tuple[object, ...]) -> None:
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        errors = run.stderr.read()
    assert run.returncode == 0
    assert b"Traceback" not in errors


def test_full_or_closed_stderr_changes_no_exit_code(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            command("classify", EXAMPLES, *BUNDLED),
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert run.returncode == 0
    assert len(rows(run.stdout)) == 15
