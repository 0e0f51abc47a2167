"""The MobileNet V1 family as it was published: handles, archives, checksums."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from mnv1cli.modules import kaggle
from mnv1cli.modules.kaggle import KaggleModel
from mnv1cli.types import Variant

HUB = "https://tfhub.dev/google/imagenet/"
DEFAULT_HANDLE = HUB + "mobilenet_v1_100_128/classification/1"

DEPTHS = {"025": 0.25, "050": 0.5, "075": 0.75, "100": 1.0}
IMAGE_SIZES = (128, 160, 192, 224)
KINDS = ("classification", "feature_vector")
VERSIONS = (1, 3, 4, 5)

_BUCKET = "https://storage.googleapis.com/tfhub-modules/"
_CHECKPOINTS = (
    "https://storage.googleapis.com/download.tensorflow.org/models/mobilenet_v1_2018_02_22/"
)

_FAMILY = re.compile(r"mobilenet[_-]v1[_-](025|050|075|100)[_-](128|160|192|224)(?![0-9])")
_ARCHIVE = re.compile(r"mobilenet_v1_(1\.0|0\.75|0\.5|0\.25)_(128|160|192|224)(?![0-9])")
_KAGGLE_SIZE = re.compile(r"/mobilenet-v1/.*/(025|050|075|100)-(128|160|192|224)-")

# sha256 of the TF-Slim archives, as public build recipes pin them.
_SHA256 = {
    (1.0, 224): "1ccb74dbd9c5f7aea879120614e91617db9534bdfaa53dfea54b7c14162e126b",
    (1.0, 192): "ad683fb270cd1b0f49c820c4acf5fcbbfa546ae354b1345a4fff5f19f99d7c44",
    (1.0, 160): "1f612ebeda0e7e149897273c445b790ca8924a8a1488e6a61d36166a562fd89c",
    (1.0, 128): "d16f3102c1cb087eacf94c6a5abf0477767158fb891b2710409472bca4d988a8",
    (0.75, 224): "bf61b3ce7ca2d045bb35fa6ab9a68732e3531291266db4a8c7715227d7425657",
    (0.75, 192): "3d91d279cd06c055500aabdff8dfbd51a63797c7bb6b3f9a39e243f7c13997e9",
    (0.75, 160): "90b3f26406a89df489373358aa89d9db7bcb66d2400160f16f3687f79e4f66b2",
    (0.75, 128): "54a28065f6f230d0b71cf8fbbc50bbb89b4fdfada8e7e2a622da68b971d5ab97",
    (0.5, 224): "0eb9be8d18dcf9466a2a2d2157e71c83cd70dc168255d76d72bfe965318db725",
    (0.5, 192): "57c81cc48349d1079377f8cdeed3f017500aeb98a12f16c6ed2086a50848ecb6",
    (0.5, 160): "fb01b76ca1fb053e5f98d297e21c6c53d0d9f6a8b02ad2e88ac22b33b2adf729",
    (0.5, 128): "5a0def0d844327526385b110cdcaa6428d0828ff6d07515ef25bf3976e049d88",
    (0.25, 224): "eee166d4d1de004e2ee5de19a4f5045574d764ef59569dc284545f805a295074",
    (0.25, 192): "4889d7afabc31011f5218f6111532947ff7d5b6b9368afe1f152c67c6f30ea73",
    (0.25, 160): "8eb4540af0227e5e59849c41ca6da6f07e257cca887ec0f8cd33aeb46f1405cf",
    (0.25, 128): "34c52de7562259f66399993ef5ea222cc625d2e6f6f886a01fdc6cc99a0c7ee6",
}


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """A URL that may serve a module.

    `sha256` is the published checksum, if there is one. The URL of a checkpoint
    serves only the weights that the module is built from. What Kaggle serves may
    be in the cache of kagglehub.
    """

    url: str
    sha256: str | None = None
    is_checkpoint: bool = False
    kaggle: KaggleModel | None = None


class FamilyModule(NamedTuple):
    """A module of the family in the TF1 Hub format; one that `classifies` has the head, too."""

    variant: Variant
    classifies: bool


def parse_family_name(text: str) -> Variant | None:
    """Return the variant that a family name or a handle names, None without one."""
    match = _FAMILY.search(text) or _KAGGLE_SIZE.search(text)
    return Variant(DEPTHS[match[1]], int(match[2])) if match else None


def parse_tf1_handle(handle: str) -> FamilyModule | None:
    """Return the module of the family that a handle of version 1 or 3 names, else None.

    Versions 4 and 5 are TF2 SavedModels, and the versions on Kaggle count from 1 for each format.
    """
    path = urlsplit(handle).path.strip("/")
    match = _FAMILY.search(path)
    if match is None or path.rpartition("/")[2] not in ("1", "3"):
        return None
    variant = Variant(DEPTHS[match[1]], int(match[2]))
    return FamilyModule(variant, "feature_vector" not in path)


def expand_family_name(name: str) -> str | None:
    """Return the hub's handle for a family name such as `mobilenet_v1_050_160`, else None."""
    if not _FAMILY.fullmatch(name):
        return None
    return f"{HUB}{name.replace('-', '_')}/classification/1"


def advise_size(handle: str, image_size: int) -> str:
    """Return what to name instead of a handle for images of a size: the family has four."""
    variant = parse_family_name(handle)
    if variant is None or image_size not in IMAGE_SIZES:
        return "leave --image-size out"
    name = f"mobilenet_v1_{round(variant.depth_multiplier * 100):03d}_{image_size}"
    return f"name --module {name}, or --module bundled, whose weights come with mnv1"


def format_archive_name(variant: Variant) -> str:
    """Return the name of a variant's TF-Slim archive, without the suffix."""
    # 1.0, 0.75, 0.5, 0.25: as Python writes them.
    return f"mobilenet_v1_{variant.depth_multiplier}_{variant.image_size}"


def parse_archive_name(name: str) -> Variant | None:
    """Return the variant in the name of a TF-Slim archive or checkpoint, None without one."""
    match = _ARCHIVE.search(name)
    return Variant(float(match[1]), int(match[2])) if match else None


def list_handles() -> list[str]:
    """List every handle of the family, to find the handle of a cached module by its directory."""
    return [
        f"{HUB}mobilenet_v1_{depth}_{size}/{kind}/{version}"
        for depth, size, kind, version in itertools.product(DEPTHS, IMAGE_SIZES, KINDS, VERSIONS)
    ]


def list_sources(handle: str, mirrors: list[str]) -> list[ModuleSource]:
    """List the sources of a handle's module, in the order in which to ask them.

    These are the mirrors, the handle itself, the hub's bucket, the checkpoint,
    and the export on Kaggle to which tfhub.dev has redirected since 2023.
    """
    if model := kaggle.parse_handle(handle):
        mirrored = [ModuleSource(f"{mirror}/{model.path}.tar.gz") for mirror in mirrors]
        return [*mirrored, ModuleSource(model.download_url, kaggle=model)]
    path = urlsplit(handle).path.strip("/")
    wanted = parse_tf1_handle(handle)
    checkpoint = format_archive_name(wanted.variant) if wanted else None
    sources = []
    for mirror in mirrors:
        sources.append(ModuleSource(f"{mirror}/{path}?tf-hub-format=compressed"))
        sources.append(ModuleSource(f"{mirror}/{path}.tar.gz"))
        if checkpoint:
            sources.append(ModuleSource(f"{mirror}/{checkpoint}.tgz", is_checkpoint=True))
    sources.append(ModuleSource(_add_archive_query(handle)))
    if handle.startswith("https://tfhub.dev/"):
        sources.append(ModuleSource(f"{_BUCKET}{path}.tar.gz"))
    if wanted:
        digest = _SHA256[wanted.variant.depth_multiplier, wanted.variant.image_size]
        url = f"{_CHECKPOINTS}{checkpoint}.tgz"
        sources.append(ModuleSource(url, digest, is_checkpoint=True))
    variant = parse_family_name(handle)
    if variant is not None and handle.startswith(HUB):
        kind = "feature-vector" if "feature_vector" in path else "classification"
        depth = f"{round(variant.depth_multiplier * 100):03d}"
        variation = f"{depth}-{variant.image_size}-{kind}"
        model = KaggleModel("google", "mobilenet-v1", "tensorFlow2", variation, 2)
        sources.append(ModuleSource(model.download_url, kaggle=model))
    return sources


def _add_archive_query(handle: str) -> str:
    """Add the hub's query argument for an archive to a handle; keep its other arguments."""
    parts = urlsplit(handle)
    query = "&".join(filter(None, (parts.query, "tf-hub-format=compressed")))
    return urlunsplit(parts._replace(query=query))
