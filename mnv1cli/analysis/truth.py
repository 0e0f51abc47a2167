"""What images show, as people say it: in the names of folders, or in a list."""

from __future__ import annotations

import csv
import itertools
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import LabelsError, MissingInputError
from mnv1cli.labels.names import find_classes
from mnv1cli.path_text import display_path
from mnv1cli.storage.stores import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.labels.names import ClassName

# How many names a message holds.
_NAMED = 5


class FolderTruth:
    """The name of the first folder below one of `roots`, else of the folder that an image is in."""

    def __init__(self, roots: Sequence[bytes] = ()) -> None:
        self._roots = [
            root.rstrip(b"/") + b"/" for root in roots if is_remote(root) or os.path.isdir(root)
        ]

    def of(self, path: bytes) -> Sequence[str]:
        """What an image shows, as names to be tried in turn; none where nothing tells."""
        for root in self._roots:
            if path.startswith(root) and (folders := _folders(path[len(root) :])):
                return folders[:1]
        return _folders(os.path.abspath(path))[-1:] if path else ()

    def unused(self) -> int:
        """How many entries were not asked for: there are none."""
        return 0


class SavedTruth(FolderTruth):
    """The same for images of which only the paths are known: the INPUT is not.

    The folders below the one that has them all are tried, the outermost first.
    """

    def __init__(self, paths: Iterable[bytes]) -> None:
        super().__init__()
        common: list[bytes] | None = None
        for path in paths:
            parts = path.split(b"/")[:-1]
            pairs = zip(parts if common is None else common, parts, strict=False)
            common = [
                part for part, _ in itertools.takewhile(lambda pair: len({*pair}) == 1, pairs)
            ]
        self._root = b"".join(part + b"/" for part in common or ())

    def of(self, path: bytes) -> Sequence[str]:
        """What an image shows, as names to be tried in turn; none where nothing tells."""
        return _folders(path.removeprefix(self._root)) or super().of(path)


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
        spelled: dict[bytes, str] = {}
        for path, label in _entries(file):
            self._labels[path] = label
            if spelled.setdefault(os.path.normpath(path), label) != label:
                raise LabelsError(f"{file} has two labels for {display_path(path)}")
        folders = [b"", os.path.dirname(os.fsencode(file)), *roots]
        self._places = {
            os.path.abspath(os.path.join(folder, path)): path
            for folder in reversed(folders)
            for path in self._labels
        }
        self._left = set(self._labels)

    def of(self, path: bytes) -> Sequence[str]:
        """What an image shows; nothing where the list does not tell."""
        for key in (path, self._places.get(os.path.abspath(path)), os.path.basename(path)):
            if key in self._labels:
                self._left.discard(key)
                return (self._labels[key],)
        return ()

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


def choose_truth(truth: Truth | str | os.PathLike[str] | None, images: object) -> Truth:
    """Return the truth itself, the one in a CSV file, or without any the folders of `images`."""
    if truth is None:
        name = images if isinstance(images, str | bytes | os.PathLike) else None
        return FolderTruth([] if name is None else [os.fsencode(name)])
    return ListTruth(Path(truth)) if isinstance(truth, str | os.PathLike) else truth


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
        texts = self._truth.of(path)
        if not texts:
            self._untold += 1
            self._example = self._example or path
            return None
        for text in texts:
            if len(found := self._found(text)) == 1:
                return found[0]
        (self._ambiguous if self._found(texts[0]) else self._foreign)[texts[0]] += 1
        return None

    def passed(self, path: bytes) -> None:
        """Take note that an image came, though it could not be read."""
        self._truth.of(path)

    def _found(self, text: str) -> Sequence[int]:
        if text not in self._classes:
            self._classes[text] = find_classes(text, self._names)
        return self._classes[text]

    def remarks(self) -> Iterable[str]:
        """What was left out, and why, a line each."""
        if self._foreign:
            what = "a class" if len(self._foreign) == 1 else "classes"
            yield (
                f"{_images(self._foreign.total(), 'is', 'are')} of {what} that the module does "
                f"not have: {_named(self._foreign)}"
            )
        if self._ambiguous:
            what = "a label" if len(self._ambiguous) == 1 else "labels"
            yield (
                f"{_images(self._ambiguous.total(), 'is', 'are')} of {what} that two classes have: "
                f"{_named(self._ambiguous)}; name the class by WordNet id or class id"
            )
        if self._untold:
            example = display_path(self._example) + (", ..." if self._untold > 1 else "")
            yield f"nothing tells what {_images(self._untold, 'shows', 'show')}: {example}"
        if unused := self._truth.unused():
            entries = "1 entry" if unused == 1 else f"{unused:,} entries"
            yield f"{entries} of the truth without an image among those that came"


def _images(count: int, one: str, many: str) -> str:
    return f"1 image {one}" if count == 1 else f"{count:,} images {many}"


def _folders(path: bytes) -> list[str]:
    """The names of the folders in a path, the outermost first."""
    return [os.fsdecode(name) for name in path.split(b"/")[:-1] if name not in (b"", b".")]


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
                path, label = row["path"], (row["label"] or "").strip()
                if None in row:
                    raise LabelsError(
                        f"line {reader.line_num} of {file} has more cells than the header",
                        "put labels with commas in quotes",
                    )
                if label and not path:
                    raise LabelsError(f"line {reader.line_num} of {file} has no path")
                if label:
                    yield os.fsencode(path), label
    except FileNotFoundError:
        raise MissingInputError(f"no such file: {file}") from None
    except OSError as error:
        raise LabelsError(f"cannot read the truth in {file}: {error.strerror}") from error
    except csv.Error as error:
        raise LabelsError(f"the truth in {file} is no CSV: {error}") from error
