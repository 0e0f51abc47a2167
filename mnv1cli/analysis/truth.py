"""The truth: what images show, by the names of folders or by a list."""

from __future__ import annotations

import csv
import itertools
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import LabelsError, MissingInputError
from mnv1cli.inputs.archives import exists
from mnv1cli.labels.names import find_classes
from mnv1cli.path_text import count, display_path
from mnv1cli.storage.location import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mnv1cli.labels.names import ClassName

# The number of names in a message.
_NAMED = 5


class FolderTruth:
    """The truth in names of folders: the first below one of `roots`, else the image's own."""

    def __init__(self, roots: Sequence[bytes] = ()) -> None:
        self._roots = [
            root.rstrip(b"/") + b"/" for root in roots if is_remote(root) or os.path.isdir(root)
        ]

    def find_names(self, path: bytes) -> Sequence[str]:
        """Return names of what an image shows, to be tried in turn; empty if none is known."""
        for root in self._roots:
            if path.startswith(root) and (folders := _split_folders(path[len(root) :])):
                return folders[:1]
        return _split_folders(os.path.abspath(path))[-1:] if path else ()

    def count_unused(self) -> int:
        """Return 0: folders are no entries that an image could be missing for."""
        return 0


class SavedTruth(FolderTruth):
    """The truth in names of folders for the images of a result, whose INPUT is not known.

    The folders below the one that all images are in are tried, the outermost first.
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

    def find_names(self, path: bytes) -> Sequence[str]:
        """Return names of what an image shows, to be tried in turn; empty if none is known."""
        return _split_folders(path.removeprefix(self._root)) or super().find_names(path)


class ListTruth:
    """The truth in a CSV with the columns `path` and `label`.

    A path is that of an image as it is reported, or relative to the folder of the list or to
    one of `roots`. A bare name is that of an image in any folder.

    Raises:
        MissingInputError: there is no such file.
        LabelsError: it has no such columns, or two labels for one path.
    """

    def __init__(self, file: Path, roots: Sequence[bytes] = ()) -> None:
        self._file = file
        self._labels: dict[bytes, str] = {}
        spelled: dict[bytes, str] = {}
        for path, label in _read_entries(file):
            self._labels[path] = label
            if spelled.setdefault(os.path.normpath(path), label) != label:
                raise LabelsError(f"{file} has two labels for {display_path(path)}")
        folders = [b"", os.path.dirname(os.fsencode(file)), *roots]
        self._places = {
            os.path.abspath(os.path.join(folder, path)): path
            for folder in reversed(folders)
            for path in self._labels
        }
        self._unused = set(self._labels)

    def find_names(self, path: bytes) -> Sequence[str]:
        """Return the label of an image in the list; empty if it has none."""
        for key in (path, self._places.get(os.path.abspath(path)), os.path.basename(path)):
            if key in self._labels:
                self._unused.discard(key)
                return (self._labels[key],)
        return ()

    def count_unused(self) -> int:
        """Return the number of entries that no image was looked up in."""
        return len(self._unused)

    def images(self) -> Iterator[bytes]:
        """Yield the images of the list: the path as given, or else from the list's folder."""
        folder = os.path.dirname(os.fsencode(self._file))
        for path in self._labels:
            beside = os.path.join(folder, path)
            is_beside = not exists(path) and exists(beside)
            yield beside if is_beside else path


Truth = FolderTruth | ListTruth


def choose_truth(truth: Truth | str | os.PathLike[str] | None, images: object) -> Truth:
    """Return the truth itself, the one in a CSV file, or without any the folders of `images`."""
    if truth is None:
        name = images if isinstance(images, str | bytes | os.PathLike) else None
        return FolderTruth([] if name is None else [os.fsencode(name)])
    return ListTruth(Path(truth)) if isinstance(truth, str | os.PathLike) else truth


class ResolvedTruth:
    """The truth as class ids of a module; names that cannot be resolved are counted."""

    def __init__(self, truth: Truth, names: Sequence[ClassName]) -> None:
        self._truth = truth
        self._names = names
        self._classes: dict[str, Sequence[int]] = {}
        self._foreign: Counter[str] = Counter()
        self._ambiguous: Counter[str] = Counter()
        self._unknown = 0
        self._example = b""

    def find_class(self, path: bytes) -> int | None:
        """Return the class id of an image; None if it is unknown, or not one of the module's."""
        texts = self._truth.find_names(path)
        if not texts:
            self._unknown += 1
            self._example = self._example or path
            return None
        for text in texts:
            if len(class_ids := self._resolve(text)) == 1:
                return class_ids[0]
        (self._ambiguous if self._resolve(texts[0]) else self._foreign)[texts[0]] += 1
        return None

    def note_failed(self, path: bytes) -> None:
        """Note that an image was given, though it could not be read."""
        self._truth.find_names(path)

    def _resolve(self, text: str) -> Sequence[int]:
        if text not in self._classes:
            self._classes[text] = find_classes(text, self._names)
        return self._classes[text]

    def remarks(self) -> Iterable[str]:
        """Yield a line for each reason why images or entries were left out."""
        if self._foreign:
            classes = "a class" if len(self._foreign) == 1 else "classes"
            yield (
                f"{_count_images(self._foreign.total(), 'is', 'are')} of {classes} that the module "
                f"does not have: {_list_names(self._foreign)}"
            )
        if self._ambiguous:
            labels = "a label" if len(self._ambiguous) == 1 else "labels"
            yield (
                f"{_count_images(self._ambiguous.total(), 'is', 'are')} of {labels} that two "
                f"classes have: {_list_names(self._ambiguous)}; "
                "name the class by WordNet id or class id"
            )
        if self._unknown:
            example = display_path(self._example) + (", ..." if self._unknown > 1 else "")
            yield f"the truth of {count(self._unknown, 'image')} is unknown: {example}"
        if unused := self._truth.count_unused():
            entries = count(unused, "entry", "entries")
            yield f"{entries} of the truth without an image among those that were given"


def _count_images(number: int, singular: str, plural: str) -> str:
    return f"{count(number, 'image')} {singular if number == 1 else plural}"


def _split_folders(path: bytes) -> list[str]:
    """Return the names of the folders in a path, the outermost first."""
    return [os.fsdecode(name) for name in path.split(b"/")[:-1] if name not in (b"", b".")]


def _list_names(counts: Counter[str]) -> str:
    names = ", ".join(display_path(os.fsencode(name)) for name, _ in counts.most_common(_NAMED))
    return names + (", ..." if len(counts) > _NAMED else "")


def _read_entries(file: Path) -> Iterator[tuple[bytes, str]]:
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
        raise LabelsError(f"the truth in {file} is not a CSV: {error}") from error
