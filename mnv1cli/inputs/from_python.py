"""From the images that Python callers pass to refs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from mnv1cli.errors import ImageError, MissingInputError, OptionError
from mnv1cli.inputs.archives import Shelf, is_archive, split_member
from mnv1cli.inputs.listing import Listing
from mnv1cli.inputs.passes import WantedMember
from mnv1cli.limits import check_bytes
from mnv1cli.storage.location import is_remote
from mnv1cli.storage.stores import RemoteImage
from mnv1cli.types import IMAGE_SUFFIXES, MAX_BYTES, UNREAD, ImageRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    class BinaryFile(Protocol):
        """A file that is open for reading, or anything that is read like one."""

        def read(self, size: int = -1, /) -> bytes:
            """Read up to `size` bytes."""

    ImagePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    ImageInput = ImagePath | bytearray | memoryview | BinaryFile | Image.Image | NDArray[np.uint8]
    ImageInputs = ImageInput | Iterable[ImageInput]

_REMEDY = (
    "pass a path, a PIL image, a uint8 array, the bytes of an image or a file opened with 'rb'"
)
# No system has longer paths.
_MAX_PATH = 4096
# The first bytes of the formats that a path might begin with as well.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
# Images that are looked at ahead, so that a pass through a packed archive serves them all.
_MAX_AHEAD = 20_000
# The kinds of numpy's arrays that hold paths or images, not pixels.
_KINDS_OF_ITEMS = "OSUT"


def make_refs(images: ImageInputs, limit: int = MAX_BYTES) -> Iterator[ImageRef]:
    """Make refs of one or many images, numbered in their order; folders and archives are listed.

    Open files are read here, at most `limit` bytes of each. What is no image among many is a
    ref with a problem.

    Raises:
        OptionError: `images` is neither an image nor an iterable.
    """
    return _number(_make_all(_list_items(images), limit))


def _list_items(images: Any) -> Iterable[Any]:
    """Return the images one by one, where `images` is a single one as well."""
    if _is_image(images):
        return [images]
    if isinstance(images, Mapping):
        raise _refuse(images, "pass its values")
    if hasattr(images, "__array__") and not isinstance(images, Sequence):
        # A tensor of another library is one image; a column of a table has many.
        try:
            array = np.asarray(images)
        except (TypeError, ValueError, RuntimeError):
            raise _refuse(images, f"{_REMEDY}, or many of these") from None
        if array.dtype.kind not in _KINDS_OF_ITEMS:
            return [array]
        if array.ndim > 1:
            raise _refuse(images, "pass one column of it")
        return list(array.reshape(-1))
    if not isinstance(images, Iterable):
        raise _refuse(images, f"{_REMEDY}, or many of these")
    return images


def _is_image(value: Any) -> bool:
    return isinstance(
        value, str | bytes | bytearray | memoryview | os.PathLike | Image.Image
    ) or hasattr(value, "read")


def _refuse(images: object, remedy: str) -> OptionError:
    return OptionError(f"images={_describe(images)} is no image", remedy)


def _describe(value: object) -> str:
    """Return a short value as Python shows it, else its type."""
    text = repr(value)
    return text if len(text) <= 40 and text.isprintable() else f"a {type(value).__name__}"


def _number(refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    for index, ref in enumerate(refs):
        yield ImageRef(index, ref.path, ref.source, ref.problem, ref.member)


def _make_all(items: Iterable[Any], limit: int) -> Iterator[ImageRef]:
    """Make the refs of all images, not numbered yet."""
    paths = _Paths(items)
    for position, item in enumerate(items):
        if isinstance(item, bytes | bytearray | memoryview) and _is_content(item):
            data = bytes(item)
            yield ImageRef(0, b"", member=partial(_return_content, data))
        elif isinstance(item, str | bytes | os.PathLike):
            yield from paths.make_refs(position, item)
        elif isinstance(item, Image.Image | np.ndarray) or hasattr(item, "__array__"):
            yield ImageRef(0, b"", source=item)
        elif hasattr(item, "read"):
            yield _read_file(item, limit)
        else:
            problem = f"images[{position}] is {_describe(item)}, which is no image; {_REMEDY}"
            yield ImageRef(0, b"", problem=problem)


def _is_content(data: bytes | bytearray | memoryview) -> bool:
    """Return whether bytes are those of an image, and not of a path.

    Paths have no NUL bytes, and images of any format have some.
    """
    if not isinstance(data, bytes) or b"\0" in data or len(data) > _MAX_PATH:
        return True
    return data.startswith(_MAGIC) and not os.path.lexists(data)


def _return_content(data: bytes, limit: int) -> bytes:
    check_bytes(len(data), limit)
    return data


def _read_file(file: Any, limit: int) -> ImageRef:
    """Read an open file now: its owner may close it before the next image is asked for."""
    name = getattr(file, "name", b"")
    path = os.fsencode(name) if isinstance(name, str | bytes) else b""
    try:
        data = _read_open(file, limit)
        check_bytes(len(data), limit)
    except ImageError as error:
        return ImageRef(0, path, problem=str(error))
    except (OSError, ValueError) as error:
        # A closed file raises ValueError.
        return ImageRef(0, path, problem=f"{UNREAD}: {getattr(error, 'strerror', None) or error}")
    return ImageRef(0, path, member=partial(_return_content, data))


def _read_open(file: Any, limit: int) -> bytes:
    """Read a file from its position on, or from its start where it is at its end."""
    data = file.read(limit + 1)
    if not data and hasattr(file, "seek") and getattr(file, "seekable", lambda: False)():
        # It was written just now, or is given a second time.
        file.seek(0)
        data = file.read(limit + 1)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(f"gives {type(data).__name__}, not bytes; open it with 'rb'")
    parts = [bytes(data)]
    size = len(data)
    # Pipes and sockets give less than they are asked for.
    while size <= limit and (data := file.read(limit + 1 - size)):
        parts.append(bytes(data))
        size += len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Paths:
    """Refs of paths; the archives that these name are shared."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items
        self._shelf = Shelf()
        # Readers of files in archives by their positions in `items`, as far as looked ahead.
        self._ahead: dict[int, Callable[[int], bytes]] = {}
        self._looked = 0

    def make_refs(self, position: int, path: ImagePath) -> Iterator[ImageRef]:
        """Make the refs of one path, which has a position among the images."""
        try:
            name = os.fsencode(path)
        except UnicodeEncodeError:
            yield ImageRef(0, b"", problem=f"images[{position}] is {path!a}: no such file")
            return
        if (member := split_member(name)) is not None:
            yield from self._make_member_refs(position, name, *member)
        elif is_remote(name) and _has_image_suffix(name):
            # Its name says that it is an image: not looked up beforehand, as there may be many.
            yield ImageRef(0, name, member=RemoteImage(name))
        elif is_remote(name) or os.path.isdir(name) or is_archive(name):
            yield from Listing([name])
        else:
            yield ImageRef(0, name)

    def _make_member_refs(
        self, position: int, path: bytes, archive: bytes, inside: bytes
    ) -> Iterator[ImageRef]:
        if not _has_image_suffix(inside):
            try:
                yield from Listing([path])
            except MissingInputError as error:
                yield ImageRef(0, path, problem=str(error))
            return
        reader = self._ahead.pop(position, None) or self._shelf.get(archive).open_member(inside)
        if isinstance(reader, WantedMember) and position >= self._looked:
            self._look_ahead(position + 1)
        yield ImageRef(0, path, member=reader)

    def _look_ahead(self, start: int) -> None:
        """Make the readers of the next images, where these are in memory."""
        if not isinstance(self._items, Sequence):
            return
        self._looked = start + _MAX_AHEAD
        for position, item in enumerate(islice(self._items, start, self._looked), start):
            if isinstance(item, str | os.PathLike):
                with contextlib.suppress(UnicodeEncodeError):
                    member = split_member(os.fsencode(item))
                    if member is not None and _has_image_suffix(member[1]):
                        self._ahead[position] = self._shelf.get(member[0]).open_member(member[1])


def _has_image_suffix(name: bytes) -> bool:
    return os.path.splitext(name)[1].lower()[1:] in IMAGE_SUFFIXES
