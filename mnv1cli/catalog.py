"""What is known beforehand of the MobileNet V1 family: handles and sizes."""

from __future__ import annotations

import itertools
import re

from mnv1cli.records import Variant

HUB = "https://tfhub.dev/google/imagenet/"
DEFAULT_HANDLE = HUB + "mobilenet_v1_100_128/classification/1"

DEPTHS = {"025": 0.25, "050": 0.5, "075": 0.75, "100": 1.0}
IMAGE_SIZES = (128, 160, 192, 224)
KINDS = ("classification", "feature_vector")
VERSIONS = (1, 3, 4, 5)

_FAMILY = re.compile(r"mobilenet[_-]v1[_-](025|050|075|100)[_-](128|160|192|224)(?![0-9])")


def family_name(text: str) -> Variant | None:
    """The variant that a family name or a handle speaks of, if any."""
    found = _FAMILY.search(text)
    return Variant(DEPTHS[found[1]], int(found[2])) if found else None


def handle_of(name: str) -> str | None:
    """The hub's handle for a family name such as `mobilenet_v1_050_160`, if it is one."""
    if not _FAMILY.fullmatch(name):
        return None
    return f"{HUB}{name.replace('-', '_')}/classification/1"


def known_handles() -> list[str]:
    """Every handle of the family, for telling a cached module's name from its directory."""
    return [
        f"{HUB}mobilenet_v1_{depth}_{size}/{kind}/{version}"
        for depth, size, kind, version in itertools.product(DEPTHS, IMAGE_SIZES, KINDS, VERSIONS)
    ]
