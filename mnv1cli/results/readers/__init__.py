"""Results read back, in every format that mnv1 writes them: the images, row by row.

A folder is a dataset; a file's content says which format it is. The modules are
imported when a format is met, so that nobody pays for the others.
"""

from __future__ import annotations

import hashlib
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from mnv1cli.errors import MissingInputError, ResultError
from mnv1cli.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.storage.location import Source
    from mnv1cli.types import Layout, Table


_START_BYTES = 64
_FORMATS = {
    "NpyResult": "npy",
    "NpzResult": "npz",
    "ParquetResult": "parquet",
    "JsonLinesResult": "jsonl",
    "CsvResult": "csv",
    "TsvResult": "tsv",
}


class Result(Protocol):
    """A result that is there.

    `layout` is None where the file has no rows to tell it. `metadata` is that of
    the run, None where there is none. What cannot be read raises `ResultError`.
    """

    layout: Layout | None

    @property
    def metadata(self) -> RunMetadata | None:
        """That of the run."""
        ...

    def paths(self) -> Iterator[bytes]:
        """Each image that has a row, in their order."""
        ...

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """The rows, in the tables that a writer takes, of so many `images` where that is said.

        Of labels in `--wide` there are no class ids: they are -1.
        """
        ...


def open_result(source: Source) -> Result:
    """A result in any format, or a dataset.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it is none of ours, or damaged.
        OptionError: the format needs a library that is not installed.
    """
    place = Location(os.fspath(source)) if isinstance(source, Path) else source
    if place.is_dataset:
        from mnv1cli.results.readers.dataset import DatasetResult

        return DatasetResult(place)
    if place.is_remote:
        raise ResultError(f"{place} is a single file", "copy it to this machine first")
    file = place.path
    module, _, name = _reader(file).partition(":")
    reader = getattr(import_module(f"mnv1cli.results.readers.{module}"), name)
    return cast("Result", reader(file))


def describe_dataset_parts(place: Location) -> str:
    """What tells whether a dataset has changed: its parts, which never do."""
    from mnv1cli.results.readers.dataset import list_parts
    from mnv1cli.storage.folder import open_folder

    names = list_parts(open_folder(place))
    count = "1 part" if len(names) == 1 else f"{len(names):,} parts"
    return f"{count}, {hashlib.sha256(os.fsencode('/'.join(names))).hexdigest()[:12]}"


def detect_format(file: Path) -> str:
    """The format of a result, by its content.

    Raises:
        ResultError: it is none of ours, or cannot be read.
    """
    return _FORMATS[_reader(file).partition(":")[2]]


def _reader(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            start = stream.read(_START_BYTES)
    except FileNotFoundError:
        raise MissingInputError(f"no such file: {file}") from None
    except OSError as error:
        raise ResultError(f"cannot read {file}: {error.strerror}") from error
    for mark, reader in (
        (b"\x93NUMPY", "npy:NpyResult"),
        (b"PK\x03\x04", "npz:NpzResult"),
        (b"PAR1", "parquet:ParquetResult"),
        (b"{", "jsonl:JsonLinesResult"),
        (b"path,", "delimited:CsvResult"),
        (b"path\t", "delimited:TsvResult"),
    ):
        if start.startswith(mark):
            return reader
    if not start and file.suffix.lower() in (".jsonl", ".ndjson"):
        return "jsonl:JsonLinesResult"
    raise ResultError(f"{file} is no result of mnv1")
