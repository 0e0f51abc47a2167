"""Files that must not be replaced: photos, what a run reads, and what others have written."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError, OutputError
from mnv1cli.inputs.archives import MEMBER_SEPARATOR, split_member
from mnv1cli.types import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mnv1cli.types import ImageRef


def give_name(part: Path, path: Path, replace: bool) -> None:
    """Give a complete file its name; without `replace` no other file may have it.

    Raises:
        OutputError: another program has written a file of this name.
        OSError: it cannot be renamed.
    """
    if replace:
        os.replace(part, path)
        return
    try:
        # Unlike a rename, a link never takes a name away from another file.
        os.link(part, path, follow_symlinks=False)
    except FileExistsError:
        # A run that was killed between the two steps has left both names.
        if not os.path.samestat(os.lstat(part), os.lstat(path)):
            raise _describe_taken(path, part) from None
    except OSError:
        # There are file systems without links: the moment between both steps remains there.
        if os.path.lexists(path):
            raise _describe_taken(path, part) from None
        os.replace(part, path)
        return
    part.unlink()


def _describe_taken(path: Path, part: Path) -> OutputError:
    return OutputError(
        f"{path} was written by another program while this run was under way",
        f"move it away; the rows of this run are in {part}",
    )


class InputGuard:
    """Keeps a run from replacing what it reads: compares files, which may have several names.

    `written` are the files that the run will write; most of them do not exist yet.
    """

    def __init__(self, written: Iterable[Path]) -> None:
        self._written: dict[tuple[int, int], Path] = {}
        for path in written:
            if (identity := _identify(path)) is not None:
                self._written[identity] = path

    def check(self, *names: bytes | Path | None) -> None:
        """Refuse files that are read; of a folder, all files in it.

        Raises:
            OptionError: one of them would be replaced.
        """
        for name in names if self._written else ():
            if name is None:
                continue
            for path in (name, *_list_below(name)):
                written = self._written.get(_identify(path) or (-1, -1))
                if written is not None:
                    raise OptionError(
                        f"{written} is read, and cannot be written", "name another file"
                    )

    def watch(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """Yield the same images; check each of them on its way, or the archive that has it.

        Raises:
            OptionError: an image would be replaced.
        """
        archive = b""
        for ref in refs if self._written else ():
            if ref.member is None:
                self.check(ref.path)
            elif not archive or not ref.path.startswith(archive + MEMBER_SEPARATOR):
                archive = (split_member(ref.path) or (b"",))[0]
                self.check(archive)
            yield ref
        if not self._written:
            yield from refs


def _identify(path: bytes | Path) -> tuple[int, int] | None:
    """Return the device and the inode of a regular file, None where there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _list_below(folder: bytes | Path) -> Iterator[bytes]:
    """Yield the files in a folder, and in those below it."""
    for root, _, names in os.walk(os.fsencode(folder)):
        yield from (os.path.join(root, name) for name in names)


def refuse_to_replace(written: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    """Keep a run from replacing the files that it reads.

    Raises:
        OptionError: a file of `written` is one of `inputs`.
    """
    InputGuard(written).check(*inputs)


def refuse_image_name(file: Path) -> None:
    """Keep results out of photos, whether by a slip or by `-f csv *.jpg` with a file `-o.jpg`.

    Raises:
        OptionError: the name has the suffix of an image.
    """
    suffix = os.fsencode(file.name).lower().rpartition(b".")[2]
    if suffix in IMAGE_SUFFIXES:
        raise OptionError(f"{file} is the name of an image", "results need another")
