"""Results read back, in every format that mnv1 writes: the images, row by row.

A folder is a dataset; the content of a file says which format it is. The modules
are imported when a format is used, so that nobody pays for the others.
"""

from __future__ import annotations

import hashlib
import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from mnv1cli.errors import MissingInputError, ResultError
from mnv1cli.path_text import count
from mnv1cli.storage.location import Location
from mnv1cli.storage.sources import to_result_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.storage.location import ResultSource
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
    """An existing result; every method raises `ResultError` where it cannot be read.

    Attributes:
        layout: the layout of the rows, None where there is no row to derive it from.
    """

    layout: Layout | None

    @property
    def metadata(self) -> RunMetadata | None:
        """The metadata of the run, None where there are none."""
        ...

    def paths(self) -> Iterator[bytes]:
        """Yield each image that has a row, in their order."""
        ...

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """Yield the rows in tables of `images` images, as a writer takes them.

        Labels of `--wide` have no class ids: they are -1.
        """
        ...


def open_result(source: ResultSource) -> Result:
    """Open a result in any format, or a dataset.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it is not of mnv1, or damaged.
        OptionError: the format needs a library that is not installed.
    """
    location = Location(os.fspath(source)) if isinstance(source, Path) else source
    if location.is_dataset:
        from mnv1cli.results.readers.dataset import DatasetResult

        return DatasetResult(location)
    if location.is_remote:
        return open_result(to_result_source(location))
    file = location.path
    module, _, name = _detect_reader(file).partition(":")
    reader = getattr(import_module(f"mnv1cli.results.readers.{module}"), name)
    return cast("Result", reader(file))


def describe_version(source: ResultSource) -> str:
    """Describe a result by a text that differs once it has changed; empty where there is none."""
    from mnv1cli.results.readers.dataset import list_parts
    from mnv1cli.storage.folder import open_folder

    if isinstance(source, Location):
        # Parts never change: equal names mean equal datasets.
        names = list_parts(open_folder(source))
        digest = hashlib.sha256(os.fsencode("/".join(names))).hexdigest()
        return f"{source.name} of {count(len(names), 'part')}, {digest[:12]}"
    try:
        status = source.stat()
    except FileNotFoundError:
        return ""
    return f"{source.name} of {status.st_size} bytes and time {status.st_mtime_ns}"


def detect_format(file: Path) -> str:
    """Detect the format of a result by its content.

    Raises:
        ResultError: it is not of mnv1, or cannot be read.
    """
    return _FORMATS[_detect_reader(file).partition(":")[2]]


def _detect_reader(file: Path) -> str:
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
