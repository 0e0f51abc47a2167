"""A folder of class folders: its classes, which photos are copies, and the part of each photo."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.analysis.near_duplicates import COPY_SIMILARITY
from mnv1cli.errors import MissingInputError, NoImagesError, OptionError
from mnv1cli.inputs.listing import Listing
from mnv1cli.labels.names import FIELDS as LABEL_FIELDS
from mnv1cli.labels.names import imagenet
from mnv1cli.path_text import count, decode_lossy, decode_path, display_path
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.types import IMAGE_SUFFIXES, ImageRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]
    Mask = NDArray[np.bool_]

log = logging.getLogger(__name__)

FIELDS = ("path", "label", "part")
TRAINING, VALIDATION, HELD_OUT = "training", "validation", "held-out"

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """The classes of a folder by their names, and its images with the class of each."""

    names: tuple[str, ...]
    refs: tuple[ImageRef, ...]
    classes: Numbers


def read_class_folders(top: bytes) -> ClassFolders:
    """Read the folders in `top` as classes, by the bytes of their names, and the images in them.

    Everything else in `top` is left out, with a warning where it might have been
    meant: images, links to folders, folders without an image.

    Raises:
        MissingInputError: there is no such folder.
        OptionError: it is a file, has no class folder, or only one.
    """
    names: list[str] = []
    refs: list[ImageRef] = []
    classes: list[int] = []
    for folder in _list_folders(top):
        images = list(Listing([folder]))
        if not images:
            log.warning("no images in %s: it is not a class", display_path(folder))
            continue
        classes += [len(names)] * len(images)
        names.append(decode_lossy(os.path.basename(folder))[0])
        refs += images
    if len(names) < 2:
        content = f"only one class folder, {names[0]}" if names else "no class folders with images"
        raise OptionError(
            f"{display_path(top)} has {content}",
            "two folders or more are needed, one for each class",
        )
    if len(set(names)) < len(names):
        raise OptionError(
            f"two class folders in {display_path(top)} differ only in bytes that are not UTF-8",
            "rename one",
        )
    numbered = tuple(ImageRef(i, ref.path, problem=ref.problem) for i, ref in enumerate(refs))
    return ClassFolders(tuple(names), numbered, np.array(classes, np.int64))


def _list_folders(top: bytes) -> list[bytes]:
    """List the visible folders in `top` by name; warn of images and of links beside them."""
    if not os.path.lexists(top):
        raise MissingInputError(f"no such folder: {display_path(top)}")
    if not os.path.isdir(top):
        raise OptionError(
            f"{display_path(top)} is a file", "finetune takes a folder with a folder for each class"
        )
    with os.scandir(top) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(b".")), key=lambda e: e.name)
    images = [e for e in visible if e.is_file() and _suffix(e.name) in IMAGE_SUFFIXES]
    if images:
        more = f" and {count(len(images) - 1, 'more image')}" if len(images) > 1 else ""
        verb = "are" if more else "is"
        log.warning(
            "%s%s %s in no class folder and left out", display_path(images[0].path), more, verb
        )
    for entry in visible:
        if entry.is_symlink() and entry.is_dir():
            log.warning("%s is a link to a folder and is left out", display_path(entry.path))
    return [entry.path for entry in visible if entry.is_dir(follow_symlinks=False)]


def _suffix(name: bytes) -> bytes:
    return os.path.splitext(name)[1].lower()[1:]


def encode_label_table(names: Sequence[str]) -> bytes:
    """Encode class names as the CSV that `read_labels` reads.

    A folder whose name is a WordNet id has it in `wnid` too, and ImageNet's
    names for that id among the synonyms.
    """
    by_wnid = {name.wnid: name for name in imagenet()}
    rows = []
    for i, name in enumerate(names):
        wnid = name if _WNID.fullmatch(name) else ""
        same = by_wnid.get(wnid) if wnid else None
        synonyms = [part for part in (same.label, same.synonyms) if part] if same else []
        rows.append((str(i), wnid, name, ", ".join(synonyms)))
    return encode_rows([LABEL_FIELDS, *rows])


def hold_out(groups: Numbers, classes: Numbers, fraction: float, seed: int) -> Mask:
    """Choose the images to hold out: about `fraction` of each class, drawn by `seed`.

    Images of one group stay together. Of a class with two groups at least one
    is held out, and at least one stays. Returns a mask of the images.
    """
    generator = np.random.default_rng(seed)
    members = _count_members(groups, classes)
    sizes = np.bincount(classes).tolist()
    taken = [0] * len(sizes)
    chosen: set[int] = set()
    # The rarest class first: it has the least choice.
    for number in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        mine = [group for group, counts in members.items() if number in counts]
        for group in generator.permutation(mine).tolist():
            counts = members[group]
            # Over the mark by less than half of the group is nearer than under it.
            near = taken[number] + counts[number] / 2 <= fraction * sizes[number]
            all_stay = all(taken[i] + size < sizes[i] for i, size in counts.items())
            if group not in chosen and all_stay and (near or not taken[number]):
                chosen.add(group)
                for i, size in counts.items():
                    taken[i] += size
    return np.isin(groups, list(chosen))


def _count_members(groups: Numbers, classes: Numbers) -> dict[int, dict[int, int]]:
    """Count the images of each group in each class that it has any of."""
    pairs, counts = np.unique(np.stack([groups, classes]), axis=1, return_counts=True)
    members: dict[int, dict[int, int]] = {}
    for (group, number), size in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        members.setdefault(group, {})[number] = size
    return members


def check_classes(names: Sequence[str], classes: Numbers, groups: Numbers) -> None:
    """Refuse classes that cannot be split.

    Raises:
        NoImagesError: a class has fewer than two different images; names it.
    """
    for number, name in enumerate(names):
        mine = groups[classes == number]
        if len(np.unique(mine)) > 1:
            continue
        shown = display_path(name.encode())
        if len(mine) < 2:
            size = "a single image" if len(mine) else "no image"
            raise NoImagesError(
                f"class {shown} has {size} that can be read",
                "at least two are needed, one of them to test with",
            )
        raise NoImagesError(
            f"the {len(mine)} images of class {shown} are copies of one photo "
            f"(features more alike than {COPY_SIMILARITY})",
            "at least two different ones are needed, one of them to test with",
        )


def find_conflicts(classes: Numbers, groups: Numbers) -> list[tuple[int, int]]:
    """Find copies in different classes: a pair of images for each group that has some."""
    pairs = []
    for group in np.flatnonzero(np.bincount(groups) > 1):
        members = np.flatnonzero(groups == group)
        others = members[classes[members] != classes[members[0]]]
        if len(others):
            pairs.append((int(members[0]), int(others[0])))
    return pairs


def encode_split_table(
    paths: Sequence[bytes], names: Sequence[str], classes: Any, parts: Any
) -> bytes:
    """Encode the split as CSV: path, label and part of every image that was used."""
    rows = (
        (decode_path(path), names[number], part)
        for path, number, part in zip(paths, classes, parts, strict=True)
    )
    return encode_rows([FIELDS, *rows])
