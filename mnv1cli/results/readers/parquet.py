"""Parquet read back."""

from __future__ import annotations

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
        self._damage: Any = (OSError, pyarrow.ArrowException)
        try:
            self._parquet: Any = pyarrow.parquet.ParquetFile(
                source or file,
                # Data that is read ahead stays in memory to the end.
                pre_buffer=far,
                buffer_size=0 if far else _BUFFER,
                page_checksum_verification=True,
            )
            self._pool: Any = pyarrow.default_memory_pool()
        except self._damage as error:
            raise ResultError(f"cannot read {file}: {explain_failure(error)}") from error
        self._columns = set(self._parquet.schema_arrow.names)
        self.layout: Layout | None = self._read_layout()
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
        tally = PartTally(0, [], [])
        for group in range(self._parquet.num_row_groups):
            number, columns = self._count(group)
            tally = tally._replace(images=tally.images + number)
            # Most often few have failed: the paths of the others need not be read.
            for name, faults in (("error", tally.faults), ("warning", tally.damaged)):
                faults.extend(self._read_faults(group, name) if name in columns else ())
        return tally

    def _count(self, group: int) -> tuple[int, set[str]]:
        """Count the images of a row group, and return which columns have errors or warnings."""
        from pyarrow import compute

        arrays: Any = compute
        by_rank = self.layout is not None and self.layout.labels
        images = 0 if by_rank else self._parquet.metadata.row_group(group).num_rows
        filled: set[str] = set()
        texts = {"error", "warning"} & self._columns
        columns = [*(["rank"] if "rank" in self._columns else []), *texts]
        for batch in self._batches(columns, groups=[group]) if columns else ():
            if by_rank:
                # Ranks count up from 1, and an image without labels has none.
                ranks = arrays.fill_null(batch.column("rank"), 1)
                images += arrays.sum(arrays.equal(ranks, 1)).as_py() or 0
            for name in texts - filled:
                if arrays.any(arrays.not_equal(batch.column(name), "")).as_py():
                    filled.add(name)
        return images, filled

    def _read_faults(self, group: int, name: str) -> Iterator[Fault]:
        """Read the images of a row group that have a text in a column, each of them once."""
        by_rank = "rank" in self._columns
        columns = [*_PATH_COLUMNS, name, *(["rank"] if by_rank else [])]
        for batch in self._batches(columns, groups=[group]):
            ranks = batch.column("rank").to_pylist() if by_rank else [None] * batch.num_rows
            for path, text, rank in zip(_paths(batch), _texts(batch, name), ranks, strict=True):
                if text and (rank or 1) == 1:
                    yield Fault(path, text)

    def paths(self) -> Iterator[bytes]:
        """Yield each image that has a row, in their order."""
        by_rank = self.layout is not None and self.layout.labels
        last: tuple[bytes, int] | None = None
        for batch in self._batches([*_PATH_COLUMNS, *(["rank"] if by_rank else [])], IMAGES):
            ranks = batch.column("rank").to_pylist() if by_rank else None
            for i, path in enumerate(_paths(batch)):
                rank = (ranks[i] or 0) if ranks is not None else 0
                # Ranks count up, and an image that failed has none.
                if last is None or path != last[0] or not 0 < last[1] < rank:
                    yield path
                last = (path, rank)

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

    def _batches(
        self, columns: list[str] | None, rows: int = IMAGES, groups: list[int] | None = None
    ) -> Iterator[Any]:
        """Yield record batches of the rows, and give their memory back."""
        try:
            for batch in self._parquet.iter_batches(
                rows, row_groups=groups, columns=columns, use_threads=False
            ):
                yield batch
                self._pool.release_unused()
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
