"""TF2 exports that a source of a TF1 handle serves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.errors import UnreachableError
from mnv1cli.modules import cache, catalog, files, inspection, locate, weights
from tests.support import exports
from tests.support import hub as hubs
from tests.support.hub import HANDLE_PATH, QUERY, SLOT, Hub
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("online")

FEATURES_PATH = HANDLE_PATH.replace("classification", "feature_vector")


@pytest.fixture(scope="module")
def variables(bundled: Path) -> dict[str, Any]:
    return weights.read_checkpoint(bundled / "variables")


@pytest.fixture(scope="module")
def plain(variables: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled weights as a TF2 SavedModel."""
    return exports.export_module(tmp_path_factory.mktemp("export") / "plain", variables)


@pytest.mark.parametrize("kind", ["plain", "wrapped", "scoped"])
def test_tf1_module_is_built_from_the_variables(
    hub: Hub,
    own_cache: Path,
    kind: str,
    plain: Path,
    bundled: Path,
    variables: dict[str, Any],
    tmp_path: Path,
) -> None:
    export = plain
    if kind == "wrapped":
        export = exports.export_wrapped(tmp_path / "export", bundled)
    elif kind == "scoped":
        scope = "hub/keras_layer/"
        export = exports.export_module(tmp_path / "export", variables, lambda name: scope + name)
    assert files.is_tf2_export(export)
    hub.answers[QUERY] = hubs.sends(hubs.pack(export))
    assert locate.locate("hub").path == own_cache / SLOT
    assert files.compute_fingerprint(own_cache / SLOT) == files.compute_fingerprint(bundled)
    assert not files.is_tf2_export(own_cache / SLOT)
    assert set(inspection.open_module("hub").signatures) == {
        "default", "image_classification", "image_feature_vector",
    }  # fmt: skip


@pytest.mark.parametrize("with_head", [True, False])
def test_feature_vectors_are_built_without_the_head(
    hub: Hub,
    own_cache: Path,
    plain: Path,
    variables: dict[str, Any],
    tmp_path: Path,
    with_head: bool,
) -> None:
    export = plain
    if not with_head:
        export = exports.export_module(tmp_path / "export", weights.remove_head(variables))
    hub.answers[FEATURES_PATH] = hubs.sends(hubs.pack(export))
    module = inspection.open_module(f"{catalog.HUB}mobilenet_v1_100_128/feature_vector/1")
    assert (module.classes(), module.feature_length()) == (None, 1024)


def test_export_without_a_head_is_no_classification_module(
    hub: Hub, own_cache: Path, variables: dict[str, Any], tmp_path: Path
) -> None:
    export = exports.export_module(tmp_path / "export", weights.remove_head(variables))
    hub.answers[QUERY] = hubs.sends(hubs.pack(export))
    with pytest.raises(UnreachableError, match="variables of the classification are missing"):
        locate.locate("hub")
    assert not (own_cache / SLOT).exists()


def test_export_of_another_network_is_a_failure_and_the_next_source_serves(
    hub: Hub, own_cache: Path, packed: bytes, tmp_path: Path
) -> None:
    import tensorflow as tf

    other = tf.Module()
    other.kernel = tf.Variable(np.ones((3, 5), np.float32), name="dense/kernel")
    call = tf.function(
        lambda images: tf.reduce_mean(images, [1, 2]) @ other.kernel,
        input_signature=[tf.TensorSpec([None, 128, 128, 3], tf.float32, name="images")],
    )
    signature = call.get_concrete_function()
    tf.saved_model.save(other, str(tmp_path / "other"), signatures=signature)
    hub.answers[QUERY] = hubs.sends(hubs.pack(tmp_path / "other"))
    with pytest.raises(UnreachableError) as caught:
        locate.locate("hub")
    failure = next(text for text in caught.value.failures if text.startswith(hub.url + QUERY))
    assert "serves a TF2 SavedModel, from which the TF1 module cannot be built: " in failure
    assert "\n" not in failure
    hub.answers[f"{HANDLE_PATH}.tar.gz"] = hubs.sends(packed)
    assert locate.locate("hub").path == own_cache / SLOT
    # Under its own handle it is a module like any other.
    handle = f"{hub.url}/team/other/1"
    hub.answers["/team/other/1"] = hubs.sends(hubs.pack(tmp_path / "other"))
    assert files.is_tf2_export(locate.locate(handle).path)


@pytest.mark.parametrize("version", [4, 5])
def test_handles_of_tf2_keep_the_export(
    hub: Hub, own_cache: Path, plain: Path, version: int
) -> None:
    handle = f"{catalog.HUB}mobilenet_v1_100_128/classification/{version}"
    hub.answers[f"{HANDLE_PATH[:-1]}{version}"] = hubs.sends(hubs.pack(plain))
    assert locate.locate(handle).path == cache.cache_directory(handle)
    assert files.compute_fingerprint(cache.cache_directory(handle)) == (
        files.compute_fingerprint(plain)
    )


def test_commands_that_need_the_tf1_module_work(hub: Hub, own_cache: Path, plain: Path) -> None:
    hub.answers[QUERY] = hubs.sends(hubs.pack(plain))
    facts = json.loads(mnv1("module", "show", "--json", "--module", "hub").stdout)
    assert facts["format"] == "TF1 Hub module"
    assert facts["tags"] == [[], ["train"]]
    assert facts["features"] == 1024
