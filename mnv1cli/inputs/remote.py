"""From a URI to the images in a store: one object, what lies below a prefix, or a glob on keys."""

from __future__ import annotations

import fnmatch
import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from mnv1cli.errors import ImageError, MissingInputError, OptionError
from mnv1cli.path_text import display_path
from mnv1cli.storage.location import get_scheme
from mnv1cli.storage.stores import RemoteImage, explain_failure, open_store, suggest_remedy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mnv1cli.storage.base import Entry, Failures, Store

_MAGIC = re.compile(rb"[*?[]")
_ARCHIVES = (b".zip", b".tar", b".tar.gz", b".tgz")
_ANY_DEPTH = "**"


class Found(NamedTuple):
    """An image in a store, or why the store cannot be listed further."""

    path: bytes
    problem: str = ""
    read: RemoteImage | None = None


def find_images(
    name: bytes, wanted: Callable[[bytes], bool], recursive: bool = True
) -> Iterator[Found]:
    """The images that a URI names; that it names any object is settled before this returns.

    `wanted` tells by the name below a prefix whether it is that of an image.
    They come page by page, in the order of the store.

    Raises:
        MissingInputError: there is nothing of this name, or no access to it.
        OptionError: the scheme is not known, or its library is not installed.
    """
    search = _Search(open_store(get_scheme(name)), name, wanted, recursive)
    try:
        return search.found()
    except search.failures as error:
        what = explain_failure(error)
        if isinstance(error, FileNotFoundError):
            what = "no such page" if search.on_web else "no such bucket"
        remedies = suggest_remedy(error, get_scheme(name))
        raise MissingInputError(f"{display_path(name)}: {what}", remedies) from error


class _Search:
    """What there is of a name in a store."""

    def __init__(
        self, asked: Store, name: bytes, wanted: Callable[[bytes], bool], recursive: bool
    ) -> None:
        self.failures: Failures = (*asked.failures, ImageError)
        self.on_web = get_scheme(name) in ("http", "https")
        self._asked = asked
        self._name = name
        self._wanted = wanted
        self._recursive = recursive
        self._host, _, self._key = name.partition(b"://")[2].partition(b"/")

    def found(self) -> Iterator[Found]:
        """An object of this name, else what lies below it, else what matches it."""
        shown = display_path(self._name)
        if not self._host:
            what = "host" if self.on_web else "bucket"
            raise MissingInputError(f"{shown} names no {what}")
        denied = None
        if self._key and not self._name.endswith(b"/"):
            try:
                entry = self._asked.look_up(self._name)
            except PermissionError as error:
                # Whoever may list need not be allowed to read, and the other way round.
                denied, entry = error, None
            if entry is not None:
                return self._object(entry)
            if self.on_web:
                raise denied or MissingInputError(f"no such file: {shown}")
        found = self._below() or self._glob()
        if found is None:
            raise denied or MissingInputError(f"no such object, and none below it: {shown}")
        return found

    def _object(self, entry: Entry) -> Iterator[Found]:
        if self._name.lower().endswith(_ARCHIVES):
            shown = display_path(self._name)
            raise OptionError(f"{shown}: archives are read from disk alone", "copy it")
        return iter([_found(self._name, entry)])

    def _below(self) -> Iterator[Found] | None:
        """The images below the name, by the rules for folders; None where no key is."""
        top = self._name if self._name.endswith(b"/") else self._name + b"/"
        pages = self._asked.list_pages(top, flat=not self._recursive)
        first = next((page for page in pages if page), None)
        if first is None and self._key and not self.on_web:
            return None
        return self._wanted_of(top, itertools.chain([first or []], pages))

    def _wanted_of(self, top: bytes, pages: Iterator[list[Entry]]) -> Iterator[Found]:
        for entry in self._listed(pages):
            if isinstance(entry, str):
                yield Found(self._name, entry)
            elif entry.name and not entry.name.endswith(b"/") and self._wanted(entry.name):
                yield _found(top + entry.name, entry)

    def _glob(self) -> Iterator[Found] | None:
        """What matches a pattern; a folder that does is walked, as on disk. None for none."""
        if not _MAGIC.search(self._key):
            return None
        matches = self._matches(_Pattern(self._key))
        first = next(matches, None)
        if first is None:
            raise MissingInputError(f"nothing matches {display_path(self._name)}")
        return (
            found
            for found, rest in itertools.chain([first], matches)
            if not rest or (self._wanted(rest) and (self._recursive or b"/" not in rest))
        )

    def _matches(self, pattern: _Pattern) -> Iterator[tuple[Found, bytes]]:
        """Each object that matches, or lies below a folder that does, and its name there."""
        base = self._name[: len(self._name) - len(self._key)]
        start = _MAGIC.split(self._key, 1)[0]
        for entry in self._listed(self._asked.list_pages(base + start)):
            if isinstance(entry, str):
                yield Found(self._name, entry), b""
                continue
            key = start + entry.name
            rest = pattern.rest(key)
            if rest is not None and not key.endswith(b"/"):
                yield _found(base + key, entry), rest

    def _listed(self, pages: Iterator[list[Entry]]) -> Iterator[Entry | str]:
        """The objects one by one; last, where it is so, why there are no more."""
        try:
            for page in pages:
                yield from page
        except self.failures as error:
            yield f"cannot be listed to its end: {explain_failure(error)}"


def _found(path: bytes, entry: Entry) -> Found:
    return Found(path, read=RemoteImage(path, entry.size, entry.mtime))


class _Pattern:
    """A glob on keys: `*`, `?` and `[...]` within a component, `**` for any folders."""

    def __init__(self, pattern: bytes) -> None:
        text = pattern.decode("utf-8", "surrogateescape")
        self._folders_alone = text.endswith("/")
        parts = text.rstrip("/").split("/")
        if parts[-1] == _ANY_DEPTH:
            parts.append("*")
        self._parts = parts
        self._recursive = _ANY_DEPTH in parts

    def rest(self, key: bytes) -> bytes | None:
        """What follows the part of a key that matches: nothing, or a name below; None for none."""
        parts = key.decode("utf-8", "surrogateescape").split("/")
        if self._recursive:
            return b"" if _fits(parts, self._parts) else None
        count = len(self._parts)
        if len(parts) < count + self._folders_alone or not _fits(parts[:count], self._parts):
            return None
        return "/".join(parts[count:]).encode("utf-8", "surrogateescape")


def _fits(parts: list[str], patterns: list[str]) -> bool:
    """Whether the components of a key match those of a pattern, one by one."""
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
