"""A dataset that runs write into: a folder of Parquet files, which readers of Parquet take as one.

    part-<run>-<n>.parquet   rows; each file tells the settings of its run
    _mnv1/<run>.json         the metadata of each run that came to its end

The truth about the rows is in the parts alone, each of which is there as a whole
or not at all. Several runs may write at once: their names differ.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OutputError, ResultError
from mnv1cli.results.readers.dataset import (
    PART,
    RUNS,
    SUFFIX,
    list_parts,
    map_parts,
    open_part,
    read_common_head,
)
from mnv1cli.results.writers.arrow import METADATA_KEY, ArrowRows
from mnv1cli.storage import stores
from mnv1cli.storage.folder import open_folder, reading, writing
from mnv1cli.types import Fault, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.results.readers.parquet import ParquetResult
    from mnv1cli.storage.folder import Folder
    from mnv1cli.storage.location import Location
    from mnv1cli.types import ImageRef, Task

# What is worth a row group, as in single files.
_GROUP_BYTES = 16 << 20


def write_part(folder: Folder, run: str, number: int, table: Any) -> str:
    """Write a table as the part of this number of a run; gives the part's name.

    The same part may be written again: it is there as a whole, once.

    Raises:
        OutputError: it cannot be written.
    """
    name = f"{PART}{run}-{number:05}{SUFFIX}"
    with writing(folder.shown(name)):
        folder.put(name, _encoded(table))
    return name


def without_faults(folder: Folder, name: str) -> None:
    """Write a part anew without the rows of images that failed; it stays, if with no row.

    So others that do the same at the same time, such as other shards, find it still.

    Raises:
        OutputError: it cannot be written.
        ResultError: it cannot be read, or is damaged.
    """
    from pyarrow import compute, parquet

    with open_part(folder, name) as part:
        if not part.tally()[1]:
            return
    calls: Any = compute
    with reading(folder.shown(name)), contextlib.closing(folder.open(name)) as file:
        table: Any = parquet.read_table(file)
    kept = table.filter(calls.equal(table.column("error"), ""))
    with writing(folder.shown(name)):
        folder.put(name, _encoded(kept))


def _encoded(table: Any) -> bytes:
    from pyarrow import parquet

    rows = max(1, _GROUP_BYTES * table.num_rows // max(table.nbytes, 1))
    data = io.BytesIO()
    parquet.write_table(
        table, data, compression="zstd", row_group_size=rows, write_page_checksum=True
    )
    return data.getvalue()


def _all(part: ParquetResult) -> list[bytes]:
    return list(part.paths())


def _good(part: ParquetResult) -> list[bytes]:
    """The images of a part that did not fail."""
    failed = {fault.path for fault in part.tally()[1]}
    return [path for path in part.paths() if path not in failed]


def layout(task: Task, shape: tuple[int, ...]) -> Layout:
    """The layout of a dataset's rows: every image has one at least, with what became of it."""
    return Layout(shape, task.command == "classify", errors=True, meta=task.meta, every=True)


class Dataset:
    """A dataset to write into; looked at before any work.

    `filesystem` and `root` are pyarrow's file system and the folder in it, `run`
    is the unique name of this run, later ones sorting behind earlier ones.
    `metadata` are the settings of the rows that are there, None where there are
    none. `passed` counts the images that had a row already when they came; `again`
    are those of them that cannot be listed, whose faults every run tells.

    With `force` the rows that are there are replaced: `begin` removes them. With
    `retry` those of images that failed are, which count as missing.

    Raises:
        OptionError: pyarrow, or what a store needs, is not installed.
        OutputError: the folder holds something else, or cannot be written.
        ResultError: a part is damaged, or two parts have different settings.
    """

    def __init__(self, place: Location, force: bool = False, retry: bool = False) -> None:
        self.place = place
        self.filesystem, self.root = stores.arrow_filesystem(place)
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.urandom(4).hex()}"
        self.passed = 0
        self.again: list[Fault] = []
        self._folder = open_folder(place)
        self._numbers = itertools.count()
        self._force = force
        self._retry = retry
        with writing(place):
            self._folder.check()
        try:
            self._there = list_parts(self._folder)
        except ResultError as error:
            raise OutputError(error.what, "name a folder of its own") from error
        head = None if force else read_common_head(self._folder, self._there)
        self.metadata = head.metadata.settings() if head else None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return str(self.place)

    def parts(self) -> list[str]:
        """The names of all parts that there are now, relative to `root`."""
        return list_parts(self._folder)

    def missing(self, refs: Iterable[ImageRef], metadata: RunMetadata) -> Iterator[ImageRef]:
        """The images that have no row, by the bytes of their paths, each of them once.

        Raises:
            ResultError: the dataset was made with other settings than `metadata` has.
        """
        known: set[bytes] = set()
        if self.metadata is not None:
            self.metadata.require_same(self.name, metadata)
            read = _good if self._retry else _all
            known.update(*map_parts(self._folder, self._there, read))
        return self._lacking(refs, known)

    def _lacking(self, refs: Iterable[ImageRef], known: set[bytes]) -> Iterator[ImageRef]:
        for ref in refs:
            if ref.path in known and ref.problem:
                # A folder that cannot be listed, say: what is in it is not there already.
                self.again.append(Fault(ref.path, ref.problem))
            elif ref.path in known:
                self.passed += 1
            else:
                known.add(ref.path)
                yield ref

    def schema(self, layout: Layout, metadata: RunMetadata) -> Any:
        """The schema of the parts of this run, which tells its settings."""
        of_run = replace(metadata.settings(), run=self.run)
        text = json.dumps(of_run.to_json(), ensure_ascii=False).encode("utf-8", "replace")
        return ArrowRows(layout).schema.with_metadata({METADATA_KEY: text})

    def begin(self) -> None:
        """Make the folder, and remove what is to be replaced or was left half written.

        To be called once it is clear that there is something to write, before the first part.
        """
        with writing(self.place):
            self._folder.make()
            self._folder.sweep()
            if self._force:
                self._clear()
            elif self._retry:
                # First the old rows go: who is stopped in between finds the images missing.
                for name in self._there:
                    without_faults(self._folder, name)

    def _clear(self) -> None:
        for name in self._there:
            self._folder.remove(name)
        for name in self._folder.entries(RUNS):
            if name.endswith(".json"):
                self._folder.remove(f"{RUNS}/{name}")

    def write(self, table: Any) -> None:
        """Write a table, with the `schema` of this run, as a part; all rows of an image in one.

        Raises:
            OutputError: it cannot be written.
        """
        write_part(self._folder, self.run, next(self._numbers), table)

    def finish(self, metadata: RunMetadata) -> None:
        """Tell of the run, which has come to its end."""
        name = f"{RUNS}/{self.run}.json"
        text = json.dumps(metadata.to_json(), ensure_ascii=False, indent=2)
        with writing(self._folder.shown(name)):
            self._folder.put(name, text.encode("utf-8", "replace") + b"\n")

    def errors(self, run: str | None = None) -> Iterator[Fault]:
        """The images that failed, of one run or of all."""
        for _, faults in map_parts(self._folder, self._parts_of(run), lambda part: part.tally()):
            yield from faults

    def count(self, run: str | None = None) -> int:
        """How many images have rows, each counted once, of one run or of all."""
        names = self._parts_of(run)
        return len(set().union(*map_parts(self._folder, names, lambda part: list(part.paths()))))

    def _parts_of(self, run: str | None) -> list[str]:
        return [name for name in self.parts() if name.startswith(f"{PART}{run or ''}")]
