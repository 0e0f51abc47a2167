"""A folder of class folders: its classes, which photos are copies, and which part each is in."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import MissingInputError, NoImagesError, OptionError
from mnv1cli.inputs.listing import Listing
from mnv1cli.labels import names as labels
from mnv1cli.path_text import display_path, text, text_path
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.types import IMAGE_SUFFIXES, ImageRef

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mnv1cli.types import FloatArray

    Numbers = NDArray[np.int64]
    Mask = NDArray[np.bool_]

log = logging.getLogger(__name__)

FIELDS = ("path", "label", "part")
TRAINING, VALIDATION, HELD_OUT = "training", "validation", "held-out"

# Photos whose feature vectors are more alike than this are copies of one another: the
# same photo in another size or another quality.
COPY_SIMILARITY = 0.98
# Rows of similarities that are held at once.
_ROWS = 512
_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """The classes of a folder by their names, and its images with the class of each."""

    names: tuple[str, ...]
    refs: tuple[ImageRef, ...]
    labels: Numbers


def class_folders(top: bytes) -> ClassFolders:
    """The folders in `top` as classes, by the bytes of their names, and the images below them.

    What else lies in `top` is left out, with a warning where it might have been
    meant: images, links to folders, folders without an image.

    Raises:
        MissingInputError: there is no such folder.
        OptionError: it is a file, has no class folder, or only one.
    """
    folders = _folders(top)
    names: list[str] = []
    refs: list[ImageRef] = []
    numbers: list[int] = []
    for folder in folders:
        found = list(Listing([folder]))
        if not found:
            log.warning("no images in %s: it is no class", display_path(folder))
            continue
        numbers += [len(names)] * len(found)
        names.append(text_path(os.path.basename(folder))[0])
        refs += found
    if len(names) < 2:
        have = f"one class folder alone, {names[0]}" if names else "no class folders with images"
        raise OptionError(
            f"{display_path(top)} has {have}", "two folders or more are needed, one for each class"
        )
    if len(set(names)) < len(names):
        raise OptionError(
            f"two class folders in {display_path(top)} have the same name but for bytes that are "
            "no UTF-8",
            "rename one",
        )
    numbered = tuple(ImageRef(i, ref.path, problem=ref.problem) for i, ref in enumerate(refs))
    return ClassFolders(tuple(names), numbered, np.array(numbers, np.int64))


def _folders(top: bytes) -> list[bytes]:
    """The visible folders in `top` by name; tells of images and of links that lie beside them."""
    if not os.path.lexists(top):
        raise MissingInputError(f"no such folder: {display_path(top)}")
    if not os.path.isdir(top):
        raise OptionError(
            f"{display_path(top)} is a file", "finetune takes a folder with one folder a class"
        )
    with os.scandir(top) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(b".")), key=lambda e: e.name)
    images = [e for e in visible if e.is_file() and _suffix(e.name) in IMAGE_SUFFIXES]
    if images:
        more = f" and {len(images) - 1:,} more images" if len(images) > 1 else ""
        log.warning(
            "%s%s lie in no class folder and are left out", display_path(images[0].path), more
        )
    for entry in visible:
        if entry.is_symlink() and entry.is_dir():
            log.warning("%s is a link to a folder and is left out", display_path(entry.path))
    return [entry.path for entry in visible if entry.is_dir(follow_symlinks=False)]


def _suffix(name: bytes) -> bytes:
    return os.path.splitext(name)[1].lower()[1:]


def label_table(names: Sequence[str]) -> bytes:
    """The class names as the CSV that `labels.read_labels` reads.

    A folder whose name is a WordNet id has it in `wnid` too, and what ImageNet
    calls that among the synonyms.
    """
    known = {name.wnid: name for name in labels.imagenet()}
    rows = []
    for i, name in enumerate(names):
        wnid = name if _WNID.fullmatch(name) else ""
        found = known.get(wnid) if wnid else None
        others = [part for part in (found.label, found.synonyms) if part] if found else []
        rows.append((str(i), wnid, name, ", ".join(others)))
    return encode_rows([labels.FIELDS, *rows])


def copies(features: FloatArray, similarity: float = COPY_SIMILARITY) -> Numbers:
    """A number for each row of [n, d]: the same for copies, and for copies of copies.

    Copies are rows with a cosine above `similarity`, equal rows among them.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = features / np.where(lengths > 0, lengths, 1)
    # Nothing has no direction: rows of zeros are copies of one another alone.
    units = np.concatenate([units, lengths == 0], axis=1, dtype=np.float32)
    groups = np.arange(len(units))
    for start in range(0, len(units), _ROWS):
        alike = units[start : start + _ROWS] @ units[start:].T > similarity
        for i in np.flatnonzero(alike.sum(axis=1) > 1):
            joined = np.unique(groups[start:][alike[i]])
            if len(joined) > 1:
                groups[np.isin(groups, joined)] = joined[0]
    return groups


def held_out(groups: Numbers, classes: Numbers, fraction: float, seed: int) -> Mask:
    """Which images are held out: about `fraction` of each class, drawn by `seed`.

    Images of one group stay together. Of a class with two groups at least one
    is held out, and one at least stays.
    """
    chance = np.random.default_rng(seed)
    members = _members(groups, classes)
    sizes = np.bincount(classes).tolist()
    taken = [0] * len(sizes)
    chosen: set[int] = set()
    # The rarest class first: it has the least choice.
    for number in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        mine = [group for group, found in members.items() if number in found]
        for group in chance.permutation(mine).tolist():
            found = members[group]
            # Over the mark by less than half of the group is nearer than under it.
            near = taken[number] + found[number] / 2 <= fraction * sizes[number]
            all_stay = all(taken[i] + count < sizes[i] for i, count in found.items())
            if group not in chosen and all_stay and (near or not taken[number]):
                chosen.add(group)
                for i, count in found.items():
                    taken[i] += count
    return np.isin(groups, list(chosen))


def _members(groups: Numbers, classes: Numbers) -> dict[int, dict[int, int]]:
    """Each group's images in each class that it has any of."""
    pairs, counts = np.unique(np.stack([groups, classes]), axis=1, return_counts=True)
    members: dict[int, dict[int, int]] = {}
    for (group, number), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        members.setdefault(group, {})[number] = count
    return members


def check_classes(names: Sequence[str], classes: Numbers, groups: Numbers) -> None:
    """Refuse classes that cannot be split.

    Raises:
        NoImagesError: names the class, and how many images it has.
    """
    for number, name in enumerate(names):
        mine = groups[classes == number]
        if len(np.unique(mine)) > 1:
            continue
        shown = display_path(name.encode())
        if len(mine) < 2:
            count = "a single image" if len(mine) else "no image"
            raise NoImagesError(
                f"class {shown} has {count} that can be read", "two is the least, one to test with"
            )
        raise NoImagesError(
            f"the {len(mine)} images of class {shown} are copies of one photo "
            f"(features more alike than {COPY_SIMILARITY})",
            "two different ones is the least, one to test with",
        )


def conflicts(classes: Numbers, groups: Numbers) -> list[tuple[int, int]]:
    """Pairs of images that are copies of one another and lie in different classes, one a group."""
    pairs = []
    for group in np.flatnonzero(np.bincount(groups) > 1):
        members = np.flatnonzero(groups == group)
        others = members[classes[members] != classes[members[0]]]
        if len(others):
            pairs.append((int(members[0]), int(others[0])))
    return pairs


def split_table(paths: Sequence[bytes], names: Sequence[str], classes: Any, parts: Any) -> bytes:
    """The split as CSV: path, label and part of every image that was used."""
    rows = (
        (text(path), names[number], part)
        for path, number, part in zip(paths, classes, parts, strict=True)
    )
    return encode_rows([FIELDS, *rows])
