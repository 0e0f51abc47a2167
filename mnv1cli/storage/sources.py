"""Existing results: files on this machine, datasets, and copies of single files in stores."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from mnv1cli.errors import MissingInputError
from mnv1cli.storage.folder import explain_read_errors
from mnv1cli.storage.location import Location, ResultSource
from mnv1cli.storage.stores import open_store
from mnv1cli.system.tempdirs import make_scratch_dir

_COPIED_BYTES = 8 << 20


def to_result_source(location: Location) -> ResultSource:
    """Convert the location of an existing result: to a path, unless it is a dataset.

    A file in a store is copied, with the files beside it, into a folder that goes with the process.

    Raises:
        MissingInputError: there is no such file in the store.
        ResultError: it cannot be read.
        OptionError: the library for its scheme is not installed.
    """
    if location.is_dataset:
        return location
    return _copy(location) if location.is_remote else location.path


def _copy(location: Location) -> Path:
    folder = Path(tempfile.mkdtemp(dir=make_scratch_dir()))
    stem = os.path.splitext(location.text)[0]
    for uri in (location.text, f"{location}.meta.json", f"{stem}.index.csv"):
        if not _copy_object(uri, folder) and uri == location.text:
            raise MissingInputError(f"no such file: {location}")
    return folder / location.name


def _copy_object(uri: str, folder: Path) -> bool:
    """Copy an object into a folder, and return whether it exists."""
    store = open_store(Location(uri).scheme)
    with explain_read_errors(uri):
        try:
            source = store.open(os.fsencode(uri), _COPIED_BYTES)
        except FileNotFoundError:
            return False
        with source, (folder / Location(uri).name).open("wb") as file:
            shutil.copyfileobj(source, file, _COPIED_BYTES)
    return True
