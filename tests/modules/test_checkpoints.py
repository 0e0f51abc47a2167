"""Checkpoints of training, by any of their names and in both formats."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.errors import ModuleError, WeightsError
from mnv1cli.modules import weights
from mnv1cli.modules.formats.checkpoints import find_checkpoint
from tests.support import exports
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEPTH = 0.25


def make_variables(fill: float) -> dict[str, np.ndarray]:
    """Make the variables of a small network, all of a value."""
    shapes = weights.list_shapes(DEPTH, 10)
    return {name: np.full(shape, fill, np.float32) for name, shape in shapes.items()}


def save(
    prefix: Path, fill: float, scope: str = "", v1: bool = False, sharded: bool = False
) -> None:
    """Save a checkpoint as TF1's `Saver` writes it."""
    import tensorflow as tf
    from tensorflow.core.protobuf.saver_pb2 import SaverDef

    v1_api = tf.compat.v1
    version = SaverDef.V1 if v1 else SaverDef.V2
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default():
        for i, (name, value) in enumerate(make_variables(fill).items()):
            with tf.device(f"/cpu:{i % 2}" if sharded else None):
                v1_api.get_variable(scope + name, initializer=value, use_resource=False)
        v1_api.train.get_or_create_global_step()
        saver = v1_api.train.Saver(write_version=version, sharded=sharded, max_to_keep=None)
        config = v1_api.ConfigProto(device_count={"CPU": 2})
        with v1_api.Session(config=config) as session:
            session.run(v1_api.global_variables_initializer())
            saver.save(session, str(prefix))


def read(path: Path) -> float:
    """Read the value of which all variables of a checkpoint are."""
    variables = weights.read_checkpoint(path)
    assert set(variables) == set(make_variables(0))
    (value,) = {float(np.unique(variable).item()) for variable in variables.values()}
    return value


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of training with checkpoints of steps 5, 20 and 100, of which 20 is the latest."""
    folder = tmp_path_factory.mktemp("train")
    for step in (5, 100, 20):
        save(folder / f"model.ckpt-{step}", step)
    (folder / "events.out.tfevents.1").write_bytes(b"events")
    (folder / "graph.pbtxt").write_text("node {}")
    return folder


@pytest.fixture
def train(trained: Path, tmp_path: Path) -> Path:
    """A copy of the folder, elsewhere: its list of checkpoints has paths that are gone."""
    shutil.copytree(trained, tmp_path / "moved")
    return tmp_path / "moved"


# --- which checkpoint ----------------------------------------------------------------


def test_folder_of_training_follows_its_list(train: Path, trained: Path) -> None:
    assert str(trained) in (train / "checkpoint").read_text()
    for path in (train, train / "checkpoint"):
        assert find_checkpoint(path) == train / "model.ckpt-20"
        assert read(path) == 20


@pytest.mark.parametrize("suffix", ["", ".index", ".meta", ".data-00000-of-00001"])
def test_every_file_of_a_checkpoint_means_it(train: Path, suffix: str) -> None:
    assert read(train / f"model.ckpt-5{suffix}") == 5


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("model.ckpt-5", 5),
        ("./model.ckpt-5", 5),
        ("/home/else/train/model.ckpt-5", 5),
        (r"C:\\\\Users\\\\me\\\\train\\\\model.ckpt-5", 5),
        (r"/home/m\303\274ller/model.ckpt-5", 5),
        (r"/home/model.ckpt-\065", 5),
    ],
)
def test_list_may_name_it_in_any_way(train: Path, written: str, value: int) -> None:
    (train / "checkpoint").write_text(
        f'model_checkpoint_path: "{written}"\nall_model_checkpoint_paths: "model.ckpt-100"\n'
    )
    assert read(train) == value


def test_list_may_name_a_folder_below(train: Path) -> None:
    (train / "saved").mkdir()
    for file in train.glob("model.ckpt-*"):
        file.rename(train / "saved" / file.name)
    (train / "checkpoint").write_text('model_checkpoint_path: "saved/model.ckpt-100"')
    assert read(train) == 100


def test_several_without_a_list_are_named(train: Path) -> None:
    (train / "checkpoint").unlink()
    result = mnv1("module", "build", "--checkpoint", train, "-o", train / "m")
    assert result.exit_code == 1
    assert result.stderr == (
        f"mnv1: error: {train} holds 3 checkpoints, and no file 'checkpoint' that names the "
        "latest: model.ckpt-5, model.ckpt-20, model.ckpt-100; name one of them\n"
    )


def test_checkpoint_that_the_list_names_in_vain_is_named(train: Path) -> None:
    for file in train.glob("model.ckpt-20.*"):
        file.unlink()
    with pytest.raises(WeightsError) as caught:
        find_checkpoint(train)
    assert str(caught.value) == (
        f"{train / 'checkpoint'} names model.ckpt-20, which is not in its folder; "
        "name one of model.ckpt-5, model.ckpt-100"
    )
    for file in train.glob("model.ckpt-5.*"):
        file.unlink()
    # The only one is meant.
    assert read(train) == 100


@pytest.mark.parametrize(
    "content",
    [b"", b"model", b"\xff\xfe", b'model_checkpoint_path: ""', b'model_checkpoint_path: "../x"'],
)
def test_damaged_or_hostile_list_is_one_line(train: Path, content: bytes) -> None:
    (train / "checkpoint").write_bytes(content)
    save(train.parent / "x", 7)
    with pytest.raises(WeightsError, match=r"names no |does not name the latest") as caught:
        find_checkpoint(train)
    assert "\n" not in str(caught.value)


def test_similar_names_are_proposed(train: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_checkpoint(train / "model.ckpt")
    assert str(caught.value) == (
        f"no such checkpoint: {train / 'model.ckpt'}; "
        "name one of model.ckpt-5, model.ckpt-20, model.ckpt-100"
    )


def test_folder_above_is_searched(train: Path) -> None:
    assert read(train.parent) == 20
    shutil.copytree(train, train.parent / "other")
    with pytest.raises(WeightsError, match=r"in several folders: moved, other; name one"):
        find_checkpoint(train.parent)


@pytest.mark.parametrize("name", ["graph.pbtxt", "events.out.tfevents.1"])
def test_other_file_is_no_checkpoint(train: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="is not a checkpoint of TensorFlow"):
        find_checkpoint(train / name)


def test_folder_without_any_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no checkpoint$"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["a [1]", "a*b?", "grüße", os.fsdecode(b"\xff")])
def test_names_that_tensorflow_would_misread(train: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for file in train.glob("model.ckpt-5.*"):
        shutil.copy(file, folder / f"{name}.ckpt{file.suffix}")
    assert read(folder) == 5
    assert read(folder / f"{name}.ckpt") == 5


# --- formats -------------------------------------------------------------------------


def test_first_format_is_read(tmp_path: Path) -> None:
    save(tmp_path / "model.ckpt-3", 3, v1=True)
    save(tmp_path / "model.ckpt-4", 4, v1=True)
    assert not list(tmp_path.glob("*.index"))
    assert read(tmp_path) == 4
    for name in ("model.ckpt-3", "model.ckpt-3.meta"):
        assert read(tmp_path / name) == 3
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(WeightsError, match=r"latest: model\.ckpt-3, model\.ckpt-4; name one"):
        find_checkpoint(tmp_path)


def test_first_format_in_several_files_is_read(tmp_path: Path) -> None:
    save(tmp_path / "model.ckpt-3", 3, v1=True, sharded=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert "model.ckpt-3-00002-of-00003" in names
    for name in ("", "checkpoint", "model.ckpt-3", "model.ckpt-3.meta", names[1]):
        assert read(tmp_path / name) == 3


@pytest.mark.parametrize("scope", ["module/", "train/module/"])
def test_scope_of_a_program_is_left_out(tmp_path: Path, scope: str) -> None:
    save(tmp_path / "model.ckpt", 3, scope=scope)
    assert read(tmp_path) == 3


def test_variables_of_two_scopes_are_not_mixed(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m", {f"{scope}/{name}": value for scope in "ab"
                                  for name, value in make_variables(1).items()})  # fmt: skip
    assert weights.read_checkpoint(tmp_path) == {}
    save_tensors(tmp_path / "m", {**make_variables(2), **{f"a/{name}": value
                                  for name, value in make_variables(1).items()}})  # fmt: skip
    assert read(tmp_path) == 2


def save_tensors(prefix: Path, values: Mapping[str, Any]) -> None:
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=list(values), shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )  # fmt: skip


def test_variables_of_a_tf2_export_are_read(tmp_path: Path) -> None:
    export = exports.export_module(tmp_path / "export", make_variables(0.5), size=128)
    out = tmp_path / "m"
    result = mnv1("module", "build", "--checkpoint", export, "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(mnv1("module", "show", "--json", "--module", out).stdout)
    assert (facts["format"], facts["classes"]) == ("TF1 Hub module", 10)


# --- archives --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_archive_of_a_folder_of_training(train: Path, tmp_path: Path, kind: str) -> None:
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path, "moved")
    # The suffix does not matter.
    renamed = shutil.move(archive, tmp_path / "packed")
    result = mnv1("module", "build", "--checkpoint", renamed, "-o", tmp_path / "m")
    assert result.exit_code == 0, result.stderr
    assert read(tmp_path / "m" / "variables") == read(train)


def test_archive_of_several_is_named_and_not_its_temporary_folder(
    train: Path, tmp_path: Path
) -> None:
    (train / "checkpoint").unlink()
    with tarfile.open(tmp_path / "t.tgz", "w:gz") as tar:
        tar.add(train, arcname=".")
    result = mnv1("module", "build", "--checkpoint", tmp_path / "t.tgz", "-o", tmp_path / "m")
    assert result.stderr.startswith(f"mnv1: error: {tmp_path / 't.tgz'} holds 3 checkpoints, and")


def test_size_is_in_the_name_of_the_checkpoint(tmp_path: Path) -> None:
    save(tmp_path / "train" / "mobilenet_v1_0.25_160.ckpt", 1)
    for path in (tmp_path / "train", tmp_path / "train" / "checkpoint"):
        out = tmp_path / f"m-{path.name}"
        assert mnv1("module", "build", "--checkpoint", path, "-o", out).exit_code == 0
        facts = json.loads(mnv1("module", "show", "--json", "--module", out).stdout)
        assert facts["image_size"] == 160


# --- damage ------------------------------------------------------------------------------


@pytest.mark.parametrize("v1", [False, True])
def test_damaged_checkpoint_is_one_line(tmp_path: Path, v1: bool) -> None:
    save(tmp_path / "m.ckpt", 1, v1=v1)
    file = tmp_path / ("m.ckpt" if v1 else "m.ckpt.index")
    content = file.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content) - 8, 3):
            damaged[place] ^= int(generator.integers(1, 256))
        file.write_bytes(damaged)
        with contextlib.suppress(ModuleError):
            variables = weights.read_checkpoint(tmp_path / "m.ckpt")
            weights.check_shapes(variables, weights.list_shapes(DEPTH, 10))
    file.write_bytes(content[: len(content) // 2] + content[-8:])
    result = mnv1("module", "build", "--checkpoint", tmp_path, "-o", tmp_path / "m")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mnv1: error: the checkpoint {tmp_path}/m.ckpt cannot be read")
    assert result.stderr.count("\n") == 1


def test_data_that_is_missing_is_one_line(train: Path) -> None:
    (train / "model.ckpt-20.data-00000-of-00001").unlink()
    result = mnv1("module", "build", "--checkpoint", train, "-o", train / "m")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mnv1: error: the checkpoint {train}/model.ckpt-20 cannot be")
    assert result.stderr.count("\n") == 1
