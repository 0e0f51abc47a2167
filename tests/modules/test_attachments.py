"""The file of class names that a module brings, registered as an asset of its graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from mnv1cli.errors import ModuleError
from mnv1cli.modules import inspection, mobilenet, weights
from mnv1cli.modules.attachments import find_labels
from mnv1cli.modules.locate import LocatedModule
from mnv1cli.types import Variant
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = b"class_id,wnid,label,synonyms\n0,,cat,\n1,,dog,\n"
ASSETS = "saved_model_assets"
OURS, USUAL = "module_apply_default/labels_1:0", "assets/labels.csv"


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A module with the names of its two classes."""
    directory = tmp_path / "named"
    directory.mkdir()
    shapes = weights.list_shapes(0.25, 2)
    variables = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    mobilenet.write_module(directory, variables, Variant(0.25, 128), TABLE)
    return directory


def change_graphs(directory: Path, change: Callable[[Any], None]) -> None:
    """Change both graphs of a module."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = directory / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved_model.meta_graphs:
        change(graph)
    file.write_bytes(saved_model.SerializeToString())


def make_graph(assets: list[tuple[str, str]]) -> Any:
    """Make a graph whose assets (tensor and file) are in the collection of the hub's library."""
    from tensorflow.core.protobuf import meta_graph_pb2

    graph = meta_graph_pb2.MetaGraphDef()
    for tensor, file in assets:
        asset = meta_graph_pb2.AssetFileDef(filename=file)
        asset.tensor_info.name = tensor
        graph.collection_def[ASSETS].any_list.value.add().Pack(asset)
    return graph


@pytest.mark.parametrize("tags", [[], ["train"]])
def test_tensorflow_opens_the_module_with_the_file(named: Path, tags: list[str]) -> None:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(named), tags=tags)
    assert [asset.asset_path.numpy() for asset in loaded.asset_paths] == [
        str(named / USUAL).encode()
    ]
    assert [tensor.name for tensor in loaded.graph.get_collection("asset_filepaths")] == [
        "labels:0"
    ]


def test_a_module_with_names_is_not_refused(named: Path) -> None:
    module = inspection.open_module(str(named))
    assert (module.foreign, module.foreign_training) == ((), ())
    assert module.labels_path == named / USUAL
    # From the record in the cache as well.
    assert inspection.open_module(str(named)) == module


def test_a_file_that_was_renamed_gives_the_names(named: Path, tmp_path: Path) -> None:
    def rename(graph: Any) -> None:
        words = next(node for node in graph.graph_def.node if node.name == "labels")
        graph.graph_def.node.add().CopyFrom(words)
        words.name = "a"
        del graph.asset_file_def[:]
        assets = make_graph([("a:0", "labels.csv"), ("labels:0", "labels.csv0")]).collection_def
        graph.collection_def[ASSETS].CopyFrom(assets[ASSETS])

    change_graphs(named, rename)
    (named / USUAL).rename(named / "assets" / "labels.csv0")
    (named / USUAL).write_text("the words of a wrapper\n")
    photo = tmp_path / "photo.png"
    Image.new("RGB", (20, 20)).save(photo)
    result = mnv1("classify", photo, "--module", named, "--top", 2)
    assert result.exit_code == 0, result.stderr
    labels = {line.split(",")[4] for line in result.stdout.splitlines()[1:]}
    assert labels == {"cat", "dog"}


def test_a_file_that_is_not_registered_gives_the_names(named: Path) -> None:
    def forget(graph: Any) -> None:
        del graph.asset_file_def[:]
        graph.collection_def.pop(ASSETS)

    change_graphs(named, forget)
    assert inspection.open_module(str(named)).labels == USUAL


@pytest.mark.parametrize(
    ("assets", "labels"),
    [
        ([(OURS, "labels.csv0")], "assets/labels.csv0"),
        ([("labels:0", "labels.csv0"), ("words:0", "labels.csv")], "assets/labels.csv0"),
        ([("words:0", "labels.csv0")], USUAL),
        ([("labels:0", "words.txt")], USUAL),
        ([("labels:0", "labels.csv/../../outside")], USUAL),
        ([("labels:0", "../labels.csv")], USUAL),
        ([("labels:0", "labels.csv\0")], USUAL),
        ([("labels:0", "labels.csv.gone")], USUAL),
        ([], USUAL),
    ],
)
def test_the_registered_file_comes_first(
    tmp_path: Path, assets: list[tuple[str, str]], labels: str
) -> None:
    (tmp_path / "assets").mkdir()
    for name in ("labels.csv", "labels.csv0", "words.txt"):
        (tmp_path / "assets" / name).write_bytes(TABLE)
    (tmp_path / "outside").write_bytes(TABLE)
    assert find_labels(tmp_path, make_graph(assets)) == labels


def test_a_module_without_names_has_none(tmp_path: Path) -> None:
    assert find_labels(tmp_path, make_graph([("labels:0", "labels.csv")])) is None


def test_a_damaged_list_of_assets_is_an_error(named: Path) -> None:
    def damage(graph: Any) -> None:
        graph.collection_def[ASSETS].any_list.value[0].value = b"\xff\xff"

    change_graphs(named, damage)
    with pytest.raises(ModuleError, match=r"cannot read .*saved_model\.pb"):
        inspection.read_module(LocatedModule(str(named), named))
