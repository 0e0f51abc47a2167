"""From the images that Python callers pass to refs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mnv1cli.inputs.archives import is_archive
from mnv1cli.inputs.listing import Listing
from mnv1cli.storage.location import is_remote
from mnv1cli.storage.stores import RemoteImage
from mnv1cli.types import IMAGE_SUFFIXES, ImageRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    ImagePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    ImageInput = ImagePath | Image.Image | NDArray[np.uint8]
    ImageInputs = ImageInput | Iterable[ImageInput]


def make_refs(images: ImageInputs) -> Iterator[ImageRef]:
    """Make refs of one or many images, numbered in their order; folders and archives are listed."""
    if isinstance(images, str | bytes | os.PathLike | Image.Image | np.ndarray):
        images = [images]
    index = 0
    for image in images:
        if not isinstance(image, str | bytes | os.PathLike):
            yield ImageRef(index, b"", source=image)
            index += 1
            continue
        name = os.fsencode(image)
        if is_remote(name) and os.path.splitext(name)[1].lower()[1:] in IMAGE_SUFFIXES:
            # Its name says that it is an image: not looked up beforehand, as there may be many.
            yield ImageRef(index, name, member=RemoteImage(name))
            index += 1
            continue
        if not is_remote(name) and not os.path.isdir(name) and not is_archive(name):
            yield ImageRef(index, name)
            index += 1
            continue
        for ref in Listing([name]):
            yield ImageRef(index, ref.path, problem=ref.problem, member=ref.member)
            index += 1
