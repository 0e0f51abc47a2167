"""The family as it was published: names, sizes, handles."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from mnv1cli.modules.catalog import (
    DEFAULT_HANDLE,
    expand_family_name,
    list_handles,
    parse_family_name,
)
from mnv1cli.types import Variant

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTHS = {"025": 0.25, "050": 0.5, "075": 0.75, "100": 1.0}
SIZES = (128, 160, 192, 224)
FAMILY = list(itertools.product(DEPTHS, SIZES))


@pytest.mark.parametrize(("depth", "size"), FAMILY)
@pytest.mark.parametrize(
    "spelling",
    [
        "mobilenet_v1_{}_{}",
        "mobilenet-v1-{}-{}",
        "https://tfhub.dev/google/imagenet/mobilenet_v1_{}_{}/classification/1",
        "https://tfhub.dev/google/imagenet/mobilenet_v1_{}_{}/feature_vector/5",
        "https://mirror.example/imagenet/mobilenet_v1_{}_{}/classification/4?tf-hub-format=compressed",
        "./modules/mobilenet_v1_{}_{}_classification_1.tar.gz",
    ],
)
def test_family_name_tells_depth_and_size(spelling: str, depth: str, size: int) -> None:
    assert parse_family_name(spelling.format(depth, size)) == Variant(DEPTHS[depth], size)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bundled",
        "mobilenet_v1",
        "mobilenet_v1_100",
        "mobilenet_v1_1.0_224",
        "mobilenet_v1_100_96",
        "mobilenet_v1_100_1280",
        "mobilenet_v1_140_224",
        "mobilenet_v1_100128",
        "mobilenet_v2_100_128",
        "https://tfhub.dev/google/imagenet/mobilenet_v2_100_224/classification/1",
        "https://tfhub.dev/google/imagenet/inception_v3/classification/1",
    ],
)
def test_other_names_are_not_of_the_family(text: str) -> None:
    assert parse_family_name(text) is None
    assert expand_family_name(text) is None


@pytest.mark.parametrize(("depth", "size"), FAMILY)
def test_family_name_stands_for_its_first_classification_module(depth: str, size: int) -> None:
    assert expand_family_name(f"mobilenet_v1_{depth}_{size}") == (
        f"https://tfhub.dev/google/imagenet/mobilenet_v1_{depth}_{size}/classification/1"
    )


def test_default_is_the_module_of_128_pixels_in_full_depth() -> None:
    assert expand_family_name("mobilenet_v1_100_128") == DEFAULT_HANDLE
    assert DEFAULT_HANDLE == (
        "https://tfhub.dev/google/imagenet/mobilenet_v1_100_128/classification/1"
    )


@pytest.mark.parametrize(
    "decorate",
    [
        lambda name: DEFAULT_HANDLE,
        lambda name: f" {name}",
        lambda name: f"{name}\n",
        lambda name: f"{name}/",
        lambda name: f"./{name}",
        lambda name: f"{name}.tar.gz",
    ],
)
def test_only_the_bare_name_stands_for_a_handle(decorate: Callable[[str], str]) -> None:
    assert expand_family_name(decorate("mobilenet_v1_100_128")) is None


@pytest.mark.parametrize("separators", [*itertools.product("_-", repeat=3)])
def test_a_handle_is_never_made_up(separators: tuple[str, str, str]) -> None:
    first, second, third = separators
    name = f"mobilenet{first}v1{second}100{third}128"
    assert expand_family_name(name) in (None, *list_handles())


def test_known_handles_are_the_whole_family_once() -> None:
    handles = list_handles()
    assert len(handles) == len(set(handles)) == 16 * 2 * 4
    assert set(handles) == {
        f"https://tfhub.dev/google/imagenet/mobilenet_v1_{depth}_{size}/{kind}/{version}"
        for (depth, size), kind, version in itertools.product(
            FAMILY, ("classification", "feature_vector"), (1, 3, 4, 5)
        )
    }
    assert DEFAULT_HANDLE in handles
    assert all(parse_family_name(handle) for handle in handles)
