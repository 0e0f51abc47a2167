"""From a URI to the images in a store: one object, those below a prefix, or a glob on keys."""

from __future__ import annotations

import fnmatch
import itertools
import re
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError, MissingInputError, OptionError
from mnv1cli.inputs.archives import is_archive_name
from mnv1cli.inputs.walk import ListedImage
from mnv1cli.path_text import display_path
from mnv1cli.storage.base import (
    BadKeyError,
    MissingError,
    StoreError,
    explain_failure,
    suggest_remedy,
)
from mnv1cli.storage.location import get_scheme
from mnv1cli.storage.stores import RemoteImage, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mnv1cli.storage.base import Entry, Store

_MAGIC = re.compile(rb"[*?[]")
_ANY_DEPTH = "**"
_UNENDED = "cannot be listed to its end: "


def find_images(
    name: bytes, accepts: Callable[[bytes], bool], recursive: bool = True
) -> Iterator[ListedImage]:
    """List the images that a URI names; that it names an object is settled before this returns.

    `accepts` decides by the name below a prefix whether it is that of an image. The images
    come page by page, in the order of the store.

    Raises:
        MissingInputError: nothing has this name, or access to it is denied.
        OptionError: the scheme is not known, or its library is not installed.
    """
    search = _Search(open_store(get_scheme(name)), name, accepts, recursive)
    try:
        return search.list_images()
    except (StoreError, ImageError) as error:
        reason = explain_failure(error)
        if isinstance(error, MissingError):
            reason = "no such page" if search.on_web else "no such bucket"
        remedy = suggest_remedy(error, get_scheme(name))
        raise MissingInputError(f"{display_path(name)}: {reason}", remedy) from error


class _Search:
    """The search for the images of one URI in its store."""

    def __init__(
        self, store: Store, name: bytes, accepts: Callable[[bytes], bool], recursive: bool
    ) -> None:
        self.on_web = get_scheme(name) in ("http", "https")
        self._store = store
        self._name = name
        self._accepts = accepts
        self._recursive = recursive
        self._host, _, self._key = name.partition(b"://")[2].partition(b"/")

    def list_images(self) -> Iterator[ListedImage]:
        """List the object of this name, else the objects below it, else those that match it."""
        shown = display_path(self._name)
        if not self._host:
            kind = "host" if self.on_web else "bucket"
            raise MissingInputError(f"{shown} names no {kind}")
        denied = None
        if self._key and not self._name.endswith(b"/"):
            try:
                entry = self._store.look_up(self._name)
            except PermissionError as error:
                # Permission to list does not imply permission to read, nor the reverse.
                denied, entry = error, None
            if entry is not None:
                return self._list_object(entry)
            if self.on_web:
                raise denied or MissingInputError(f"no such file: {shown}")
        images = self._list_below() or self._expand_glob()
        if images is None:
            raise denied or MissingInputError(f"no such object, and none below it: {shown}")
        return images

    def _list_object(self, entry: Entry) -> Iterator[ListedImage]:
        if self.on_web and is_archive_name(self._name):
            shown = display_path(self._name)
            raise OptionError(
                f"{shown}: archives are not read from web servers", "copy it here first"
            )
        return iter([_make_image(self._name, entry)])

    def _list_below(self) -> Iterator[ListedImage] | None:
        """List the images below the name, by the rules for folders; None where there is no key."""
        top = self._name if self._name.endswith(b"/") else self._name + b"/"
        pages = self._store.list_pages(top, flat=not self._recursive)
        try:
            first = next((page for page in pages if page), None)
        except BadKeyError as error:
            return iter([ListedImage(self._name, _UNENDED + explain_failure(error))])
        if first is None and self._key and not self.on_web:
            return None
        return self._select(top, itertools.chain([first or []], pages))

    def _select(self, top: bytes, pages: Iterator[list[Entry]]) -> Iterator[ListedImage]:
        for entry in self._list_entries(pages):
            if isinstance(entry, str):
                yield ListedImage(self._name, entry)
            elif entry.name and not _marks_folder(entry) and self._accepts(entry.name):
                yield _make_image(top + entry.name, entry)

    def _expand_glob(self) -> Iterator[ListedImage] | None:
        """List what matches a pattern, and walk folders that match; None where it is no pattern."""
        if not _MAGIC.search(self._key):
            return None
        matches = self._match(_Pattern(self._key))
        first = next(matches, None)
        if first is None:
            raise MissingInputError(f"nothing matches {display_path(self._name)}")
        return (
            image
            for image, below in itertools.chain([first], matches)
            if not below or (self._accepts(below) and (self._recursive or b"/" not in below))
        )

    def _match(self, pattern: _Pattern) -> Iterator[tuple[ListedImage, bytes]]:
        """Yield each object that matches, or is below a folder that does, with its name there."""
        base = self._name[: len(self._name) - len(self._key)]
        start = _MAGIC.split(self._key, 1)[0]
        for entry in self._list_entries(self._store.list_pages(base + start)):
            if isinstance(entry, str):
                yield ListedImage(self._name, entry), b""
                continue
            key = start + entry.name
            below = pattern.match(key)
            if below is not None and not key.endswith(b"/"):
                yield _make_image(base + key, entry), below

    def _list_entries(self, pages: Iterator[list[Entry]]) -> Iterator[Entry | str]:
        """Yield the objects one by one, and last the reason where the listing broke off."""
        try:
            for page in pages:
                yield from page
        except (StoreError, ImageError) as error:
            yield _UNENDED + explain_failure(error)


def _marks_folder(entry: Entry) -> bool:
    """Return whether an object marks a folder: it is empty, and has no suffix."""
    return entry.name.endswith(b"/") or (
        entry.size == 0 and b"." not in entry.name.rpartition(b"/")[2]
    )


def _make_image(path: bytes, entry: Entry) -> ListedImage:
    return ListedImage(path, read=RemoteImage(path, entry.size, entry.mtime))


class _Pattern:
    """A glob on keys: `*`, `?` and `[...]` within a component, `**` for any folders."""

    def __init__(self, pattern: bytes) -> None:
        text = pattern.decode("utf-8", "surrogateescape")
        self._only_folders = text.endswith("/")
        parts = text.rstrip("/").split("/")
        if parts[-1] == _ANY_DEPTH:
            parts.append("*")
        self._parts = parts
        self._recursive = _ANY_DEPTH in parts

    def match(self, key: bytes) -> bytes | None:
        """Return what follows the matching part of a key: nothing, or a name below; else None."""
        parts = key.decode("utf-8", "surrogateescape").split("/")
        if self._recursive:
            return b"" if _fits(parts, self._parts) else None
        count = len(self._parts)
        if len(parts) < count + self._only_folders or not _fits(parts[:count], self._parts):
            return None
        return "/".join(parts[count:]).encode("utf-8", "surrogateescape")


def _fits(parts: list[str], patterns: list[str]) -> bool:
    """Return whether the components of a key match those of a pattern, one by one."""
    if not patterns:
        return not parts
    first, *others = patterns
    if first == _ANY_DEPTH:
        folders = itertools.takewhile(lambda part: not part.startswith("."), parts[:-1])
        depths = range(1 + sum(1 for _ in folders))
        return any(_fits(parts[depth:], others) for depth in depths)
    return bool(parts) and _is_like(parts[0], first) and _fits(parts[1:], others)


def _is_like(part: str, pattern: str) -> bool:
    if part.startswith(".") and not pattern.startswith("."):
        return False
    return fnmatch.fnmatchcase(part, pattern)
