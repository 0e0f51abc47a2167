"""Where inputs and results are: a path on this machine, or a URI."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# Two letters at least: `C:` is a drive.
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]+)://")


def scheme(name: bytes) -> str:
    """What a URI begins with, in small letters; empty for a path."""
    found = _SCHEME.match(name)
    return found[1].decode().lower() if found else ""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a result is or goes, as it was given: a path, a URI, or `-` for stdout.

    One that ends with a slash is a dataset: a folder of Parquet files.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def scheme(self) -> str:
        """What a URI begins with; empty for a path."""
        return scheme(os.fsencode(self.text))

    @property
    def is_remote(self) -> bool:
        """Whether it is a URI."""
        return bool(self.scheme)

    @property
    def is_stdout(self) -> bool:
        """Whether it is `-`."""
        return self.text == "-"

    @property
    def is_folder(self) -> bool:
        """Whether its name says that it is a folder, or there is one on this machine."""
        return self.text.endswith("/") or (not self.is_remote and self.path.is_dir())

    @property
    def is_dataset(self) -> bool:
        """Whether results that are read from it are a folder of them, not a file."""
        return self.is_folder or (self.is_remote and not self.suffix)

    @property
    def name(self) -> str:
        """The last part of its name."""
        return self.text.rstrip("/").rpartition("/")[2]

    @property
    def path(self) -> Path:
        """The path on this machine that it names."""
        assert not self.is_remote
        return Path(self.text)

    @property
    def suffix(self) -> str:
        """The end of its name, as `Path.suffix`."""
        return os.path.splitext(self.text)[1]


# Where results are read from.
Source = Path | Location


def source(place: Location) -> Source:
    """A place that results are read from: a path where it is a file on this machine."""
    return place if place.is_dataset or place.is_remote else place.path
