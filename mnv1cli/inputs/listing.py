"""From arguments and lists to images, one after the other.

Names are bytes throughout: a file's name need not be text.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.errors import MissingInputError, NoImagesError, OptionError
from mnv1cli.inputs import globs
from mnv1cli.inputs.archives import (
    Shelf,
    is_archive,
    is_archive_name,
    join_member,
    open_archive,
    split_member,
)
from mnv1cli.inputs.list_entries import list_entries
from mnv1cli.inputs.remote import find_images
from mnv1cli.inputs.shards import Shard, ShardSelection
from mnv1cli.inputs.walk import ImageFilter, ListedImage, walk_folder
from mnv1cli.path_text import display_path
from mnv1cli.storage.location import SCHEMES, get_scheme, is_remote
from mnv1cli.types import ImageRef

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence

    from mnv1cli.inputs.archive import Archive

STDIN = b"-"


@dataclass(frozen=True, slots=True)
class InputOptions:
    """Options of reading inputs; `stdin` is read where an input is `-`.

    With a `shard` only the images of that part are taken. `null` ends the paths in lists.
    """

    recursive: bool = True
    null: bool = False
    stdin: BinaryIO | None = None
    shard: Shard | None = None


class Listing:
    """The images that inputs and lists name, in their order; iterate it once.

    Inputs are files, folders, archives, globs, URIs or `-`. `files` are the inputs and lists
    that are files themselves, `empty_inputs` the folders that hold no image.
    `shard_selection` is that of the shard, None without one.

    Raises:
        MissingInputError: an input or a list does not exist; raised before any work.
    """

    def __init__(
        self,
        inputs: Sequence[bytes],
        lists: Sequence[bytes] = (),
        options: InputOptions | None = None,
    ) -> None:
        self.files: list[bytes] = []
        self.empty_inputs: list[bytes] = []
        self._options = options or InputOptions()
        self._filter = ImageFilter(self._options.recursive)
        shard = self._options.shard
        self.shard_selection = None if shard is None else ShardSelection(shard)
        self._opened: list[BinaryIO] = []
        self._shelf = Shelf()
        sources = [*map(self._open_input, inputs), *map(self._open_list, lists)]
        self._images = itertools.chain.from_iterable(sources)

    def __iter__(self) -> Iterator[ImageRef]:
        refs = self._make_refs()
        return refs if self.shard_selection is None else self.shard_selection.select(refs)

    def _make_refs(self) -> Iterator[ImageRef]:
        for index, image in enumerate(self._images):
            yield ImageRef(index, image.path, problem=image.problem, member=image.read)

    @property
    def skipped(self) -> Counter[bytes]:
        """The number of files that were passed over in folders, by suffix."""
        return self._filter.skipped

    def close(self) -> None:
        """Close the lists where not all of them were read, and archives until they are read."""
        for file in self._opened:
            file.close()
        self._shelf.close()

    def require_images(self) -> None:
        """Look for the first image.

        Raises:
            NoImagesError: folders were walked, and no input has an image.
        """
        first = next(self._images, None)
        if first is not None:
            self._images = itertools.chain([first], self._images)
        elif self.empty_inputs:
            names = ", ".join(map(display_path, self.empty_inputs))
            raise NoImagesError(f"no images in {names}{self.describe_skipped()}")

    def describe_skipped(self) -> str:
        """Return how many files were skipped and why, for the end of a message."""
        return self._filter.describe_skipped()

    def _open_input(self, name: bytes) -> Iterator[ListedImage]:
        """List the images of one argument; whether it exists is settled before the first one."""
        if name == STDIN:
            return self._open_list(name)
        if is_remote(name) and split_member(name) is None:
            images = find_images(name, self._filter.accepts, self._options.recursive)
            return self._list_remote(name, self._filter.drop_paired(images))
        if (member := split_member(name)) is not None:
            return self._open_member(name, *member)
        try:
            os.lstat(name)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            if glob.has_magic(name):
                return self._expand_glob(name)
            if get_scheme(name):
                schemes = ", ".join(SCHEMES)
                raise OptionError(
                    f"{display_path(name)}: not a URI that can be read",
                    f"its scheme is one of {schemes}",
                ) from None
            shown = display_path(name) or "''"
            raise MissingInputError(f"no such file or folder: {shown}") from None
        except OSError as error:
            raise MissingInputError(f"{display_path(name)}: {error.strerror}") from error
        return self._open_existing(name)

    def _open_existing(self, name: bytes) -> Iterator[ListedImage]:
        if os.path.isdir(name):
            return self._list_folder(name)
        self.files.append(name)
        if is_archive(name):
            return self._list_archive(name, open_archive(name))
        return iter([ListedImage(name)])

    def _open_member(self, path: bytes, name: bytes, inside: bytes) -> Iterator[ListedImage]:
        """List the file, or the files in the folder, that is called `inside` in an archive."""
        self.files.append(name)
        archive = self._shelf.get(name)
        if archive.has_folder(inside) and not archive.has_file(inside):
            return self._list_archive(name, archive, inside.rstrip(b"/"))
        if archive.has_file(inside) or archive.damage:
            return iter([ListedImage(path, read=archive.open_member(inside))])
        raise MissingInputError(f"no such file in {display_path(name)}: {display_path(inside)}")

    def _expand_glob(self, pattern: bytes) -> Iterator[ListedImage]:
        """List what a shell would put in the pattern's place, but for links to folders.

        `**` matches folders and their contents; only files are taken then, so
        that no image comes twice.
        """
        names = globs.find_matches(pattern)
        if not names:
            raise MissingInputError(f"nothing matches {display_path(pattern)}")
        names -= self._filter.find_paired([name for name in names if os.path.isfile(name)])
        matches = sorted(names, key=lambda name: name.split(b"/"))
        if globs.is_recursive(pattern):
            return (ListedImage(name) for name in matches if not os.path.isdir(name))
        for name in filter(is_archive, matches):
            # A missing library shows before any work.
            open_archive(name)
        inputs = (name for name in matches if not (os.path.islink(name) and os.path.isdir(name)))
        return itertools.chain.from_iterable(map(self._open_existing, inputs))

    def _list_folder(self, name: bytes) -> Iterator[ListedImage]:
        is_empty = True
        for image in walk_folder(name, self._filter):
            is_empty = False
            yield image
        if is_empty:
            self.empty_inputs.append(name)

    def _list_remote(self, name: bytes, images: Iterator[ListedImage]) -> Iterator[ListedImage]:
        """List the images of a URI, by the rules for folders."""
        is_empty = True
        for image in images:
            is_empty = False
            if image.read is not None and is_archive_name(image.path):
                yield from self._list_archive(image.path, open_archive(image.path))
            else:
                yield image
        if is_empty:
            self.empty_inputs.append(name)

    def _list_archive(
        self, name: bytes, archive: Archive, folder: bytes = b""
    ) -> Iterator[ListedImage]:
        """List the images in an archive, or in a folder of it, by the rules for folders."""
        start = folder + b"/" if folder else b""
        members = archive.list_members(
            lambda inside: inside.startswith(start) and self._filter.accepts(inside[len(start) :])
        )
        images = (
            ListedImage(join_member(name, member.name), member.problem, member.read)
            for member in members
        )
        is_empty = True
        for image in self._filter.drop_paired(images):
            is_empty = False
            yield image
        if is_empty:
            self.empty_inputs.append(join_member(name, folder))

    def _open_list(self, name: bytes) -> Iterator[ListedImage]:
        """Read the paths in a file or on stdin; the file is opened before any work."""
        if name == STDIN:
            if self._options.stdin is None:
                raise MissingInputError("there is no stdin to read paths from")
            return self._read_list(self._options.stdin, "stdin")
        try:
            file = open(name, "rb")  # noqa: SIM115 - closed by `_read_list`
        except OSError as error:
            for opened in self._opened:
                opened.close()
            raise MissingInputError(
                f"cannot read the list {display_path(name)}: {error.strerror}"
            ) from error
        self._opened.append(file)
        self.files.append(name)
        return self._read_list(file, display_path(name))

    def _read_list(self, file: BinaryIO, name: str) -> Iterator[ListedImage]:
        with file if file is not self._options.stdin else contextlib.nullcontext():
            yield from list_entries(file, name, self._options.null, self._shelf)
