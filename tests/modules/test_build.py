"""Modules built from the user's weights, for all sizes of the family."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.errors import OutputError, WeightsError
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules import build, catalog, files, inspection, weights
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

# Each depth and each size once: neither depends on the other.
SIZES = list(zip(catalog.DEPTHS.values(), catalog.IMAGE_SIZES, strict=True))


def write_npz(folder: Path, depth: float, size: int, classes: int | None = 1001) -> Path:
    rng = np.random.default_rng(2)
    shapes = weights.list_shapes(depth, classes)
    arrays: dict[str, Any] = {
        name: (np.abs(rng.normal(size=shape)) * 0.1 + 0.1).astype(np.float32)
        for name, shape in shapes.items()
    }
    path = folder / f"mobilenet_v1_{depth}_{size}.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(("depth", "size"), SIZES)
def test_every_size_builds_and_runs_at_its_own_image_size(
    tmp_path: Path, depth: float, size: int
) -> None:
    out = tmp_path / "module"
    build.build_module(None, write_npz(tmp_path, depth, size), None, None, out)
    found = inspection.open_module(str(out))
    width = int(1024 * depth)
    assert (found.image_size, found.classes(), found.feature_length()) == (size, 1001, width)
    model = TensorFlowModel(found, [found.features()])
    images = np.random.default_rng(0).random((2, size, size, 3), dtype=np.float32)
    features = model(images)["features"]
    assert features.shape == (2, width)
    assert np.isfinite(features).all()


def test_command_tells_the_fingerprint(tmp_path: Path) -> None:
    source = write_npz(tmp_path, 0.25, 160, classes=None)
    out = tmp_path / "m"
    facts = json.loads(mnv1("module", "build", "--weights", source, "-o", out, "--json").stdout)
    assert facts["fingerprint"] == inspection.open_module(str(out)).fingerprint
    assert inspection.open_module(str(out)).image_size == 160
    assert sorted(os.listdir(tmp_path)) == ["m", source.name]


def test_options_say_what_the_file_does_not(tmp_path: Path) -> None:
    source = write_npz(tmp_path, 0.5, 128).rename(tmp_path / "w.npz")
    out = tmp_path / "m"
    build.build_module(None, source, 0.5, 192, out)
    assert inspection.open_module(str(out)).image_size == 192
    with pytest.raises(WeightsError, match="depth multiplier"):
        build.build_module(None, source, 1.0, None, tmp_path / "n")
    assert sorted(os.listdir(tmp_path)) == ["m", "w.npz"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = write_npz(tmp_path, 0.25, 128)
    with pytest.raises(OutputError, match="exists"):
        build.build_module(None, source, None, None, source)
    with pytest.raises(OutputError, match="no folder"):
        build.build_module(None, source, None, None, tmp_path / "no" / "where")


@pytest.mark.parametrize(
    ("content", "says"), [(b"not npz", "not an .npz file"), (None, "not an .npz file")]
)
def test_what_holds_no_weights_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    source = tmp_path / "w.npz"
    if content is not None:
        source.write_bytes(content)
    result = mnv1("module", "build", "--weights", source, "-o", tmp_path / "m")
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["model.ckpt", "archive.tgz", "folder"])
def test_checkpoint_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    result = mnv1("module", "build", "--checkpoint", tmp_path / name, "-o", tmp_path / "m")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "checkpoint" in result.stderr


def test_one_source_of_weights_is_needed(tmp_path: Path) -> None:
    assert mnv1("module", "build", "-o", tmp_path / "m").exit_code == 2
    both = ("--checkpoint", "a", "--weights", "b")
    assert mnv1("module", "build", *both, "-o", tmp_path / "m").exit_code == 2


def test_an_archive_has_entries_for_its_folders(tmp_path: Path) -> None:
    source = write_npz(tmp_path, 0.25, 128)
    directory, archive, again = (tmp_path / name for name in ("m", "m.tar.gz", "again.tar.gz"))
    fingerprint = build.build_module(None, source, None, None, directory)
    for target in (archive, again):
        assert build.build_module(None, source, None, None, target, as_tar=True) == fingerprint
    assert archive.read_bytes() == again.read_bytes()
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    # The names as they are stored: `tarfile` takes the slash from folders.
    folders = [member.name for member in members if member.isdir()]
    wanted = [name for name in ("assets", "variables") if (directory / name).is_dir()]
    assert folders == [".", *(f"./{name}" for name in wanted)]
    assert [m.name for m in members if m.isfile()] == [
        f"./{name}" for name in files.list_files(directory)
    ]
    with gzip.open(archive) as stream:
        assert stream.read(3) == b"./\0"
    assert inspection.open_module(str(archive)).fingerprint == fingerprint


def test_an_archive_has_its_assets(tmp_path: Path) -> None:
    directory = tmp_path / "m"
    for name in ("assets", "variables"):
        (directory / name).mkdir(parents=True)
        (directory / name / "file").write_bytes(b"bytes")
    (directory / "saved_model.pb").write_bytes(b"graph")
    archive = tmp_path / "m.tar.gz"
    build._pack(directory, archive)
    with gzip.open(archive) as stream:
        data = stream.read()
    names = [data[i : i + 100].rstrip(b"\0") for i in range(0, len(data), 512)]
    assert [name for name in names if name.startswith(b"./")] == [
        b"./", b"./assets/", b"./variables/",
        b"./assets/file", b"./saved_model.pb", b"./variables/file",
    ]  # fmt: skip
