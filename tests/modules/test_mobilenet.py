"""The module that `mobilenet` writes, compared with a genuine one of the hub's library."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.errors import WeightsError
from mnv1cli.modules import attachments, files, mobilenet, weights
from mnv1cli.modules.formats import unpack
from mnv1cli.types import Variant

if TYPE_CHECKING:
    from pathlib import Path

Arrays = dict[str, Any]
LOSSES = "regularization_losses"


@pytest.fixture(scope="module")
def genuine(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("genuine")
    unpack.unpack_archive(shared / "hub" / "feature_vector.tar.gz", directory)
    return directory


@pytest.fixture(scope="module")
def genuine_variables(genuine: Path) -> Arrays:
    return checkpoint(genuine)


@pytest.fixture(scope="module")
def rebuilt(genuine_variables: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rebuilt")
    mobilenet.write_module(directory, genuine_variables, Variant(1.0, 128))
    return directory


def checkpoint(directory: Path) -> Arrays:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def read_meta_graphs(directory: Path) -> list[Any]:
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    message.ParseFromString((directory / "saved_model.pb").read_bytes())
    return list(message.meta_graphs)


def make_random_variables(depth: float, classes: int | None, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    shapes = weights.list_shapes(depth, classes)
    variables: Arrays = {}
    for name, shape in shapes.items():
        values = rng.normal(size=shape).astype(np.float32) * 0.2
        variables[name] = np.abs(values) + 0.5 if name.endswith("variance") else values
    return variables


def read_signatures(graph: Any) -> Any:
    """Map names to inputs and outputs with dtype and shape."""

    def specs(tensors: Any) -> Any:
        return {
            key: (info.dtype, [dim.size for dim in info.tensor_shape.dim])
            for key, info in tensors.items()
        }

    return {
        name: (specs(found.inputs), specs(found.outputs), found.method_name)
        for name, found in graph.signature_def.items()
    }


def list_collections(graph: Any) -> Any:
    return {name: found.SerializeToString() for name, found in graph.collection_def.items()}


def evaluate(directory: Path, tags: list[str], names: list[str]) -> Any:
    """Compute scalars of a graph that depend on its variables only."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory), tags=tags)
    return np.array([value.numpy() for value in loaded.prune([], names)()])


def run(directory: Path, tags: list[str], feed: str, fetch: str, images: Any) -> Any:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(directory), tags=tags)
    return loaded.prune(feed, fetch)(tf.constant(images)).numpy()


def test_tags_and_signatures_are_those_of_a_genuine_module(genuine: Path, rebuilt: Path) -> None:
    theirs, ours = read_meta_graphs(genuine), read_meta_graphs(rebuilt)
    assert [list(graph.meta_info_def.tags) for graph in ours] == [[], ["train"]]
    for their, our in zip(theirs, ours, strict=True):
        assert list(our.meta_info_def.tags) == list(their.meta_info_def.tags)
        assert read_signatures(our) == read_signatures(their)


def test_collections_and_attachment_are_those_of_a_genuine_module(
    genuine: Path, rebuilt: Path
) -> None:
    for their, our in zip(read_meta_graphs(genuine), read_meta_graphs(rebuilt), strict=True):
        ours = list_collections(our)
        # This module was exported without TF-Slim's arguments for training.
        assert ours.pop(LOSSES)
        assert ours == list_collections(their)


@pytest.fixture(scope="module")
def slim(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module of TF-Slim's network with its arguments for training, by the real library."""
    archive = shared / "hub" / "small" / "v3_variable.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no module of the real library in {archive}")
    directory = tmp_path_factory.mktemp("slim")
    unpack.unpack_archive(archive, directory)
    return directory


@pytest.fixture(scope="module")
def slim_rebuilt(slim: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("slim_rebuilt")
    mobilenet.write_module(directory, checkpoint(slim), Variant(0.25, 128))
    return directory


def test_regularisation_losses_are_those_of_tf_slim(slim: Path, slim_rebuilt: Path) -> None:
    for their, our in zip(read_meta_graphs(slim), read_meta_graphs(slim_rebuilt), strict=True):
        theirs, ours = (
            list(graph.collection_def[LOSSES].node_list.value) for graph in (their, our)
        )
        # The name scope of TF-Slim's network is there twice.
        twice, once = "MobilenetV1/MobilenetV1/", "MobilenetV1/"
        assert list(ours) == [name.replace(twice, once) for name in theirs]
    values = []
    for directory, names in ((slim, theirs), (slim_rebuilt, ours)):
        values.append(evaluate(directory, ["train"], list(names)))
    np.testing.assert_array_equal(*values)
    assert len(values[0]) == 15
    assert (values[0] > 0).all()


def test_endpoints_are_those_of_tf_slim(slim: Path, slim_rebuilt: Path) -> None:
    for their, our in zip(read_meta_graphs(slim), read_meta_graphs(slim_rebuilt), strict=True):
        for name, signature in our.signature_def.items():
            assert set(signature.outputs) == set(their.signature_def[name].outputs)


@pytest.mark.parametrize(("classes", "count"), [(7, 15), (None, 14)])
def test_regularisation_losses_are_the_weight_decay(
    tmp_path: Path, classes: int | None, count: int
) -> None:
    variables = make_random_variables(0.25, classes)
    mobilenet.write_module(tmp_path, variables, Variant(0.25, 128))
    kernels = [name for name in weights.list_shapes(0.25, classes) if name.endswith("/weights")]
    for graph in read_meta_graphs(tmp_path):
        names = list(graph.collection_def[LOSSES].node_list.value)
        assert len(names) == count
        losses = evaluate(tmp_path, list(graph.meta_info_def.tags), names)
        wanted = [4e-5 * float((variables[name].astype("f8") ** 2).sum()) / 2 for name in kernels]
        np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_variables_are_those_of_a_genuine_module(rebuilt: Path, genuine_variables: Arrays) -> None:
    ours = checkpoint(rebuilt)
    assert ours.keys() == genuine_variables.keys()
    for name, value in genuine_variables.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_features_are_those_of_a_genuine_module(genuine: Path, rebuilt: Path) -> None:
    images = np.random.default_rng(1).random((3, 128, 128, 3), dtype=np.float32)
    theirs = run(genuine, [], "Placeholder:0", "Squeeze:0", images)
    ours = run(rebuilt, [], "Placeholder:0", "Squeeze:0", images)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(theirs).max() > 0.1


def test_training_graph_updates_the_moving_statistics_as_a_genuine_one_does(
    genuine: Path, rebuilt: Path
) -> None:
    import tensorflow as tf

    images = np.random.default_rng(2).random((4, 128, 128, 3), dtype=np.float32)
    results = []
    for directory in (genuine, rebuilt):
        loaded = tf.saved_model.load(str(directory), tags=["train"])
        updates = list(read_meta_graphs(directory)[1].collection_def["update_ops"].node_list.value)
        assert len(updates) == 54
        graph = loaded.graph
        fetches = ["Squeeze:0", [graph.get_operation_by_name(name) for name in updates]]
        features = loaded.prune("Placeholder:0", fetches)(tf.constant(images))[0].numpy()
        moved = {variable.name: variable.numpy() for variable in loaded.variables}
        results.append((features, moved))
    (their_features, theirs), (our_features, ours) = results
    np.testing.assert_allclose(our_features, their_features, atol=1e-4)
    before = checkpoint(genuine)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    mean = "MobilenetV1/Conv2d_0/BatchNorm/moving_mean"
    assert not np.allclose(ours[f"{mean}:0"], before[mean], atol=1e-7)


def test_training_graph_gives_gradients_to_every_trainable_variable(tmp_path: Path) -> None:
    import tensorflow as tf

    mobilenet.write_module(tmp_path, make_random_variables(0.25, 7), Variant(0.25, 128))
    loaded = tf.saved_model.load(str(tmp_path), tags=["train"])
    logits = loaded.signatures["image_classification"].outputs
    fetch = next(tensor.name for tensor in logits if tensor.shape[-1] == 7)
    function = loaded.prune("Placeholder:0", fetch)
    trainable = [v for v in loaded.variables if "/moving_" not in v.name]
    with tf.GradientTape() as tape:
        tape.watch(trainable)
        loss = tf.reduce_sum(function(tf.random.stateless_uniform((2, 128, 128, 3), (1, 2))) ** 2)
    gradients = tape.gradient(loss, trainable)
    assert len(gradients) == 83
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize(("depth", "size"), [(0.25, 224), (0.5, 128), (0.75, 224), (1.0, 128)])
def test_every_depth_multiplier_builds_with_its_own_shapes(
    tmp_path: Path, depth: float, size: int
) -> None:
    mobilenet.write_module(tmp_path, make_random_variables(depth, 11), Variant(depth, size))
    inference = read_meta_graphs(tmp_path)[0]
    found = read_signatures(inference)
    width = int(1024 * depth)
    assert found["default"][1]["default"][1] == [-1, 11]
    assert found["image_classification"][1]["default"][1] == [-1, 11]
    assert found["image_feature_vector"][1]["default"][1] == [-1, width]
    last = [-1, size // 32, size // 32, width]
    assert found["image_feature_vector"][1]["MobilenetV1/Conv2d_13_pointwise"][1] == last
    assert found["default"][0]["images"][1] == [-1, size, size, 3]
    wire = inference.collection_def[attachments.ATTACHMENTS].bytes_list.value[0]
    assert attachments.decode_image_size(wire) == (size, size)


def test_classification_signature_names_every_endpoint(tmp_path: Path) -> None:
    mobilenet.write_module(tmp_path, make_random_variables(0.25, 5), Variant(0.25, 128))
    outputs = read_signatures(read_meta_graphs(tmp_path)[0])["image_classification"][1]
    layers = [f"Conv2d_{i}_{kind}" for i in range(1, 14) for kind in ("depthwise", "pointwise")]
    names = ["Conv2d_0", *layers, "global_pool", "Logits", "Predictions"]
    assert set(outputs) == {"default", *(f"MobilenetV1/{name}" for name in names)}


def test_cost_is_the_published_one() -> None:
    """Count 4.2 M parameters and 186 M multiply-adds at depth 1.00 and 128x128."""
    shapes = weights.list_shapes()
    parameters = sum(float(np.prod(s)) for n, s in shapes.items() if "/moving_" not in n)
    assert round(parameters / 1e6, 1) == 4.2
    side, operations = 128, 0.0
    for name, shape in shapes.items():
        if not name.endswith("weights"):
            continue
        layer = name.split("/")[1]
        halved = ("Conv2d_0", *(f"Conv2d_{i}_depthwise" for i in (2, 4, 6, 12)))
        side = 1 if layer == "Logits" else side // 2 if layer in halved else side
        operations += float(np.prod(shape)) * side * side
    assert round(operations / 1e6) == 186


BUILD = """
from pathlib import Path
import numpy as np
from mnv1cli.modules import mobilenet, weights
from mnv1cli.types import Variant
rng = np.random.default_rng(5)
shapes = weights.list_shapes(0.25, 10)
variables = {n: np.abs(rng.normal(size=s)).astype("f4") + 0.1 for n, s in shapes.items()}
if order == "reversed":
    variables = dict(reversed(variables.items()))
labels = b"label\\n" + b"class\\n" * 10
mobilenet.write_module(Path(directory), variables, Variant(0.25, 128), labels)
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """This process and another one, which hashes strings otherwise."""
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
    exec(BUILD, {"directory": places[0], "order": "as they are"})
    code = f"directory, order = {str(places[1])!r}, 'reversed'\n{BUILD}"
    environment = {"PYTHONHASHSEED": "1", "PATH": "/usr/bin:/bin"}
    words = [sys.executable, "-c", code]
    subprocess.run(words, check=True, capture_output=True, env=environment)
    digests = [
        {name: hashlib.sha256((place / name).read_bytes()).hexdigest()
         for name in files.list_files(place)}
        for place in places
    ]  # fmt: skip
    assert digests[0] == digests[1]
    assert set(digests[0]) == {*files.MODULE_FILES, files.LABELS_ASSET}


def test_what_is_written_does_not_tell_its_tensorflow(rebuilt: Path) -> None:
    for graph in read_meta_graphs(rebuilt):
        assert graph.meta_info_def.tensorflow_version == ""
        assert graph.meta_info_def.tensorflow_git_version == ""
        assert not graph.meta_info_def.stripped_op_list.op
    assert (rebuilt / "tfhub_module.pb").read_bytes() == b"\x08\x03"


def test_variables_of_optimizers_are_left_out(tmp_path: Path) -> None:
    variables = make_random_variables(0.25, None)
    name = "MobilenetV1/Conv2d_0/weights"
    mobilenet.write_module(
        tmp_path,
        {**variables, f"{name}/RMSProp": variables[name], "global_step": np.zeros(())},
        Variant(0.25, 128),
    )
    assert checkpoint(tmp_path).keys() == variables.keys()


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    variables = make_random_variables(0.25, 10)
    del variables["MobilenetV1/Conv2d_3_depthwise/BatchNorm/gamma"]
    with pytest.raises(WeightsError, match="Conv2d_3_depthwise/BatchNorm/gamma"):
        mobilenet.write_module(tmp_path, variables, Variant(0.25, 128))
    assert not list(tmp_path.iterdir())


def test_variables_of_another_depth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="depth multiplier"):
        mobilenet.write_module(tmp_path, make_random_variables(0.5, 10), Variant(0.25, 128))


@pytest.mark.parametrize(
    "wire",
    [b"", b"\xff\xff", b"\n\x05other\x12\x08\n\x06\x08\x80\x01\x10\x80\x01"],
    ids=["empty", "damaged", "another key"],
)
def test_other_attachments_name_no_image_size(wire: bytes) -> None:
    assert attachments.decode_image_size(wire) is None


def test_attachment_has_the_bytes_that_the_hub_library_writes() -> None:
    wire = b"\n\x11image_module_info\x12\x08\n\x06\x08\x80\x01\x10\x80\x01"
    assert attachments.decode_image_size(wire) == (128, 128)
