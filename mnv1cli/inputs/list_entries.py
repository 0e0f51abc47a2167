"""The images that a list names: files, objects in stores, and files in archives."""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.inputs.archives import split_member
from mnv1cli.inputs.passes import WantedMember
from mnv1cli.inputs.path_lists import is_ready, read_path_groups
from mnv1cli.inputs.walk import ListedImage
from mnv1cli.storage.location import get_scheme, is_remote
from mnv1cli.storage.stores import RemoteImage, require_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mnv1cli.inputs.archives import Shelf

# Entries that are read ahead, so that a pass through a packed archive serves them all.
_MAX_AHEAD = 20_000


def list_entries(file: BinaryIO, name: str, null: bool, shelf: Shelf) -> Iterator[ListedImage]:
    """List the images that a list called `name` names; none is looked for yet.

    Raises:
        OptionError: it is not a list of paths, or a library for an entry is not installed.
    """

    def make_image(path: bytes) -> ListedImage:
        return _make_image(path, shelf)

    groups = read_path_groups(file, name, null)
    for group in groups:
        images = deque(map(make_image, group))
        _read_ahead(images, groups, make_image, file)
        while images:
            # Not kept here: what nobody is going to read need not wait in memory.
            yield images.popleft()


def _read_ahead(
    images: deque[ListedImage],
    groups: Iterator[list[bytes]],
    make_image: Callable[[bytes], ListedImage],
    file: BinaryIO,
) -> None:
    """Add the next entries, as far as they are ready, where packed archives are read."""
    start = 0
    while (
        any(isinstance(image.read, WantedMember) for image in islice(images, start, None))
        and len(images) < _MAX_AHEAD
        and is_ready(file)
    ):
        start = len(images)
        images.extend(map(make_image, next(groups, ())))


def _make_image(path: bytes, shelf: Shelf) -> ListedImage:
    if is_remote(path):
        # A missing library shows with the first such path, before any work.
        require_library(get_scheme(path))
        if split_member(path) is None:
            return ListedImage(path, read=RemoteImage(path))
    if (member := split_member(path)) is not None:
        archive, inside = member
        return ListedImage(path, read=shelf.get(archive).open_member(inside))
    if get_scheme(path) and not os.path.lexists(path):
        return ListedImage(path, "not a URI that can be read")
    return ListedImage(path)
