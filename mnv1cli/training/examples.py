"""Images with their classes: the feature vector of each, which are copies, and the parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.analysis.near_duplicates import group_copies
from mnv1cli.errors import NoImagesError
from mnv1cli.path_text import display_path
from mnv1cli.runs.tally import Tally
from mnv1cli.training import class_folders
from mnv1cli.training.class_folders import HELD_OUT, TRAINING, VALIDATION, hold_out

if TYPE_CHECKING:
    from typing import TextIO

    from mnv1cli.inference.job import Job
    from mnv1cli.training.class_folders import ClassFolders, Mask, Numbers
    from mnv1cli.training.options import FinetuneOptions
    from mnv1cli.types import FloatArray, ImageRef

log = logging.getLogger(__name__)

# The share of the training side that --full keeps for validation, which stops the training.
_VALIDATION_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Examples:
    """Images with the class of each."""

    refs: tuple[ImageRef, ...]
    classes: Numbers

    def balance(self) -> FloatArray:
        """Weigh the images so that each class has the same sum and their mean is 1."""
        counts = np.bincount(self.classes)
        weights = len(self.classes) / (np.count_nonzero(counts) * counts[self.classes])
        return weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Photos:
    """The images that can be read, with class, features, group of copies and part of each."""

    names: tuple[str, ...]
    refs: tuple[ImageRef, ...]
    classes: Numbers
    features: FloatArray
    groups: Numbers
    parts: Any

    def mask(self, part: str) -> Mask:
        """Return which images are in a part."""
        chosen: Mask = self.parts == part
        return chosen

    def select(self, part: str) -> Examples:
        """Return the images of a part, for training."""
        chosen = np.flatnonzero(self.mask(part))
        return Examples(tuple(self.refs[i] for i in chosen), self.classes[chosen])

    def encode_split(self) -> bytes:
        """Encode the split as the CSV beside the module."""
        paths = [ref.path for ref in self.refs]
        return class_folders.encode_split_table(paths, self.names, self.classes, self.parts)


def compute_features(
    job: Job, folders: ClassFolders, progress: TextIO | None
) -> tuple[FloatArray, Tally]:
    """Compute the feature vector of every image, NaN where one failed, which is logged."""
    tally = Tally(progress)
    rows = [np.empty((0, *job.shape), np.float32)]
    try:
        for table in job.compute_tables(folders.refs):
            tally.add(table)
            assert table.values is not None
            rows.append(table.values)
    finally:
        tally.close()
    return np.concatenate(rows), tally


def split_photos(folders: ClassFolders, features: FloatArray, options: FinetuneOptions) -> Photos:
    """Split the images that can be read, in groups of copies, each group into one part.

    Raises:
        NoImagesError: a class has too few.
    """
    good: Any = ~np.isnan(features).any(axis=1)
    refs = tuple(ref for ref, kept in zip(folders.refs, good.tolist(), strict=True) if kept)
    classes, features = folders.classes[good], features[good]
    groups = group_copies(features)
    class_folders.check_classes(folders.names, classes, groups)
    _warn_of_conflicts(refs, classes, groups)
    held_out = hold_out(groups, classes, options.held_out, options.seed)
    if not held_out.any():
        raise NoImagesError("no image can be held out: the classes are copies of one another")
    parts = np.where(held_out, HELD_OUT, TRAINING).astype(object)
    if options.full:
        remaining = np.flatnonzero(~held_out)
        chosen = hold_out(groups[remaining], classes[remaining], _VALIDATION_SHARE, options.seed)
        if not chosen.any():
            raise NoImagesError(
                "--full needs three different images of a class",
                "one to train with, one to stop by, and one to test with",
            )
        parts[remaining[chosen]] = VALIDATION
    return Photos(folders.names, refs, classes, features, groups, parts)


def _warn_of_conflicts(refs: tuple[ImageRef, ...], classes: Numbers, groups: Numbers) -> None:
    pairs = class_folders.find_conflicts(classes, groups)
    if pairs:
        first, second = (display_path(refs[i].path) for i in pairs[0])
        more = f", and {len(pairs) - 1:,} more such" if len(pairs) > 1 else ""
        log.warning("%s and %s are copies in two classes%s", first, second, more)
