"""The images in a folder, and which names are those of images."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from mnv1cli.path_text import count, display_path
from mnv1cli.types import IMAGE_SUFFIXES, JPEG_SUFFIXES, RAW_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator


class ListedImage(NamedTuple):
    """One image on its way to an `ImageRef`: its path, and why it has none of its own or a reader.

    `problem` is a fault known before reading; `read` reads an image in an archive or a store,
    given the number of bytes that are allowed.
    """

    path: bytes
    problem: str = ""
    read: Callable[[int], bytes] | None = None


class ImageFilter:
    """The rules for names in folders, archives and stores.

    Hidden names are left out, and those without an image's suffix; the latter are counted in
    `skipped`, by suffix. Folders inside folders are read where `recursive` is true. `paired`
    counts the RAWs that were left out because there is a JPEG of the same picture.
    """

    def __init__(self, recursive: bool) -> None:
        self.recursive = recursive
        self.skipped: Counter[bytes] = Counter()
        self.paired = 0

    def accepts(self, name: bytes) -> bool:
        """Return whether a name below a folder, with slashes, is that of an image to read."""
        *folders, last = name.split(b"/")
        if any(part.startswith(b".") and part != b".." for part in (*folders, last)):
            return False
        if folders and not self.recursive:
            return False
        return self.accepts_suffix(last)

    def accepts_entry(self, entry: os.DirEntry[bytes]) -> bool:
        """Return whether an entry of a folder, which is no folder, is an image to read."""
        if entry.is_symlink() and _is_folder(entry, follow_links=True):
            return False
        return self.accepts_suffix(entry.name)

    def accepts_suffix(self, name: bytes) -> bool:
        """Return whether a name has an image's suffix; count it where it has none."""
        suffix = os.path.splitext(name)[1].lower()
        if suffix[1:] in IMAGE_SUFFIXES:
            return True
        self.skipped[suffix] += 1
        return False

    def find_paired(self, paths: Collection[bytes]) -> set[bytes]:
        """Return the RAWs that have a JPEG of the same stem in their folder; count them."""
        raws = dict(_list_stems(paths, RAW_SUFFIXES))
        stems = {stem for _, stem in _list_stems(paths, JPEG_SUFFIXES)} if raws else set()
        paired = {path for path, stem in raws.items() if stem in stems}
        self.paired += len(paired)
        return paired

    def drop_paired(self, images: Iterable[ListedImage]) -> Iterator[ListedImage]:
        """Leave out the RAWs that follow or precede a JPEG of the same stem."""
        for _, group in itertools.groupby(images, lambda image: _split(image.path)[0]):
            same = list(group)
            paired = self.find_paired([image.path for image in same])
            yield from (image for image in same if image.path not in paired)

    def describe_skipped(self) -> str:
        """Return how many files were skipped and why, for the end of a message."""
        return self._describe_paired() + self._describe_suffixes()

    def _describe_paired(self) -> str:
        if not self.paired:
            return ""
        whose = "its" if self.paired == 1 else "their"
        return f", {count(self.paired, 'RAW file')} beside a JPEG of {whose} own skipped"

    def _describe_suffixes(self) -> str:
        if not self.skipped:
            return ""
        suffixes = (
            f"{display_path(suffix) or 'none'} {number:,}"
            for suffix, number in self.skipped.most_common(5)
        )
        more = ", ..." if len(self.skipped) > 5 else ""
        return f", {self.skipped.total():,} skipped by suffix ({', '.join(suffixes)}{more})"


def walk_folder(top: bytes, images: ImageFilter) -> Iterator[ListedImage]:
    """Walk a folder depth first, by name, files and folders interleaved.

    Links to folders are not followed. A folder that cannot be listed is a fault in its place.
    """
    # A stack, not recursion: folders nest deeper than Python's frames.
    stack: list[Iterator[os.DirEntry[bytes]]] = []
    folder: bytes | None = top
    while folder is not None or stack:
        if folder is not None:
            entries, problem = _list_entries(folder)
            if problem:
                yield ListedImage(folder, problem)
            names = [entry.name for entry in entries if not _is_folder(entry, follow_links=True)]
            paired = images.find_paired(names)
            stack.append(iter([entry for entry in entries if entry.name not in paired]))
            folder = None
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
        elif _is_folder(entry, follow_links=False):
            folder = entry.path if images.recursive else None
        elif images.accepts_entry(entry):
            yield ListedImage(entry.path)


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Split a path into folder and stem, and suffix without its dot; the name in lower case."""
    start = path.rfind(b"/") + 1
    stem, suffix = os.path.splitext(path[start:].lower())
    return path[:start] + stem, suffix[1:]


def _list_stems(
    paths: Iterable[bytes], suffixes: Collection[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the paths that have one of the suffixes, with their folders and stems."""
    for path in paths:
        stem, suffix = _split(path)
        if suffix in suffixes:
            yield path, stem


def _list_entries(folder: bytes) -> tuple[list[os.DirEntry[bytes]], str]:
    """List the visible entries of a folder by name; return why where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(b".")]
    except OSError as error:
        return [], f"folder cannot be listed: {error.strerror}"
    return sorted(visible, key=lambda entry: entry.name), ""


def _is_folder(entry: os.DirEntry[bytes], follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:
        return False
