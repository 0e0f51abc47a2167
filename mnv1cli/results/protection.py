"""Files that must not be replaced: photos, what a run reads, and what others have written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError, OutputError
from mnv1cli.types import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mnv1cli.results.files import ResultFiles


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


def refuse_to_replace(outputs: ResultFiles, inputs: Iterable[Path | None]) -> None:
    """Keep a run from replacing the files that it reads.

    Raises:
        OptionError: a file to write is one of `inputs`.
    """
    read = {os.path.realpath(path) for path in inputs if path is not None}
    for path in outputs.paths:
        if os.path.realpath(path) in read:
            raise OptionError(f"{path} is read, and cannot be written", "name another file")


def refuse_image_name(file: Path) -> None:
    """Keep results out of photos, whether by a slip or by `-f csv *.jpg` with a file `-o.jpg`.

    Raises:
        OptionError: the name has the suffix of an image.
    """
    suffix = os.fsencode(file.name).lower().rpartition(b".")[2]
    if suffix in IMAGE_SUFFIXES:
        raise OptionError(f"{file} is the name of an image", "results need another")
