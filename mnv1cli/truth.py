"""What images show, as people say it: in the names of folders, or in a list."""

from __future__ import annotations

import csv
import os
from collections import Counter
from typing import TYPE_CHECKING

from mnv1cli.errors import LabelsError, MissingInputError
from mnv1cli.labels import find_classes
from mnv1cli.records import display_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mnv1cli.labels import ClassName

# How many names a message holds.
_NAMED = 5


class FolderTruth:
    """The name of the first folder below one of `roots`, else of the folder that an image is in."""

    def __init__(self, roots: Sequence[bytes] = ()) -> None:
        self._roots = [root.rstrip(b"/") + b"/" for root in roots if os.path.isdir(root)]

    def of(self, path: bytes) -> str | None:
        """What an image shows; None where nothing tells."""
        for root in self._roots:
            below = path.removeprefix(root)
            if below != path and b"/" in below:
                return os.fsdecode(below.partition(b"/")[0])
        folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
        return os.fsdecode(folder) or None

    def unused(self) -> int:
        """How many entries were not asked for: there are none."""
        return 0


class ListTruth:
    """A CSV with the columns `path` and `label`.

    Its paths are those of the images as they are reported, or seen from the
    folder that the list is in, or one of `roots`; a bare name is that of an
    image in any folder.

    Raises:
        MissingInputError: there is no such file.
        LabelsError: it has no such columns, or two labels for one path.
    """

    def __init__(self, file: Path, roots: Sequence[bytes] = ()) -> None:
        self._file = file
        self._labels: dict[bytes, str] = {}
        for path, label in _entries(file):
            if self._labels.setdefault(path, label) != label:
                raise LabelsError(f"{file} has two labels for {display_path(path)}")
        folders = [b"", os.path.dirname(os.fsencode(file)), *roots]
        self._places = {
            os.path.abspath(os.path.join(folder, path)): path
            for folder in reversed(folders)
            for path in self._labels
        }
        self._left = set(self._labels)

    def of(self, path: bytes) -> str | None:
        """What an image shows; None where nothing tells."""
        for key in (path, self._places.get(os.path.abspath(path)), os.path.basename(path)):
            if key in self._labels:
                self._left.discard(key)
                return self._labels[key]
        return None

    def unused(self) -> int:
        """How many entries were not asked for."""
        return len(self._left)

    def images(self) -> Iterator[bytes]:
        """The images of the list, where they are as named or seen from its folder."""
        folder = os.path.dirname(os.fsencode(self._file))
        for path in self._labels:
            beside = os.path.join(folder, path)
            there = not os.path.lexists(path) and os.path.lexists(beside)
            yield beside if there else path


Truth = FolderTruth | ListTruth


class Resolved:
    """Truth as class ids of a module; what cannot be told is counted by its name."""

    def __init__(self, truth: Truth, names: Sequence[ClassName]) -> None:
        self._truth = truth
        self._names = names
        self._classes: dict[str, Sequence[int]] = {}
        self._foreign: Counter[str] = Counter()
        self._ambiguous: Counter[str] = Counter()
        self._untold = 0
        self._example = b""

    def of(self, path: bytes) -> int | None:
        """The class of an image; None where it is not told, or none of the module's."""
        text = self._truth.of(path)
        if text is None:
            self._untold += 1
            self._example = self._example or path
            return None
        found = self._found(text)
        if len(found) == 1:
            return found[0]
        (self._ambiguous if found else self._foreign)[text] += 1
        return None

    def _found(self, text: str) -> Sequence[int]:
        if text not in self._classes:
            self._classes[text] = find_classes(text, self._names)
        return self._classes[text]

    def remarks(self) -> Iterable[str]:
        """What was left out, and why, a line each."""
        if self._foreign:
            yield (
                f"{self._foreign.total():,} images are of classes that the module does not have: "
                f"{_named(self._foreign)}"
            )
        if self._ambiguous:
            yield (
                f"{self._ambiguous.total():,} images are of labels that two classes have: "
                f"{_named(self._ambiguous)}; name them by WordNet id or class id"
            )
        if self._untold:
            yield f"nothing tells what {self._untold:,} images show: {display_path(self._example)}"
        if unused := self._truth.unused():
            yield f"{unused:,} entries of the truth are of images that did not come"


def _named(found: Counter[str]) -> str:
    names = ", ".join(display_path(os.fsencode(name)) for name, _ in found.most_common(_NAMED))
    return names + (", ..." if len(found) > _NAMED else "")


def _entries(file: Path) -> Iterator[tuple[bytes, str]]:
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise LabelsError(f"the truth in {file} has no columns 'path' and 'label'")
            for row in reader:
                if row["label"]:
                    yield os.fsencode(row["path"]), row["label"].strip()
    except FileNotFoundError:
        raise MissingInputError(f"no such file: {file}") from None
    except OSError as error:
        raise LabelsError(f"cannot read the truth in {file}: {error.strerror}") from error
    except csv.Error as error:
        raise LabelsError(f"the truth in {file} is no CSV: {error}") from error
