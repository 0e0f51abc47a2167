"""Locations of inputs and results: a path on this machine, a URI, or `-` for stdin or stdout."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# The schemes of URIs that can be read, and of URIs that results can be written to.
SCHEMES = ("s3", "gs", "az", "http", "https")
WRITABLE = ("s3", "gs", "az")
# Two letters at least: `C:` is a drive.
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]+)://")


def get_scheme(name: bytes) -> str:
    """Return the scheme of a URI in lower case; empty for a path."""
    match = _SCHEME.match(name)
    return match[1].decode().lower() if match else ""


def is_remote(name: bytes) -> bool:
    """Return whether a name is a URI with one of `SCHEMES`."""
    return get_scheme(name) in SCHEMES


@dataclass(frozen=True, slots=True)
class Location:
    """The location of a result, as it was given: a path, a URI, or `-` for stdout.

    A location that ends with a slash is a dataset: a folder of Parquet files.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def scheme(self) -> str:
        """The scheme of a URI in lower case; empty for a path."""
        return get_scheme(os.fsencode(self.text))

    @property
    def is_remote(self) -> bool:
        """True for a URI of any scheme."""
        return bool(self.scheme)

    @property
    def is_stdout(self) -> bool:
        """True for `-`."""
        return self.text == "-"

    @property
    def is_folder(self) -> bool:
        """True if the text ends with a slash, or this machine has a folder of this name."""
        return self.text.endswith("/") or (not self.is_remote and self.path.is_dir())

    @property
    def is_dataset(self) -> bool:
        """True if results are read from here as a folder of files, not as a single file."""
        return self.is_folder or (self.is_remote and not self.suffix)

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def path(self) -> Path:
        """The path on this machine; only for a location that is not remote."""
        assert not self.is_remote
        return Path(self.text)

    @property
    def suffix(self) -> str:
        """The suffix of the name with its dot, as `Path.suffix`."""
        return os.path.splitext(self.text)[1]


# The source of an existing result: a path for a file on this machine, else a location.
ResultSource = Path | Location


def is_same_file(source: ResultSource | None, file: Path | None) -> bool:
    """Return whether two paths name one file, which need not exist."""
    if source is None or file is None or isinstance(source, Location):
        return False
    if source.exists() and file.exists():
        return source.samefile(file)
    return os.path.abspath(source) == os.path.abspath(file)
