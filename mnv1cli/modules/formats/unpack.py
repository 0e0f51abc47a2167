"""Archives of modules from others, unpacked safely: `.tar.gz`, `.tar` and `.zip`, by content."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError
from mnv1cli.modules.formats import recognise
from mnv1cli.modules.formats.bounds import Bounds
from mnv1cli.modules.formats.tar_file import unpack_tar
from mnv1cli.modules.formats.zip_file import unpack_zip

if TYPE_CHECKING:
    from pathlib import Path

# The limits of what an archive unpacks to; a module of the family has 17 MB.
MAX_MEMBERS = 10_000
MAX_BYTES = 2 << 30
# Weights hardly compress: an archive that unpacks to so many times its size is a bomb.
_MAX_RATIO = 100
_ALWAYS_BYTES = 256 << 20


def check_form(path: Path) -> None:
    """Refuse a file that is known to be something other than an archive of a module.

    Raises:
        ModuleError: it is; the message names its form, and what to do.
        OSError: the file cannot be read.
    """
    if form := recognise.recognise_file(path):
        raise ModuleError(f"{path} is {form.name}, not a module", form.advice)


def unpack_archive(archive: Path, directory: Path) -> None:
    """Unpack an archive into the empty `directory`, files and folders only.

    A module in a single folder at the archive's root is moved up to the root.

    Raises:
        ModuleError: the file is no archive of a module, or is unsafe, too large or damaged.
        OSError: the archive cannot be read, or `directory` cannot be written.
    """
    check_form(archive)
    max_bytes = min(MAX_BYTES, max(_ALWAYS_BYTES, _MAX_RATIO * archive.stat().st_size))
    bounds = Bounds(archive, MAX_MEMBERS, max_bytes)
    head = recognise.read_head(archive)
    if recognise.is_zip(head):
        unpack_zip(archive, directory, bounds)
    else:
        unpack_tar(archive, directory, bounds, packed=not recognise.is_tar(head))
    _lift_single_folder(directory)


def _lift_single_folder(directory: Path) -> None:
    # macOS leaves files with a dot in any folder.
    entries = [entry for entry in directory.iterdir() if not entry.name.startswith(".")]
    if len(entries) != 1 or not (entries[0] / "saved_model.pb").is_file():
        return
    folder = entries[0].rename(directory / f"{uuid.uuid4().hex}-tmp")
    for entry in folder.iterdir():
        entry.rename(directory / entry.name)
    folder.rmdir()
