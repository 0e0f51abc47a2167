"""Parquet read back."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from mnv1cli.errors import ResultError
from mnv1cli.results.metadata import RunMetadata
from mnv1cli.results.readers.common import IMAGES, parse_metadata
from mnv1cli.results.writers.arrow import METADATA_KEY, import_pyarrow
from mnv1cli.results.writers.delimited import LABEL_FIELDS, META_FIELDS
from mnv1cli.storage import stores
from mnv1cli.storage.folder import reason
from mnv1cli.types import Fault, ImageInfo, Layout, Prediction, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUFFER = 1 << 20


class _Image(NamedTuple):
    """One image's rows as far as they have come."""

    path: bytes
    error: str
    info: ImageInfo
    found: list[Prediction]


class ParquetResult:
    """A row an image, or for labels a row an image and rank.

    `source` is the file already open, where it is not on this machine; `file` is
    its name for messages then. What is read of a file far away is read in few pieces.
    """

    def __init__(self, file: Path | str, source: BinaryIO | None = None, far: bool = False) -> None:
        pyarrow = import_pyarrow()
        self._file = file
        self._damage: Any = (*stores.failures(), pyarrow.ArrowException)
        # What is read ahead stays in memory to the end.
        how: dict[str, Any] = {"pre_buffer": far, "buffer_size": 0 if far else _BUFFER}
        how["page_checksum_verification"] = True
        try:
            self._parquet: Any = pyarrow.parquet.ParquetFile(source or file, **how)
            self._pool: Any = pyarrow.default_memory_pool()
        except self._damage as error:
            raise ResultError(f"cannot read {file}: {reason(error, file)}") from error
        self.layout: Layout | None = self._layout()
        told = (self._parquet.schema_arrow.metadata or {}).get(METADATA_KEY)
        told = (self._parquet.metadata.metadata or {}).get(METADATA_KEY, told)
        # Those of a part of a dataset are the settings of its run only.
        self.stored_metadata = (
            RunMetadata.from_json(parse_metadata(told.decode(), file), file) if told else None
        )

    @cached_property
    def metadata(self) -> RunMetadata | None:
        """The metadata of the run; of a part of a dataset, with what its rows tell."""
        stored = self.stored_metadata
        if stored is None or stored.run is None:
            return stored
        images, faults = self.tally()
        return stored.settings().ended(images - len(faults), faults, 0.0)

    def tally(self) -> tuple[int, list[Fault]]:
        """How many images have rows, and which of them failed."""
        images, faults = 0, []
        labels = self.layout is not None and self.layout.labels
        columns = [name for name in ("rank", "error") if name in self._parquet.schema_arrow.names]
        for group in range(self._parquet.num_row_groups):
            batches = self._batches(columns, groups=[group]) if columns else iter(())
            errors: list[str] = []
            images += 0 if labels else self._parquet.metadata.row_group(group).num_rows
            for batch in batches:
                if labels:
                    # Ranks count up from 1, and an image without labels has none.
                    images += sum((rank or 1) == 1 for rank in batch.column("rank").to_pylist())
                errors += self._errors(batch)
            if any(errors):
                # Few have failed, most often: the others' paths need not be read.
                paths = self._group_paths(group)
                faults += [Fault(*each) for each in zip(paths, errors, strict=True) if each[1]]
        return images, faults

    def _group_paths(self, group: int) -> Iterator[bytes]:
        for batch in self._batches(["path", "path_bytes"], groups=[group]):
            yield from _paths(batch)

    def paths(self) -> Iterator[bytes]:
        """Each image that has a row, in their order."""
        columns = ["path", "path_bytes"]
        if self.layout is not None and self.layout.labels:
            columns.append("rank")
        last: tuple[bytes, int] | None = None
        for batch in self._batches(columns, IMAGES):
            ranks = batch.column("rank").to_pylist() if "rank" in columns else None
            for i, path in enumerate(_paths(batch)):
                rank = (ranks[i] or 0) if ranks is not None else 0
                # Ranks count up, and an image that failed has none.
                if last is None or path != last[0] or not 0 < last[1] < rank:
                    yield path
                last = (path, rank)

    def tables(self, images: int | None = None) -> Iterator[Table]:
        """The rows, in the tables that a writer takes."""
        assert self.layout is not None
        if self.layout.labels:
            yield from self._labels(images or IMAGES)
            return
        for batch in self._batches(None, images or IMAGES):
            column = batch.column("values")
            length = column.type.list_size
            # Where an image failed the list is null, and what lies beneath it anything.
            values = np.array(column.flatten() if not column.null_count else _filled(column))
            errors = self._errors(batch)
            yield Table(
                tuple(_paths(batch)), errors, values=values.reshape(-1, length).astype(np.float32)
            )

    def _labels(self, count: int) -> Iterator[Table]:
        """Tables of whole images, whose ranks may lie in two batches."""
        images: list[_Image] = []
        for batch in self._batches(None, count):
            cells = [batch.column(name).to_pylist() for name in LABEL_FIELDS]
            rows = zip(
                _paths(batch), self._errors(batch), self._read_info(batch), *cells, strict=True
            )
            for path, error, info, *fields in rows:
                last = images[-1] if images else None
                goes_on = last and last.path == path and last.found and fields[0]
                if not (last and goes_on and fields[0] > last.found[-1].rank):
                    images.append(_Image(path, error, info, []))
                if fields[0] is not None:
                    images[-1].found.append(Prediction(*fields))
            if len(images) > count:
                yield self._table(images[:-1])
                images = images[-1:]
        if images:
            yield self._table(images)

    def _read_info(self, batch: Any) -> Iterator[ImageInfo]:
        """Read the image info of each row."""
        if self.layout is None or not self.layout.meta:
            yield from (ImageInfo() for _ in range(batch.num_rows))
            return
        cells = [batch.column(name).to_pylist() for name in META_FIELDS]
        for width, height, changed, taken in zip(*cells, strict=True):
            mtime = changed.strftime("%Y-%m-%dT%H:%M:%SZ") if changed else ""
            yield ImageInfo(width, height, mtime, taken.isoformat() if taken else "")

    def _table(self, images: list[_Image]) -> Table:
        paths, errors, image_info, found = zip(*images, strict=True)
        kept = image_info if self.layout and self.layout.meta else ()
        return Table(paths, errors, predictions=tuple(map(tuple, found)), image_info=kept)

    def _layout(self) -> Layout:
        schema = self._parquet.schema_arrow
        names = set(schema.names)
        errors = "error" in names
        if {"path", "path_bytes", *LABEL_FIELDS} <= names:
            return Layout((0,), labels=True, errors=errors, meta=META_FIELDS[0] in names)
        if {"path", "path_bytes", "values"} <= names:
            length = getattr(schema.field("values").type, "list_size", 0)
            if length:
                return Layout((length,), errors=errors)
        raise ResultError(f"{self._file} has other columns than a result of mnv1")

    def _batches(
        self, columns: list[str] | None, rows: int = IMAGES, groups: list[int] | None = None
    ) -> Iterator[Any]:
        try:
            for batch in self._parquet.iter_batches(
                rows, row_groups=groups, columns=columns, use_threads=False
            ):
                yield batch
                self._pool.release_unused()
        except self._damage as error:
            raise ResultError(f"cannot read {self._file}: {reason(error, self._file)}") from error

    def _errors(self, batch: Any) -> tuple[str, ...]:
        if "error" not in batch.schema.names:
            return ("",) * int(batch.num_rows)
        return tuple(str(error or "") for error in batch.column("error").to_pylist())


def _paths(batch: Any) -> Iterator[bytes]:
    texts, raw = batch.column("path").to_pylist(), batch.column("path_bytes").to_pylist()
    for text, data in zip(texts, raw, strict=True):
        yield text.encode() if data is None else data


def _filled(column: Any) -> Any:
    """The numbers of a list column, NaN where there is no list."""
    rows = np.full((len(column), column.type.list_size), np.nan, np.float32)
    there = np.array(column.is_valid())
    rows[there] = np.array(column.drop_null().flatten()).reshape(-1, column.type.list_size)
    return rows
