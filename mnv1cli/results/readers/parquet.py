"""Parquet read back."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from mnv1cli.errors import ResultError
from mnv1cli.results.readers.common import IMAGES, parse_run_metadata
from mnv1cli.results.writers.arrow import METADATA_KEY, import_pyarrow
from mnv1cli.results.writers.delimited import LABEL_FIELDS, META_FIELDS
from mnv1cli.storage.base import explain_failure
from mnv1cli.types import Fault, ImageInfo, Layout, Prediction, Table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from mnv1cli.results.metadata import RunMetadata

_BUFFER = 1 << 20
_PATH_COLUMNS = ["path", "path_bytes"]


class PartTally(NamedTuple):
    """The number of images that have rows, and those of them that failed or are damaged."""

    images: int
    faults: list[Fault]
    damaged: list[Fault]

    def without(self, paths: Collection[bytes]) -> PartTally:
        """Return the tally without these images, which have rows."""
        faults, damaged = (
            [fault for fault in group if fault.path not in paths]
            for group in (self.faults, self.damaged)
        )
        return PartTally(self.images - len(paths), faults, damaged)


class _Image(NamedTuple):
    """The rows of one image that were read so far."""

    path: bytes
    error: str
    warning: str
    info: ImageInfo
    predictions: list[Prediction]


class ParquetResult:
    """A result in Parquet: a row per image, or for labels a row per image and rank.

    `source` is the open file where it is not on this machine; then `file` is its
    name in messages. With `far` it is read in few pieces.

    Attributes:
        layout: the layout of the rows.
        stored_metadata: the metadata in the file, None where it has none; those of a
            part of a dataset are only the settings of its run.
    """

    def __init__(self, file: Path | str, source: BinaryIO | None = None, far: bool = False) -> None:
        pyarrow = import_pyarrow()
        self._file = file
        self._far = far
        self._damage: Any = (OSError, pyarrow.ArrowException)
        with self._explain_damage():
            self._source: Any = source or pyarrow.OSFile(str(file))
            self._parquet: Any = pyarrow.parquet.ParquetFile(
                self._source,
                # Data that is read ahead stays in memory to the end.
                pre_buffer=far,
                buffer_size=0 if far else _BUFFER,
                page_checksum_verification=True,
            )
            self._pool: Any = pyarrow.default_memory_pool()
        self._columns = set(self._parquet.schema_arrow.names)
        self.layout: Layout | None = self._read_layout()
        self._has_ranks = self.layout is not None and self.layout.labels
        encoded = (self._parquet.schema_arrow.metadata or {}).get(METADATA_KEY)
        encoded = (self._parquet.metadata.metadata or {}).get(METADATA_KEY, encoded)
        self.stored_metadata = parse_run_metadata(encoded.decode(), file) if encoded else None

    @cached_property
    def metadata(self) -> RunMetadata | None:
        """The metadata of the run; of a part of a dataset, with the counts of its rows."""
        stored = self.stored_metadata
        if stored is None or stored.run is None:
            return stored
        images, faults, damaged = self.tally()
        return stored.settings().ended(images - len(faults), faults, 0.0, len(damaged))

    def tally(self) -> PartTally:
        """Count the images that have rows, and list those of them that failed or are damaged."""
        from pyarrow import compute

        calls: Any = compute
        images = self._parquet.metadata.num_rows
        is_first = calls.scalar(True)
        with self._explain_damage():
            if self._has_ranks:
                # Ranks count up from 1, and an image without labels has none.
                rank = calls.field("rank")
                is_first = rank.is_null() | (rank == 1)
                images = self._scan([], is_first).count_rows()
            lists: dict[str, list[Fault]] = {"error": [], "warning": []}
            for name in lists.keys() & self._columns:
                # The statistics of a row group show whether it has a text at all: most have none.
                scanner = self._scan([*_PATH_COLUMNS, name], is_first & (calls.field(name) != ""))
                for batch in scanner.to_batches():
                    lists[name] += map(Fault, _paths(batch), _texts(batch, name))
        return PartTally(images, lists["error"], lists["warning"])

    def paths(self) -> Iterator[bytes]:
        """Yield each image that has a row, in their order."""
        from pyarrow import compute

        calls: Any = compute
        for batch in self._batches([*_PATH_COLUMNS, *(["rank"] if self._has_ranks else [])]):
            rows = batch
            if self._has_ranks:
                rows = batch.filter(calls.equal(calls.fill_null(batch.column("rank"), 1), 1))
            yield from _paths(rows)

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """Yield the rows in tables of `images` images, as a writer takes them."""
        assert self.layout is not None
        if self.layout.labels:
            yield from self._label_tables(images or IMAGES)
            return
        for batch in self._batches(None, images or IMAGES):
            column = batch.column("values")
            length = column.type.list_size
            # Where an image failed the list is null, and the numbers beneath it are arbitrary.
            values = np.array(column.flatten() if not column.null_count else _fill_nulls(column))
            values = values.reshape(-1, length).astype(np.float32)
            warnings = _texts(batch, "warning") if self.layout.warnings else ()
            yield Table(tuple(_paths(batch)), _texts(batch, "error"), values, warnings=warnings)

    def _label_tables(self, count: int) -> Iterator[Table]:
        """Yield tables of whole images, whose ranks may be in two batches."""
        images: list[_Image] = []
        for batch in self._batches(None, count):
            cells = [batch.column(name).to_pylist() for name in LABEL_FIELDS]
            texts = _texts(batch, "error"), _texts(batch, "warning")
            rows = zip(_paths(batch), *texts, self._read_info(batch), *cells, strict=True)
            for path, error, warning, info, *fields in rows:
                last = images[-1] if images else None
                continues = last and last.path == path and last.predictions and fields[0]
                if not (last and continues and fields[0] > last.predictions[-1].rank):
                    images.append(_Image(path, error, warning, info, []))
                if fields[0] is not None:
                    images[-1].predictions.append(Prediction(*fields))
            if len(images) > count:
                yield self._make_table(images[:-1])
                images = images[-1:]
        if images:
            yield self._make_table(images)

    def _read_info(self, batch: Any) -> Iterator[ImageInfo]:
        """Read the image info of each row, empty where the result has none."""
        if self.layout is None or not self.layout.meta:
            yield from (ImageInfo() for _ in range(batch.num_rows))
            return
        cells = [batch.column(name).to_pylist() for name in META_FIELDS]
        for width, height, changed, taken in zip(*cells, strict=True):
            mtime = changed.strftime("%Y-%m-%dT%H:%M:%SZ") if changed else ""
            yield ImageInfo(width, height, mtime, taken.isoformat() if taken else "")

    def _make_table(self, images: list[_Image]) -> Table:
        assert self.layout is not None
        paths, errors, warnings, image_info, predictions = zip(*images, strict=True)
        return Table(
            paths,
            errors,
            predictions=tuple(map(tuple, predictions)),
            image_info=image_info if self.layout.meta else (),
            warnings=warnings if self.layout.warnings else (),
        )

    def _read_layout(self) -> Layout:
        last = {f"{name}s": name in self._columns for name in ("error", "warning")}
        if {*_PATH_COLUMNS, *LABEL_FIELDS} <= self._columns:
            return Layout((0,), labels=True, meta=META_FIELDS[0] in self._columns, **last)
        if {*_PATH_COLUMNS, "values"} <= self._columns:
            kind = self._parquet.schema_arrow.field("values").type
            length = getattr(kind, "list_size", 0)
            if length:
                return Layout((length,), **last)
        raise ResultError(f"{self._file} has other columns than a result of mnv1")

    def _batches(self, columns: list[str] | None, rows: int = IMAGES) -> Iterator[Any]:
        """Yield record batches of the rows, and give their memory back."""
        with self._explain_damage():
            for batch in self._parquet.iter_batches(rows, columns=columns, use_threads=False):
                yield batch
                self._pool.release_unused()

    def _scan(self, columns: list[str], rows: Any) -> Any:
        """Make a scanner of some rows, which reads little ahead."""
        from pyarrow import dataset

        sets: Any = dataset
        options = sets.ParquetFragmentScanOptions(
            page_checksum_verification=True, pre_buffer=self._far, use_buffered_stream=not self._far
        )
        form = sets.ParquetFileFormat(default_fragment_scan_options=options)
        return form.make_fragment(self._source).scanner(
            columns=columns, filter=rows, use_threads=False, batch_readahead=1
        )

    @contextlib.contextmanager
    def _explain_damage(self) -> Iterator[None]:
        """Name the file in what is wrong with it."""
        try:
            yield
        except self._damage as error:
            raise ResultError(f"cannot read {self._file}: {explain_failure(error)}") from error


def _paths(batch: Any) -> Iterator[bytes]:
    texts, raw = batch.column("path").to_pylist(), batch.column("path_bytes").to_pylist()
    for text, data in zip(texts, raw, strict=True):
        yield text.encode() if data is None else data


def _texts(batch: Any, name: str) -> tuple[str, ...]:
    """Return the text of each row in a column, empty where it has none."""
    if name not in batch.schema.names:
        return ("",) * int(batch.num_rows)
    return tuple(str(text or "") for text in batch.column(name).to_pylist())


def _fill_nulls(column: Any) -> Any:
    """Return the numbers of a list column, NaN where the list is null."""
    rows = np.full((len(column), column.type.list_size), np.nan, np.float32)
    valid = np.array(column.is_valid())
    rows[valid] = np.array(column.drop_null().flatten()).reshape(-1, column.type.list_size)
    return rows
