"""A dataset that runs write into: a folder of Parquet files, which readers of Parquet take as one.

    part-<run>-<n>.parquet   rows; each file holds the settings of its run
    _mnv1/<run>.json         the metadata of each run that ended

Only the parts count for the rows. Each of them exists completely or not at all. Several
runs may write at once: their names differ.
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
from mnv1cli.results.writers.arrow import METADATA_KEY, ArrowRows, import_pyarrow
from mnv1cli.storage.folder import explain_read_errors, explain_write_errors, open_folder
from mnv1cli.storage.stores import EXTRAS
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


def dataset_layout(task: Task, shape: tuple[int, ...], warnings: bool = False) -> Layout:
    """Return the layout of a dataset's rows: every image has at least one, also if it failed.

    Rows have `warnings` where damaged images are accepted.
    """
    return Layout(
        shape,
        task.command == "classify",
        errors=True,
        meta=task.meta,
        warnings=warnings,
        every=True,
    )


def write_part(folder: Folder, run: str, number: int, table: Any) -> str:
    """Write an arrow table as the part of this number of a run, and return the part's name.

    Writing the same part again replaces it.

    Raises:
        OutputError: it cannot be written.
    """
    name = f"{PART}{run}-{number:05}{SUFFIX}"
    with explain_write_errors(folder.display_name(name)):
        folder.put(name, _encode(table))
    return name


def remove_faults(folder: Folder, name: str) -> None:
    """Write a part anew without the rows of images that failed.

    The part stays, even without a row: other runs that do the same at the same time, such as
    other shards, still find it.

    Raises:
        OutputError: it cannot be written.
        ResultError: it cannot be read, or is damaged.
    """
    from pyarrow import compute, parquet

    with open_part(folder, name) as part:
        if not part.tally().faults:
            return
    calls: Any = compute
    with (
        explain_read_errors(folder.display_name(name)),
        contextlib.closing(folder.open(name)) as file,
    ):
        table: Any = parquet.read_table(file)
    good = table.filter(calls.equal(table.column("error"), ""))
    with explain_write_errors(folder.display_name(name)):
        folder.put(name, _encode(good))


def _encode(table: Any) -> bytes:
    from pyarrow import parquet

    rows = max(1, _GROUP_BYTES * table.num_rows // max(table.nbytes, 1))
    data = io.BytesIO()
    parquet.write_table(
        table, data, compression="zstd", row_group_size=rows, write_page_checksum=True
    )
    return data.getvalue()


def _list_images(part: ParquetResult) -> list[bytes]:
    """Return the paths of the images that have a row in a part."""
    return list(part.paths())


def _list_good_images(part: ParquetResult) -> list[bytes]:
    """Return the paths of the images of a part that did not fail."""
    failed = {fault.path for fault in part.tally().faults}
    return [path for path in part.paths() if path not in failed]


class Dataset:
    """A dataset to write into; checked before any work.

    `run` is the unique name of this run; later runs have names that sort behind it.
    `metadata` are the settings of the existing rows, None where there are none. `skipped` counts
    the images that had a row already when they came; `unlisted` are those of them that are
    folders which cannot be listed, say: every run reports their faults.

    With `force` the existing rows are replaced: `begin` removes them. With `retry` only those of
    images that failed are, and these images count as missing.

    Raises:
        OptionError: pyarrow, or what a store needs, is not installed.
        OutputError: the folder holds something else, or cannot be written.
        ResultError: a part is damaged, or two parts have different settings.
    """

    def __init__(self, location: Location, force: bool = False, retry: bool = False) -> None:
        import_pyarrow(EXTRAS.get(location.scheme, ""))
        self.location = location
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.urandom(4).hex()}"
        self.skipped = 0
        self.unlisted: list[Fault] = []
        self._folder = open_folder(location)
        self._numbers = itertools.count()
        self._force = force
        self._retry = retry
        with explain_write_errors(location):
            self._folder.check_writable()
        try:
            self._existing = list_parts(self._folder)
        except ResultError as error:
            raise OutputError(error.what, "name a folder of its own") from error
        head = None if force else read_common_head(self._folder, self._existing)
        self.metadata = head.metadata.settings() if head else None

    @property
    def name(self) -> str:
        """The name of the dataset in messages."""
        return str(self.location)

    def list_parts(self) -> list[str]:
        """Return the names of all parts that there are now."""
        return list_parts(self._folder)

    def select_missing(self, refs: Iterable[ImageRef], metadata: RunMetadata) -> Iterator[ImageRef]:
        """Return the images that have no row, by the bytes of their paths, each of them once.

        Raises:
            ResultError: the dataset was made with other settings than `metadata` has.
        """
        existing: set[bytes] = set()
        if self.metadata is not None:
            self.metadata.require_same(self.name, metadata)
            read = _list_good_images if self._retry else _list_images
            existing.update(*map_parts(self._folder, self._existing, read))
        return self._skip(refs, existing)

    def _skip(self, refs: Iterable[ImageRef], existing: set[bytes]) -> Iterator[ImageRef]:
        for ref in refs:
            if ref.path in existing and ref.problem:
                # A folder that cannot be listed, say: nobody knows whether its images have rows.
                self.unlisted.append(Fault(ref.path, ref.problem))
            elif ref.path in existing:
                self.skipped += 1
            else:
                existing.add(ref.path)
                yield ref

    def make_schema(self, layout: Layout, metadata: RunMetadata) -> Any:
        """Return the arrow schema of the parts of this run, which holds its settings."""
        of_run = replace(metadata.settings(), run=self.run)
        text = json.dumps(of_run.to_json(), ensure_ascii=False).encode("utf-8", "replace")
        return ArrowRows(layout).schema.with_metadata({METADATA_KEY: text})

    def begin(self) -> None:
        """Make the folder, and remove what is to be replaced or was left half written.

        Call it before the first part, and only where there is something to write.
        """
        with explain_write_errors(self.location):
            self._folder.make()
            self._folder.remove_unfinished()
            if self._force:
                self._clear()
            elif self._retry:
                # First the old rows go: after a stop in between the images count as missing.
                for name in self._existing:
                    remove_faults(self._folder, name)

    def _clear(self) -> None:
        for name in self._existing:
            self._folder.remove(name)
        for name in self._folder.list_entries(RUNS):
            if name.endswith(".json"):
                self._folder.remove(f"{RUNS}/{name}")

    def write(self, table: Any) -> None:
        """Write an arrow table, with the schema of this run, as a part; all rows of an image in it.

        Raises:
            OutputError: it cannot be written.
        """
        write_part(self._folder, self.run, next(self._numbers), table)

    def finish(self, metadata: RunMetadata) -> None:
        """Write the metadata of the run, which has ended."""
        name = f"{RUNS}/{self.run}.json"
        text = json.dumps(metadata.to_json(), ensure_ascii=False, indent=2)
        with explain_write_errors(self._folder.display_name(name)):
            self._folder.put(name, text.encode("utf-8", "replace") + b"\n")
