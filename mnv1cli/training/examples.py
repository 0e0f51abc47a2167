"""Images with their classes: the feature vector of each, which are copies, and the parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import NoImagesError
from mnv1cli.path_text import display_path
from mnv1cli.runs.tally import Tally
from mnv1cli.training import class_folders
from mnv1cli.training.full import Examples

if TYPE_CHECKING:
    from typing import TextIO

    from mnv1cli.inference.job import Job
    from mnv1cli.training.class_folders import ClassFolders, Numbers
    from mnv1cli.training.options import FinetuneOptions
    from mnv1cli.types import FloatArray, ImageRef

log = logging.getLogger(__name__)

# Of the training side with --full: what training is stopped by.
_VALIDATION_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Photos:
    """The images that can be read, with class, features, group of copies and part of each."""

    names: tuple[str, ...]
    refs: tuple[ImageRef, ...]
    classes: Numbers
    features: FloatArray
    groups: Numbers
    parts: Any

    def rows(self, part: str) -> Any:
        """Which images are in a part, as a mask."""
        return self.parts == part

    def examples(self, part: str) -> Examples:
        """A part's images for training."""
        chosen = np.flatnonzero(self.rows(part))
        return Examples(tuple(self.refs[i] for i in chosen), self.classes[chosen])

    def table(self) -> bytes:
        """The split, as it is written."""
        paths = [ref.path for ref in self.refs]
        return class_folders.split_table(paths, self.names, self.classes, self.parts)


def features_of(job: Job, found: ClassFolders, progress: TextIO | None) -> tuple[FloatArray, Tally]:
    """The feature vector of every image, NaN where one failed, which is told."""
    tally = Tally(progress)
    rows = [np.empty((0, *job.shape), np.float32)]
    try:
        for table in job.tables(found.refs):
            tally.add(table)
            assert table.values is not None
            rows.append(table.values)
    finally:
        tally.close()
    return np.concatenate(rows), tally


def photos_of(found: ClassFolders, features: FloatArray, options: FinetuneOptions) -> Photos:
    """The images that can be read, in groups of copies, each group in one part.

    Raises:
        NoImagesError: a class has too few.
    """
    good: Any = ~np.isnan(features).any(axis=1)
    refs = tuple(ref for ref, kept in zip(found.refs, good.tolist(), strict=True) if kept)
    classes, features = found.labels[good], features[good]
    groups = class_folders.copies(features)
    class_folders.check_classes(found.names, classes, groups)
    _tell_conflicts(refs, classes, groups)
    held_out = class_folders.held_out(groups, classes, options.held_out, options.seed)
    if not held_out.any():
        raise NoImagesError("no image can be held out: the classes are copies of one another")
    parts = np.where(held_out, class_folders.HELD_OUT, class_folders.TRAINING).astype(object)
    if options.full:
        rest = np.flatnonzero(~held_out)
        chosen = class_folders.held_out(
            groups[rest], classes[rest], _VALIDATION_SHARE, options.seed
        )
        if not chosen.any():
            raise NoImagesError(
                "--full needs three different images of a class",
                "one to train, one to stop by, and one to test with",
            )
        parts[rest[chosen]] = class_folders.VALIDATION
    return Photos(found.names, refs, classes, features, groups, parts)


def _tell_conflicts(refs: tuple[ImageRef, ...], classes: Numbers, groups: Numbers) -> None:
    pairs = class_folders.conflicts(classes, groups)
    if pairs:
        first, second = (display_path(refs[i].path) for i in pairs[0])
        more = f", and {len(pairs) - 1:,} more such" if len(pairs) > 1 else ""
        log.warning("%s and %s are copies in two classes%s", first, second, more)
