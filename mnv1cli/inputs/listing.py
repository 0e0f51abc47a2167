"""From arguments and lists to images, one after the other.

Names are bytes throughout: a file's name need not be text.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from mnv1cli.errors import MissingInputError, NoImagesError, OptionError
from mnv1cli.inputs import globs, remote
from mnv1cli.inputs import path_lists as lists
from mnv1cli.inputs.archives import Archive, is_archive
from mnv1cli.inputs.shards import Shard, ShardSelection
from mnv1cli.path_text import display_path
from mnv1cli.storage.location import SCHEMES, get_scheme, is_remote
from mnv1cli.storage.stores import RemoteImage, open_filesystem
from mnv1cli.types import IMAGE_SUFFIXES, ImageRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

STDIN = b"-"
# What stands between an archive and the name of a file in it.
MEMBER_SEPARATOR = b"!/"


class _Found(NamedTuple):
    """One image on its way to an `ImageRef`."""

    path: bytes
    problem: str = ""
    read: Callable[[int], bytes] | None = None


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How inputs are read; `stdin` is read where an input is `-`.

    With a `shard` the images of that part alone are taken.
    """

    recursive: bool = True
    null: bool = False
    stdin: BinaryIO | None = None
    shard: Shard | None = None


class Listing:
    """The images that inputs and lists name, in their order; iterate it once.

    Inputs are files, folders, archives, globs, URIs or `-`. What was passed over while folders
    were walked is counted in `skipped` by suffix; `empty` names the folders
    that hold no image. `shard_selection` is that of the shard, None without one.

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
        self.empty_inputs: list[bytes] = []
        self._options = options or InputOptions()
        shard = self._options.shard
        self.shard_selection = None if shard is None else ShardSelection(shard)
        self._opened: list[BinaryIO | Archive] = []
        sources = [*map(self._input, inputs), *map(self._list, lists)]
        self._found = itertools.chain.from_iterable(sources)

    def __iter__(self) -> Iterator[ImageRef]:
        return (
            self._refs()
            if self.shard_selection is None
            else self.shard_selection.select(self._refs())
        )

    def _refs(self) -> Iterator[ImageRef]:
        for index, found in enumerate(self._found):
            yield ImageRef(index, found.path, problem=found.problem, member=found.read)

    def close(self) -> None:
        """Close archives, and the lists where not all of them were read."""
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
        elif self.empty_inputs:
            names = ", ".join(map(display_path, self.empty_inputs))
            raise NoImagesError(f"no images in {names}{self.describe_skipped()}")

    def describe_skipped(self) -> str:
        """What was passed over for its suffix, for the end of a message."""
        if not self.skipped:
            return ""
        kinds = (
            f"{display_path(suffix) or 'none'} {count:,}"
            for suffix, count in self.skipped.most_common(5)
        )
        more = ", ..." if len(self.skipped) > 5 else ""
        return f", {self.skipped.total():,} skipped by suffix ({', '.join(kinds)}{more})"

    def _input(self, name: bytes) -> Iterator[_Found]:
        """The images of one argument; that it exists is settled before the first one."""
        if name == STDIN:
            return self._list(name)
        if is_remote(name):
            found = remote.find_images(name, self._is_wanted, self._options.recursive)
            return self._remote(name, found)
        try:
            os.lstat(name)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            if glob.has_magic(name):
                return self._glob(name)
            if get_scheme(name):
                known = ", ".join(SCHEMES)
                raise OptionError(
                    f"{display_path(name)}: not a URI that can be read",
                    f"its scheme is one of {known}",
                ) from None
            shown = display_path(name) or "''"
            raise MissingInputError(f"no such file or folder: {shown}") from None
        except OSError as error:
            raise MissingInputError(f"{display_path(name)}: {error.strerror}") from error
        return self._existing(name)

    def _existing(self, name: bytes) -> Iterator[_Found]:
        if os.path.isdir(name):
            return self._folder(name)
        return self._archive(name) if is_archive(name) else iter([_Found(name)])

    def _glob(self, pattern: bytes) -> Iterator[_Found]:
        """What a shell would put in the pattern's place, but for links to folders.

        `**` finds folders and what is in them; there only files are taken, so
        that none comes twice.
        """
        matches = sorted(globs.find_matches(pattern), key=lambda name: name.split(b"/"))
        if not matches:
            raise MissingInputError(f"nothing matches {display_path(pattern)}")
        if globs.is_recursive(pattern):
            return (_Found(name) for name in matches if not os.path.isdir(name))
        wanted = (name for name in matches if not (os.path.islink(name) and os.path.isdir(name)))
        return itertools.chain.from_iterable(map(self._existing, wanted))

    def _folder(self, name: bytes) -> Iterator[_Found]:
        images = 0
        for found in self._walk(name):
            images += 1
            yield found
        if not images:
            self.empty_inputs.append(name)

    def _walk(self, top: bytes) -> Iterator[_Found]:
        """Depth first, by name, files and folders interleaved; links to folders not followed."""
        # A stack, not recursion: folders nest deeper than Python's frames.
        stack: list[Iterator[os.DirEntry[bytes]]] = []
        folder: bytes | None = top
        while folder is not None or stack:
            if folder is not None:
                entries, problem = _entries(folder)
                if problem:
                    yield _Found(folder, problem)
                stack.append(iter(entries))
                folder = None
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif _is_folder(entry, follow_links=False):
                folder = entry.path if self._options.recursive else None
            elif self._is_image(entry):
                yield _Found(entry.path)

    def _remote(self, name: bytes, images: Iterator[remote.Found]) -> Iterator[_Found]:
        """The images of a URI, by the rules for folders."""
        first = next(images, None)
        if first is None:
            self.empty_inputs.append(name)
        else:
            yield from (_Found(*found) for found in itertools.chain([first], images))

    def _archive(self, name: bytes) -> Iterator[_Found]:
        """The images in an archive, by the rules for folders."""
        images = 0
        try:
            archive = Archive(name)
        except OSError as error:
            raise MissingInputError(f"{display_path(name)}: {error.strerror}") from error
        self._opened.append(archive)
        for member in archive.list_members(self._is_wanted):
            images += 1
            path = name + MEMBER_SEPARATOR + member.name if member.name else name
            yield _Found(path, member.problem, member.read)
        if not images:
            self.empty_inputs.append(name)

    def _is_wanted(self, name: bytes) -> bool:
        *folders, last = name.split(b"/")
        if any(part.startswith(b".") and part != b".." for part in (*folders, last)):
            return False
        if folders and not self._options.recursive:
            return False
        return self._has_suffix(last)

    def _is_image(self, entry: os.DirEntry[bytes]) -> bool:
        if entry.is_symlink() and _is_folder(entry, follow_links=True):
            return False
        return self._has_suffix(entry.name)

    def _has_suffix(self, name: bytes) -> bool:
        suffix = os.path.splitext(name)[1].lower()
        if suffix[1:] in IMAGE_SUFFIXES:
            return True
        self.skipped[suffix] += 1
        return False

    def _list(self, name: bytes) -> Iterator[_Found]:
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

    def _paths(self, file: BinaryIO, name: str) -> Iterator[_Found]:
        with file if file is not self._options.stdin else contextlib.nullcontext():
            for path in lists.read_paths(file, name, self._options.null):
                if get_scheme(path) and not is_remote(path) and not os.path.lexists(path):
                    yield _Found(path, "not a URI that can be read")
                    continue
                if is_remote(path):
                    # A library that is missing shows with the first such path, before any work.
                    open_filesystem(get_scheme(path))
                yield _Found(path, read=RemoteImage(path) if is_remote(path) else None)


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
