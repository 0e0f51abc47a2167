"""The bundled module in each size of the family."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import OptionError
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.settings import Settings
from mnv1cli.modules import files, inspection, locate
from mnv1cli.modules.bundled import parse_image_size
from tests.support import hub as hubs
from tests.support.hub import QUERY, Hub
from tests.support.shell import BUNDLED, EXAMPLES, mnv1, rows

if TYPE_CHECKING:
    from pathlib import Path

SIZES = (128, 160, 192, 224)
AT_224 = ("--module", "bundled", "--image-size", 224)


def test_each_size_is_a_module_of_its_own(bundled: Path) -> None:
    assert locate.locate("bundled", image_size=128).path == bundled
    fingerprints = {
        inspection.open_module("bundled", image_size=size).fingerprint for size in SIZES
    }
    assert len(fingerprints) == len(SIZES)
    assert files.compute_fingerprint(bundled) in fingerprints
    for size in SIZES:
        module = inspection.open_module("bundled", image_size=size)
        assert (module.handle, module.image_size) == ("bundled", size)
        assert all(s.inputs["images"].shape == (-1, size, size, 3)
                   for s in module.signatures.values())  # fmt: skip


@pytest.mark.parametrize("size", [1, 100, 127, 256, 448])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(OptionError, match="use --image-size 128, 160, 192 or 224"):
        Predictor("bundled", Settings(image_size=size))


@pytest.mark.parametrize("module", [BUNDLED, ()])
@pytest.mark.parametrize(
    "command",
    [("classify", EXAMPLES), ("embed", EXAMPLES), ("bench", EXAMPLES), ("module", "path"),
     ("module", "show"), ("module", "quantize", EXAMPLES), ("finetune", EXAMPLES, "-o", "tuned")],
    ids=lambda words: "-".join(map(str, words[:2])),
)  # fmt: skip
def test_commands_refuse_other_sizes_in_one_line(
    command: tuple[object, ...], module: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = mnv1(*command, *module, "--image-size", 100)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "not made for images of 100x100; use --image-size 128, 160, 192 or 224" in result.stderr


def test_labels_features_and_metadata_are_of_the_size(tmp_path: Path) -> None:
    files_of = {}
    for size in (128, 224):
        file = files_of[size] = tmp_path / f"{size}.csv"
        assert mnv1("classify", EXAMPLES, *AT_224[:3], size, "-o", file).exit_code == 0
        metadata = json.loads((tmp_path / f"{size}.csv.meta.json").read_text())
        assert (metadata["module"]["handle"], metadata["module"]["image_size"]) == ("bundled", size)
    assert files_of[128].read_bytes() != files_of[224].read_bytes()
    assert mnv1("embed", EXAMPLES, *AT_224, "-o", tmp_path / "index.npy").exit_code == 0
    result = mnv1(
        "similar", tmp_path / "index.npy", EXAMPLES / "chelsea.png", "--top", 1, "-f", "csv"
    )
    assert [float(row["similarity"]) for row in rows(result.stdout)] == [pytest.approx(1, abs=1e-6)]


def test_at_224_the_weights_are_as_good_as_they_were_trained(photos: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    names = sorted(path.name for path in photos.iterdir())
    truth.write_text("path,label\n" + "".join(f"{name},{name[:9]}\n" for name in names))
    result = mnv1("evaluate", photos, "--truth", truth, *AT_224, "--json")
    figures = json.loads(result.stdout)
    assert (figures["n"], figures["failed"]) == (len(names), 0)
    assert figures["top1"] > 0.85


@pytest.mark.parametrize("size", [None, 160, 224])
def test_fallback_has_the_size_and_says_what_it_costs(
    size: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        module = inspection.open_module(image_size=size)
    assert (module.handle, module.image_size) == ("bundled", size or 128)
    (warning,) = [r.getMessage() for r in caplog.records if r.name.startswith("mnv1cli")]
    assert "trained at 224x224" in warning
    assert ("--image-size 224 gives better labels" in warning) is (size != 224)


@pytest.mark.usefixtures("online")
def test_module_of_the_hub_has_its_own_size(hub: Hub, warm_cache: Path, packed: bytes) -> None:
    hub.answers[QUERY] = hubs.sends(packed)
    for module in ((), ("--module", "hub")):
        result = mnv1("classify", EXAMPLES, "--image-size", 224, *module)
        assert result.exit_code == 2
        assert "states that its images are 128x128, not 224x224" in result.stderr
        assert "--module mobilenet_v1_100_224, or --module bundled" in result.stderr
    assert mnv1("classify", EXAMPLES, "--image-size", 128, "-f", "csv").exit_code == 0


def test_list_shows_the_sizes_and_remove_takes_all_of_them(own_cache: Path, hub: Hub) -> None:
    assert mnv1("module", "path", "bundled", "--image-size", 224).exit_code == 0
    assert mnv1("module", "path", "bundled").exit_code == 0
    entries = json.loads(mnv1("module", "list", "--json").stdout)
    assert [entry["image_size"] for entry in entries] == [128, 224]
    sizes = re.findall(r"^bundled:\S+ +(\d+) ", mnv1("module", "list").stdout, re.MULTILINE)
    assert sizes == ["128", "224"]
    # A name in the list is one that --module takes.
    named = mnv1("module", "show", entries[-1]["handle"], "--json")
    assert json.loads(named.stdout)["image_size"] == 224
    assert mnv1("module", "verify", "bundled").stdout.count("unchanged") == 2
    assert mnv1("module", "remove", "bundled").stdout.count("removed") == 2
    assert json.loads(mnv1("module", "list", "--json").stdout) == []


def test_list_shows_the_size_of_other_modules(own_cache: Path, shared: Path) -> None:
    archive = shared / "hub" / "small" / "attached_size.tar.gz"
    assert mnv1("module", "path", archive).exit_code == 0
    (entry,) = json.loads(mnv1("module", "list", "--json").stdout)
    # It was unpacked, and nobody has read its graph yet.
    assert entry["image_size"] is None
    size = json.loads(mnv1("module", "show", archive, "--json").stdout)["image_size"]
    (entry,) = json.loads(mnv1("module", "list", "--json").stdout)
    assert entry["image_size"] == size


def test_damaged_module_of_a_size_is_built_anew(own_cache: Path) -> None:
    path = locate.locate("bundled", image_size=160).path
    intact = files.compute_fingerprint(path)
    (path / "saved_model.pb").write_bytes(b"damaged")
    assert inspection.open_module("bundled", image_size=160).fingerprint == intact


@pytest.mark.parametrize(
    ("name", "size"),
    [("bundled:1:ab", 128), ("bundled:1:ab:224", 224), ("bundled", None), ("hub", None),
     ("archive:ab", None), ("bundled:1:ab:x", 128)],
)  # fmt: skip
def test_size_in_the_name_in_the_cache(name: str, size: int | None) -> None:
    assert parse_image_size(name) == size
