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
from mnv1cli.path_text import display_path
from mnv1cli.results.readers.parquet import ParquetResult
from mnv1cli.storage.folder import Folder, open_folder, reading
from mnv1cli.system.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import TypeVar

    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.storage.location import Location
    from mnv1cli.types import Fault, Layout, Table

    T = TypeVar("T")

log = logging.getLogger(__name__)

# What the names of parts begin and end with; the run stands in between.
PART, SUFFIX = "part-", ".parquet"
# Others name their files part-, too; nobody's are to be taken for ours, or removed.
_NAME = re.compile(rf"{PART}\d{{8}}T\d{{12}}-[0-9a-f]{{8}}-.*{re.escape(SUFFIX)}", re.DOTALL)
# What is told of each run; every reader of Parquet passes over such names.
RUNS = "_mnv1"
_PASSED_OVER = ("_", ".")
# So many parts are asked for at once: a store answers late, and a disk at once.
_AT_ONCE, _AT_ONCE_FAR = 2, 16


class PartHead(NamedTuple):
    """What a part tells before its rows."""

    name: str
    metadata: RunMetadata
    layout: Layout


def list_parts(folder: Folder) -> list[str]:
    """The names of the parts, in the order of their runs.

    Raises:
        ResultError: the folder is no dataset, or cannot be listed.
    """
    with reading(folder.place):
        entries = folder.entries()
    found = []
    for name, is_folder in entries.items():
        if name.startswith(_PASSED_OVER):
            continue
        if is_folder or not _NAME.fullmatch(name):
            shown = display_path(os.fsencode(name))
            raise ResultError(f"{folder.place} is no dataset of mnv1: it has {shown}")
        found.append(name)
    return found


@contextlib.contextmanager
def open_part(folder: Folder, name: str) -> Iterator[ParquetResult]:
    """A part to read.

    Raises:
        ResultError: it cannot be read, or is damaged.
    """
    shown = folder.shown(name)
    with reading(shown):
        file = folder.open(name)
    with contextlib.closing(file):
        yield ParquetResult(shown, file, folder.place.is_remote)


def map_parts(
    folder: Folder, names: Iterable[str], function: Callable[[ParquetResult], T]
) -> Iterator[T]:
    """What a function gives of each part, in their order; several are read at once."""

    def of_one(name: str) -> T:
        with open_part(folder, name) as part:
            return function(part)

    yield from ordered_map(of_one, names, _at_once(folder))


def _at_once(folder: Folder) -> int:
    return _AT_ONCE_FAR if folder.place.is_remote else _AT_ONCE


def read_common_head(folder: Folder, names: Sequence[str]) -> PartHead | None:
    """Settings and layout of all the parts; None where there is none.

    Raises:
        ResultError: a part is damaged or tells no settings, or two were made with different ones.
    """
    first: PartHead | None = None
    heads = map_parts(folder, names, lambda part: (part.stored_metadata, part.layout))
    for name, (metadata, layout) in zip(names, heads, strict=True):
        if metadata is None or layout is None:
            raise ResultError(f"nothing tells how {folder.shown(name)} came about")
        if first is None:
            first = PartHead(name, metadata, layout)
            continue
        both = f"{folder.shown(first.name)} and {folder.shown(name)}"
        difference = first.metadata.difference(metadata)
        if difference is not None:
            raise ResultError(
                f"{both} were made with different settings: {difference.name} {difference.one} and "
                f"{difference.other}",
                "keep them in folders of their own",
            )
        if layout != first.layout:
            raise ResultError(f"{both} have different columns", "keep them in folders of their own")
    return first


def _run_of(part: str) -> str:
    return part.removeprefix(PART).rpartition("-")[0]


def _without(tally: tuple[int, list[Fault]], twice: Collection[bytes]) -> tuple[int, list[Fault]]:
    """The tally of a part without some of its images."""
    images, faults = tally
    return images - len(twice), [fault for fault in faults if fault.path not in twice]


class DatasetResult:
    """The parts of a dataset as one result, in their order.

    Raises:
        MissingInputError: there is no such folder.
        ResultError: it is no dataset, has no part, or one that is damaged or of other settings.
    """

    def __init__(self, place: Location) -> None:
        self._place = place
        self._folder = open_folder(place)
        self._names = list_parts(self._folder)
        head = read_common_head(self._folder, self._names)
        if head is None and not self._folder.is_there():
            raise MissingInputError(f"no such dataset: {place}")
        if head is None:
            raise ResultError(f"{place} is an empty dataset: it has no {PART}*{SUFFIX}")
        self.layout: Layout | None = head.layout
        self._settings = head.metadata.settings()

    @cached_property
    def metadata(self) -> RunMetadata | None:
        """The settings, and what the rows and the runs tell; no part is read for it before."""
        images, faults = 0, []
        parts = map_parts(self._folder, self._names, ParquetResult.tally)
        once = map(_without, parts, (self._doubles.get(name, frozenset()) for name in self._names))
        for number, failed in once:
            images += number
            faults += failed
        return self._settings.ended(images - len(faults), faults, self._seconds())

    def paths(self) -> Iterator[bytes]:
        """Each image that has a row, part by part."""
        for name in self._names:
            twice = self._doubles.get(name, ())
            with open_part(self._folder, name) as part:
                yield from (path for path in part.paths() if path not in twice)

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """The rows, part by part: those of an image are in one part."""
        for name in self._names:
            twice = self._doubles.get(name)
            with open_part(self._folder, name) as part:
                for table in part.tables(images):
                    yield table.without(twice) if twice else table

    @cached_property
    def _doubles(self) -> Mapping[str, frozenset[bytes]]:
        """By its name, the images of a part that an earlier one has, too.

        Two runs that did them at the same time have written both.
        """
        found: dict[str, frozenset[bytes]] = {}
        if len({_run_of(name) for name in self._names}) < 2:
            return found
        seen: set[bytes] = set()
        parts = map_parts(self._folder, self._names, lambda part: list(part.paths()))
        for name, paths in zip(self._names, parts, strict=True):
            if twice := seen.intersection(paths):
                found[name] = frozenset(twice)
            seen.update(paths)
        if found:
            number = f"{sum(map(len, found.values())):,}"
            log.warning("%s has rows of %s images twice; they count once", self._place, number)
        return found

    def _seconds(self) -> float:
        """The time of all runs that came to their end."""
        with reading(self._place):
            names = [f"{RUNS}/{name}" for name in self._folder.entries(RUNS)]
            return math.fsum(ordered_map(self._seconds_of, names, _at_once(self._folder)))

    def _seconds_of(self, name: str) -> float:
        # Nothing but the time is told here alone: a damaged file is no loss.
        with contextlib.closing(self._folder.open(name)) as file:
            try:
                return float(json.loads(file.read())["seconds"])
            except (ValueError, KeyError, TypeError):
                return 0.0
