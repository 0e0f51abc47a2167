"""Modules opened by name, and what is read from them."""

from __future__ import annotations

import logging
import shutil
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.errors import ModuleError, SignatureError
from mnv1cli.modules import (
    catalog,
    files,
    hub_module,
    inspection,
    locate,
    mobilenet,
)
from mnv1cli.modules.attachments import ATTACHMENTS
from mnv1cli.modules.signatures import Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bundled() -> hub_module.HubModule:
    return inspection.open_module("bundled")


def test_bundled_module_tells_all_of_itself(bundled: hub_module.HubModule) -> None:
    assert bundled.tags == ((), ("train",))
    assert set(bundled.signatures) == {"default", "image_classification", "image_feature_vector"}
    assert (bundled.image_size, bundled.classes(), bundled.feature_length()) == (128, 1001, 1024)
    assert bundled.logits().result.shape == (-1, 1001)
    assert bundled.features().result.shape == (-1, 1024)
    assert bundled.logits().images.shape == (-1, 128, 128, 3)


def test_endpoints_come_in_the_order_of_the_layers(bundled: hub_module.HubModule) -> None:
    found = list(bundled.endpoints())
    assert found[:3] == [f"MobilenetV1/Conv2d_{n}" for n in ("0", "1_depthwise", "1_pointwise")]
    assert found.index("MobilenetV1/Conv2d_2_depthwise") < found.index(
        "MobilenetV1/Conv2d_10_depthwise"
    )


def test_endpoint_goes_by_its_name_with_or_without_scope(bundled: hub_module.HubModule) -> None:
    assert bundled.endpoint("global_pool") == bundled.endpoint("MobilenetV1/global_pool")
    with pytest.raises(SignatureError, match="global_pool"):
        bundled.endpoint("Conv2d_99")


@pytest.mark.parametrize("scope", ["", "MobilenetV1/"])
@pytest.mark.parametrize("own", ["global_pool", "AvgPool_1a"])
def test_the_pool_has_two_names(bundled: hub_module.HubModule, own: str, scope: str) -> None:
    pool = bundled.endpoint("global_pool").result
    signature = bundled.signatures["image_feature_vector"]
    outputs = {key: spec for key, spec in signature.outputs.items() if "pool" not in key}
    outputs[f"{scope}{own}"] = pool
    signatures = {"image_feature_vector": replace(signature, outputs=outputs)}
    module = replace(bundled, signatures=signatures)
    for name in ("global_pool", "AvgPool_1a", "MobilenetV1/global_pool", "MobilenetV1/AvgPool_1a"):
        endpoint = module.endpoint(name)
        assert (endpoint.name, endpoint.result) == (f"{scope}{own}", pool)


def test_bundled_fingerprint_is_the_same_everywhere(bundled: hub_module.HubModule) -> None:
    """Pin the fingerprint with `mobilenet.REVISION`: a change of the graph changes both."""
    assert mobilenet.REVISION == 2
    assert bundled.fingerprint == (
        "42bfb648636761759cbbc17c19f4fd44d695720b4cb10c73e78bfeca679df387"
    )


def test_archive_gives_the_module_in_it(shared: Path) -> None:
    archive = shared / "hub" / "feature_vector.tar.gz"
    found = inspection.open_module(str(archive))
    assert found.handle == str(archive)
    assert (found.classes(), found.feature_length(), found.image_size) == (None, 1024, 128)
    with pytest.raises(SignatureError, match="it has default, image_feature_vector"):
        found.logits()


def test_directory_and_archive_of_one_module_have_one_fingerprint(
    bundled: hub_module.HubModule, tmp_path: Path
) -> None:
    archive = tmp_path / "module.tgz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(bundled.path, arcname=".")
    copy = shutil.copytree(bundled.path, tmp_path / "copy")
    prints = {inspection.open_module(str(name)).fingerprint for name in (archive, copy)}
    assert prints == {bundled.fingerprint}


@pytest.mark.parametrize("lacking", files.MODULE_FILES)
def test_directory_without_a_file_is_refused_by_the_file_name(
    bundled: hub_module.HubModule, tmp_path: Path, lacking: str
) -> None:
    copy = shutil.copytree(bundled.path, tmp_path / "copy")
    (copy / lacking).unlink()
    with pytest.raises(ModuleError, match=lacking):
        inspection.open_module(str(copy))


def test_damaged_graph_is_named(bundled: hub_module.HubModule, tmp_path: Path) -> None:
    copy = shutil.copytree(bundled.path, tmp_path / "copy")
    (copy / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(ModuleError, match=r"saved_model\.pb"):
        inspection.open_module(str(copy))


@pytest.mark.parametrize("name", ["nowhere", "mobilenet_v1_100_999", ""])
def test_unknown_name_is_refused_with_what_is_known(name: str) -> None:
    with pytest.raises(ModuleError, match="'bundled'"):
        inspection.open_module(name)


def test_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    photo = tmp_path / "photo.tar.gz"
    photo.write_bytes(b"not an archive")
    with pytest.raises(ModuleError, match="not an intact"):
        inspection.open_module(str(photo))


def test_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "other.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(__file__, arcname="test.py")
    with pytest.raises(ModuleError, match=r"does not hold a module: saved_model\.pb"):
        inspection.open_module(str(archive))


@pytest.mark.parametrize(
    ("name", "handle"),
    [
        ("hub", catalog.DEFAULT_HANDLE),
        (catalog.DEFAULT_HANDLE, catalog.DEFAULT_HANDLE),
        (
            "mobilenet_v1_050_160",
            "https://tfhub.dev/google/imagenet/mobilenet_v1_050_160/classification/1",
        ),
    ],
)
def test_named_module_that_is_not_cached_is_an_error_and_never_another(
    own_cache: Path, name: str, handle: str
) -> None:
    with pytest.raises(ModuleError, match="is not in the cache") as caught:
        inspection.open_module(name)
    assert handle in str(caught.value)
    assert not own_cache.exists()


def test_default_is_the_cached_module(
    own_cache: Path, bundled: hub_module.HubModule, caplog: pytest.LogCaptureFixture
) -> None:
    place = own_cache / "5503b6afe269a54d2c6b31e191da98c2a85ddf04"
    shutil.copytree(bundled.path, place)
    with caplog.at_level(logging.WARNING):
        assert locate.locate() == locate.LocatedModule(catalog.DEFAULT_HANDLE, place)
    assert not caplog.records


def test_default_without_a_cached_module_is_the_bundled_one_with_a_warning(
    own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = locate.locate()
    assert found.handle == "bundled"
    assert found.path.parent == own_cache
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "224" in warnings[0]
    assert catalog.DEFAULT_HANDLE in warnings[0]


def test_unwritable_cache_does_not_keep_the_bundled_module_from_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundled: hub_module.HubModule
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("a file where the cache would be")
    monkeypatch.setenv("MNV1_CACHE_DIR", str(blocker / "cache"))
    assert inspection.open_module("bundled").fingerprint == bundled.fingerprint


class FakeGraph:
    """The part of a MetaGraphDef that the image size is read from."""

    def __init__(self, attachments: list[bytes]) -> None:
        from tensorflow.core.protobuf import meta_graph_pb2

        self.collection_def = meta_graph_pb2.MetaGraphDef().collection_def
        self.collection_def[ATTACHMENTS].bytes_list.value.extend(attachments)


def make_signature(*shape: int) -> dict[str, Signature]:
    return {"default": Signature({"images": TensorSpec("x:0", "float32", shape)}, {})}


ATTACHED_160 = b"\n\x11image_module_info\x12\x08\n\x06\x08\xa0\x01\x10\xa0\x01"


@pytest.mark.parametrize(
    ("attachments", "shape", "handle", "size"),
    [
        ([ATTACHED_160], (-1, 128, 128, 3), "x", 160),
        ([], (-1, 128, 128, 3), "mobilenet_v1_100_224", 128),
        ([], (-1, -1, -1, 3), f"{catalog.HUB}mobilenet_v1_025_192/classification/1", 192),
        ([], (-1, -1, -1, 3), "some/module", None),
        ([], (), "some/module", None),
    ],
    ids=["attachment", "shape", "name", "nothing", "unknown rank"],
)
def test_image_size_is_asked_of_attachment_shape_and_name_in_turn(
    attachments: list[bytes], shape: tuple[int, ...], handle: str, size: int | None
) -> None:
    graph: Any = FakeGraph(attachments)
    assert inspection.read_image_size(graph, make_signature(*shape), handle) == size


def test_module_of_oblong_images_is_refused() -> None:
    graph: Any = FakeGraph([])
    with pytest.raises(ModuleError, match="96x128"):
        inspection.read_image_size(graph, make_signature(-1, 96, 128, 3), "some/module")


# What a module says of itself is noted, so that the next run need not ask TensorFlow.


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of handles of the modules whose graph is read."""
    handles: list[str] = []
    read = inspection.read_module

    def counted(located: locate.LocatedModule, *options: Any) -> hub_module.HubModule:
        handles.append(located.handle)
        return read(located, *options)

    monkeypatch.setattr(inspection, "read_module", counted)
    return handles


def test_graph_is_read_once(
    bundled: hub_module.HubModule, own_cache: Path, reads: list[str]
) -> None:
    first, second = (inspection.open_module(str(bundled.path)) for _ in range(2))
    assert first == second
    assert reads == [str(bundled.path)]


@pytest.mark.parametrize("content", [b"", b"{}", b"{", b'{"format": 3}'])
def test_damaged_note_of_a_module_is_made_anew(
    bundled: hub_module.HubModule, own_cache: Path, reads: list[str], content: bytes
) -> None:
    first = inspection.open_module(str(bundled.path))
    (note,) = own_cache.rglob("*.json")
    note.write_bytes(content)
    assert inspection.open_module(str(bundled.path)) == first
    assert len(reads) == 2
    assert inspection.open_module(str(bundled.path)) == first
    assert len(reads) == 2


def test_another_handle_or_content_is_read_anew(
    bundled: hub_module.HubModule, own_cache: Path, tmp_path: Path, reads: list[str]
) -> None:
    inspection.open_module(str(bundled.path))
    copy = shutil.copytree(bundled.path, tmp_path / "copy")
    assert inspection.open_module(str(copy)).handle == str(copy)
    (copy / "assets").mkdir(exist_ok=True)
    (copy / "assets" / "new").touch()
    assert inspection.open_module(str(copy)).fingerprint != bundled.fingerprint
    assert reads == [str(bundled.path), str(copy), str(copy)]


def test_unwritable_cache_does_not_keep_a_module_from_being_read(
    bundled: hub_module.HubModule, unwritable_cache: Path, reads: list[str]
) -> None:
    for _ in range(2):
        assert inspection.open_module(str(bundled.path)).fingerprint == bundled.fingerprint
    assert len(reads) == 2
