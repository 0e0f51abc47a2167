"""A dataset read back: a folder of Parquet files, its parts, on disk or in an object store."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from mnv1cli.errors import MissingInputError, ResultError
from mnv1cli.path_text import count, display_path
from mnv1cli.results.readers.parquet import ParquetResult
from mnv1cli.storage.folder import Folder, explain_read_errors, open_folder
from mnv1cli.system.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeVar

    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.storage.location import Location
    from mnv1cli.types import Fault, Layout, Table

    T = TypeVar("T")

log = logging.getLogger(__name__)

# The names of parts begin and end so, with the run in between.
PART, SUFFIX = "part-", ".parquet"
# Other programs name their files part-, too; those must not be taken for ours, or removed.
_NAME = re.compile(rf"{PART}\d{{8}}T\d{{12}}-[0-9a-f]{{8}}-.*{re.escape(SUFFIX)}", re.DOTALL)
# The folder of the metadata of each run; every reader of Parquet passes over such names.
RUNS = "_mnv1"
_PASSED_OVER = ("_", ".")
# Parts that are asked for at the same time: a store answers late, a disk at once.
_PARALLEL, _PARALLEL_FAR = 2, 16


class PartHead(NamedTuple):
    """The name of a part, and what it says before its rows."""

    name: str
    metadata: RunMetadata
    layout: Layout


def list_parts(folder: Folder) -> list[str]:
    """List the names of the parts, in the order of their runs.

    Raises:
        ResultError: the folder is no dataset, or cannot be listed.
    """
    with explain_read_errors(folder.location):
        entries = folder.list_entries()
    names = []
    for name, is_folder in entries.items():
        if name.startswith(_PASSED_OVER):
            continue
        if is_folder or not _NAME.fullmatch(name):
            shown = display_path(os.fsencode(name))
            raise ResultError(f"{folder.location} is no dataset of mnv1: it has {shown}")
        names.append(name)
    return names


@contextlib.contextmanager
def open_part(folder: Folder, name: str) -> Iterator[ParquetResult]:
    """Open a part to read.

    Raises:
        ResultError: it cannot be read, or is damaged.
    """
    shown = folder.display_name(name)
    with explain_read_errors(shown):
        file = folder.open(name)
    with contextlib.closing(file):
        yield ParquetResult(shown, file, folder.location.is_remote)


def map_parts(
    folder: Folder, names: Iterable[str], function: Callable[[ParquetResult], T]
) -> Iterator[T]:
    """Yield the result of a function for each part, in their order; several are read at once."""

    def apply(name: str) -> T:
        with open_part(folder, name) as part:
            return function(part)

    yield from ordered_map(apply, names, _parallel(folder))


def _parallel(folder: Folder) -> int:
    return _PARALLEL_FAR if folder.location.is_remote else _PARALLEL


def read_common_head(folder: Folder, names: Sequence[str]) -> PartHead | None:
    """Read the settings and the layout that all parts have; None where there is no part.

    Raises:
        ResultError: a part is damaged or has no settings, or two were made with different ones.
    """
    first: PartHead | None = None
    heads = map_parts(folder, names, lambda part: (part.stored_metadata, part.layout))
    for name, (metadata, layout) in zip(names, heads, strict=True):
        if metadata is None or layout is None:
            raise ResultError(f"{folder.display_name(name)} does not say how it was made")
        if first is None:
            first = PartHead(name, metadata, layout)
            continue
        both = folder.display_name(first.name), folder.display_name(name)
        difference = first.metadata.difference(metadata)
        if difference is not None:
            raise ResultError(difference.describe(*both), "keep them in folders of their own")
        if layout != first.layout:
            raise ResultError(
                f"{both[0]} and {both[1]} have different columns",
                "keep them in folders of their own",
            )
    return first


def _run_of(part: str) -> str:
    return part.removeprefix(PART).rpartition("-")[0]


class DatasetResult:
    """The parts of a dataset as one result, in their order.

    Raises:
        MissingInputError: there is no such folder.
        ResultError: it is not a dataset, has no part, or a part is damaged or has other settings.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._folder = open_folder(location)
        self._names = list_parts(self._folder)
        head = read_common_head(self._folder, self._names)
        if head is None and not self._folder.exists():
            raise MissingInputError(f"no such dataset: {location}")
        if head is None:
            raise ResultError(f"{location} is an empty dataset: it has no {PART}*{SUFFIX}")
        self.layout: Layout | None = head.layout
        self._settings = head.metadata.settings()

    @cached_property
    def metadata(self) -> RunMetadata | None:
        """The settings, with the counts of the rows and the time of the runs; reads all parts."""
        images, damaged = 0, 0
        faults: list[Fault] = []
        parts = map_parts(self._folder, self._names, ParquetResult.tally)
        for name, part in zip(self._names, parts, strict=True):
            tally = part.without(self._repeated.get(name, frozenset()))
            images += tally.images
            faults += tally.faults
            damaged += len(tally.damaged)
        return self._settings.ended(images - len(faults), faults, self._sum_seconds(), damaged)

    def paths(self) -> Iterator[bytes]:
        """Yield each image that has a row, part by part."""
        for name in self._names:
            repeated = self._repeated.get(name, ())
            with open_part(self._folder, name) as part:
                yield from (path for path in part.paths() if path not in repeated)

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """Yield the rows in tables of `images` images; those of an image are in one part."""
        for name in self._names:
            repeated = self._repeated.get(name)
            with open_part(self._folder, name) as part:
                for table in part.tables(images):
                    yield table.without(repeated) if repeated else table

    @cached_property
    def _repeated(self) -> Mapping[str, frozenset[bytes]]:
        """The images of each part that an earlier part has, too, by the name of the part.

        Two runs that worked on them at the same time have both written them.
        """
        repeated: dict[str, frozenset[bytes]] = {}
        if len({_run_of(name) for name in self._names}) < 2:
            return repeated
        seen: set[bytes] = set()
        parts = map_parts(self._folder, self._names, lambda part: list(part.paths()))
        for name, paths in zip(self._names, parts, strict=True):
            if again := seen.intersection(paths):
                repeated[name] = frozenset(again)
            seen.update(paths)
        if repeated:
            images = count(sum(map(len, repeated.values())), "image")
            log.warning("%s has rows of %s twice; they count once", self._location, images)
        return repeated

    def _sum_seconds(self) -> float:
        """Sum up the time of all runs that were completed, in seconds."""
        with explain_read_errors(self._location):
            names = [f"{RUNS}/{name}" for name in self._folder.list_entries(RUNS)]
            return math.fsum(ordered_map(self._read_seconds, names, _parallel(self._folder)))

    def _read_seconds(self, name: str) -> float:
        # Only the time is not written elsewhere: a damaged file is no loss.
        with contextlib.closing(self._folder.open(name)) as file:
            try:
                return float(json.loads(file.read())["seconds"])
            except (ValueError, KeyError, TypeError):
                return 0.0
