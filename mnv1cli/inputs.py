"""From arguments and lists to images, one after the other.

Names are bytes throughout: a file's name need not be text.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import itertools
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.errors import MissingInputError, NoImagesError, OptionError
from mnv1cli.records import ImageRef, display_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Taken while folders are walked, in any case of letters.
SUFFIXES = frozenset(b"jpg jpeg jpe jfif png bmp gif webp tif tiff avif".split())
STDIN = b"-"
_RECURSIVE = b"**"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How inputs are read; `stdin` is read where an input is `-`."""

    recursive: bool = True
    null: bool = False
    stdin: BinaryIO | None = None


class Listing:
    """The images that inputs and lists name, in their order; iterate it once.

    Inputs are files, folders, globs or `-`. What was passed over while folders
    were walked is counted in `skipped` by suffix; `empty` names the folders
    that hold no image.

    Raises:
        MissingInputError: an input or a list does not exist; raised before any work.
    """

    def __init__(
        self,
        inputs: Sequence[bytes],
        lists: Sequence[bytes] = (),
        options: InputOptions | None = None,
    ) -> None:
        self.skipped: Counter[bytes] = Counter()
        self.empty: list[bytes] = []
        self._options = options or InputOptions()
        self._opened: list[BinaryIO] = []
        sources = [*map(self._input, inputs), *map(self._list, lists)]
        self._found = itertools.chain.from_iterable(sources)

    def __iter__(self) -> Iterator[ImageRef]:
        for index, (path, problem) in enumerate(self._found):
            yield ImageRef(index, path, problem=problem)

    def close(self) -> None:
        """Close the lists, where not all of them were read."""
        for file in self._opened:
            file.close()

    def require_images(self) -> None:
        """Look for the first image.

        Raises:
            NoImagesError: folders were walked and nothing was found in any input.
        """
        first = next(self._found, None)
        if first is not None:
            self._found = itertools.chain([first], self._found)
        elif self.empty:
            names = ", ".join(map(display_path, self.empty))
            raise NoImagesError(f"no images in {names}{self.skipped_note()}")

    def skipped_note(self) -> str:
        """What was passed over for its suffix, for the end of a message."""
        if not self.skipped:
            return ""
        kinds = (
            f"{display_path(suffix) or 'none'} {count:,}"
            for suffix, count in self.skipped.most_common(5)
        )
        more = ", ..." if len(self.skipped) > 5 else ""
        return f", {self.skipped.total():,} skipped by suffix ({', '.join(kinds)}{more})"

    def _input(self, name: bytes) -> Iterator[tuple[bytes, str]]:
        """The images of one argument; that it exists is settled before the first one."""
        if name == STDIN:
            return self._list(name)
        try:
            os.lstat(name)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            if glob.has_magic(name):
                return self._glob(name)
            shown = display_path(name) or "''"
            raise MissingInputError(f"no such file or folder: {shown}") from None
        except OSError as error:
            raise MissingInputError(f"{display_path(name)}: {error.strerror}") from error
        return self._existing(name)

    def _existing(self, name: bytes) -> Iterator[tuple[bytes, str]]:
        return self._folder(name) if os.path.isdir(name) else iter([(name, "")])

    def _glob(self, pattern: bytes) -> Iterator[tuple[bytes, str]]:
        """What a shell would put in the pattern's place, but for links to folders.

        `**` finds folders and what is in them; there only files are taken, so
        that none comes twice.
        """
        matches = sorted(_matches(pattern), key=lambda name: name.split(b"/"))
        if not matches:
            raise MissingInputError(f"nothing matches {display_path(pattern)}")
        if _RECURSIVE in pattern.split(b"/"):
            return ((name, "") for name in matches if not os.path.isdir(name))
        wanted = (name for name in matches if not (os.path.islink(name) and os.path.isdir(name)))
        return itertools.chain.from_iterable(map(self._existing, wanted))

    def _folder(self, name: bytes) -> Iterator[tuple[bytes, str]]:
        images = 0
        for found in self._walk(name):
            images += 1
            yield found
        if not images:
            self.empty.append(name)

    def _walk(self, top: bytes) -> Iterator[tuple[bytes, str]]:
        """Depth first, by name, files and folders interleaved; links to folders not followed."""
        # A stack, not recursion: folders nest deeper than Python's frames.
        stack: list[Iterator[os.DirEntry[bytes]]] = []
        folder: bytes | None = top
        while folder is not None or stack:
            if folder is not None:
                entries, problem = _entries(folder)
                if problem:
                    yield folder, problem
                stack.append(iter(entries))
                folder = None
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif _is_folder(entry, follow_links=False):
                folder = entry.path if self._options.recursive else None
            elif self._is_image(entry):
                yield entry.path, ""

    def _is_image(self, entry: os.DirEntry[bytes]) -> bool:
        if entry.is_symlink() and _is_folder(entry, follow_links=True):
            return False
        suffix = os.path.splitext(entry.name)[1].lower()
        if suffix[1:] in SUFFIXES:
            return True
        self.skipped[suffix] += 1
        return False

    def _list(self, name: bytes) -> Iterator[tuple[bytes, str]]:
        """The paths in a file or on stdin; the file is opened before any work."""
        if name == STDIN:
            if self._options.stdin is None:
                raise MissingInputError("there is no stdin to read paths from")
            return self._paths(self._options.stdin, "stdin")
        try:
            file = open(name, "rb")  # noqa: SIM115 - closed by `_paths`
        except OSError as error:
            for opened in self._opened:
                opened.close()
            raise MissingInputError(
                f"cannot read the list {display_path(name)}: {error.strerror}"
            ) from error
        self._opened.append(file)
        return self._paths(file, display_path(name))

    def _paths(self, file: BinaryIO, name: str) -> Iterator[tuple[bytes, str]]:
        with file if file is not self._options.stdin else contextlib.nullcontext():
            records = _records(file, b"\0" if self._options.null else b"\n")
            for record in _without_mark(records):
                if b"\0" in record:
                    raise OptionError(
                        f"the list {name} has NUL bytes",
                        "add -0 if they end its paths; else it is no list of paths in UTF-8",
                    )
                path = record if self._options.null else _without_return(record)
                if path:
                    yield path, ""


def _matches(pattern: bytes) -> set[bytes]:
    """The paths that match; unlike Python's glob, `**` does not follow links to folders."""
    before, found, after = _partition(pattern)
    if not found:
        return set(glob.glob(pattern))
    matches = set()
    for base in _matches(before) if before else {b""}:
        for folder in _folders(base):
            matches |= _matches(os.path.join(glob.escape(folder), after or b"*"))
    return matches


def _partition(pattern: bytes) -> tuple[bytes, bool, bytes]:
    """What stands before and after the first component `**`, and whether there is one."""
    parts = pattern.split(b"/")
    if _RECURSIVE not in parts:
        return pattern, False, b""
    at = parts.index(_RECURSIVE)
    # The slash stays where it is all there is: the root is no empty base.
    before = b"/".join(parts[:at]) + (b"/" if at else b"")
    return before, True, b"/".join(parts[at + 1 :])


def _folders(base: bytes) -> Iterator[bytes]:
    """A folder and the visible ones below it, their names as `base` begins them."""
    for folder, names, _ in os.walk(base or b"."):
        names[:] = [name for name in names if not name.startswith(b".")]
        yield folder if base else folder[2:]


def _entries(folder: bytes) -> tuple[list[os.DirEntry[bytes]], str]:
    """What a folder holds by name, hidden entries left out, and why it could not be listed."""
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


def _records(file: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """The non-empty records of a file as they arrive, so that a slow writer is not waited for."""
    read = getattr(file, "read1", file.read)
    rest = b""
    while chunk := read(_CHUNK):
        *records, rest = (rest + chunk).split(separator)
        yield from filter(None, records)
    if rest:
        yield rest


def _without_mark(records: Iterator[bytes]) -> Iterator[bytes]:
    """The records without the byte order mark of a list from Windows, unless a name begins so."""
    for first in itertools.islice(records, 1):
        bare = first.removeprefix(codecs.BOM_UTF8)
        yield first if os.path.lexists(first) else bare
    yield from records


def _without_return(path: bytes) -> bytes:
    """The path without the carriage return of a list from Windows, unless it is the name's own."""
    bare = path.removesuffix(b"\r")
    if bare == path or os.path.lexists(path):
        return path
    return bare if not bare or os.path.lexists(bare) else path
