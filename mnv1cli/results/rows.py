"""Rows of named columns: written as CSV, TSV, JSON lines, Parquet or a table, and read back."""

from __future__ import annotations

import csv
import itertools
import json
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ResultError
from mnv1cli.path_text import decode_lossy, decode_path, display_path, encode_base64, parse_path
from mnv1cli.results.files import wrap_text
from mnv1cli.results.readers.common import IMAGES
from mnv1cli.results.writers.arrow import METADATA_KEY, import_pyarrow
from mnv1cli.results.writers.delimited import FLOAT_FORMAT, encode_rows
from mnv1cli.results.writers.jsonl import shorten_float32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mnv1cli.results.files import ResultFiles

    # What each column holds, by its name: int, float, str, or bytes for paths.
    Columns = Mapping[str, type]
    Rows = Iterable[Sequence[Any]]

_GROUP_ROWS = 4096
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_DAMAGE = (csv.Error, AttributeError, KeyError, TypeError, ValueError, OSError)


def write_rows(
    outputs: ResultFiles,
    form: str,
    columns: Columns,
    rows: Rows,
    metadata: Callable[[], Mapping[str, Any]],
) -> None:
    """Write rows to the main file of `outputs`, with the metadata beside or in it.

    `columns` says what each column holds. `metadata` is called after the last row.

    Raises:
        OptionError: the format needs a library that is not installed.
        OutputError: a file cannot be written.
    """
    try:
        if form == "parquet":
            _write_parquet(outputs, columns, rows, metadata)
        elif form == "table":
            _write_table(outputs, columns, rows)
        elif form == "jsonl":
            _write_json_lines(outputs, columns, rows)
        else:
            _write_delimited(outputs, columns, rows, _DELIMITERS[form])
        if outputs.meta is not None:
            outputs.write_json(outputs.meta, dict(metadata()))
        outputs.commit()
    except BaseException:
        outputs.abandon(keep=False)
        raise


def read_rows(file: Path, form: str, columns: Columns) -> Iterator[tuple[Any, ...]]:
    """Read the rows that `write_rows` wrote in the format `form`, not a table.

    Raises:
        OptionError: the format needs a library that is not installed.
        ResultError: a row is damaged, or the file cannot be read.
    """
    number = 0
    try:
        for row in _read(file, form, columns):
            number += 1
            yield row
    except _DAMAGE as error:
        raise ResultError(f"{file} is damaged after row {number}: {error}") from error


def _read(file: Path, form: str, columns: Columns) -> Iterator[tuple[Any, ...]]:
    if form == "parquet":
        return _read_parquet(file, columns)
    if form == "jsonl":
        return _read_json_lines(file, columns)
    return _read_delimited(file, columns, _DELIMITERS[form])


def open_parquet(file: Path) -> Any:
    """Open a Parquet file to read.

    Raises:
        OptionError: pyarrow is not installed.
        ResultError: the file cannot be read.
    """
    arrow = import_pyarrow()
    try:
        return arrow.parquet.ParquetFile(file)
    except (OSError, arrow.ArrowException) as error:
        raise ResultError(f"cannot read {file}: {error}") from error


def _write_delimited(
    outputs: ResultFiles, columns: Iterable[str], rows: Rows, delimiter: str
) -> None:
    stream = outputs.open_main()
    stream.write(encode_rows([list(columns)], delimiter))
    for row in rows:
        stream.write(encode_rows([map(_cell, row)], delimiter))


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return decode_path(value)
    return FLOAT_FORMAT % value if isinstance(value, float) else str(value)


def _read_delimited(file: Path, columns: Columns, delimiter: str) -> Iterator[tuple[Any, ...]]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        for row in csv.DictReader(stream, delimiter=delimiter, strict=True):
            yield tuple(
                row[name].encode("utf-8", "surrogateescape") if kind is bytes else kind(row[name])
                for name, kind in columns.items()
            )


def _write_json_lines(outputs: ResultFiles, columns: Iterable[str], rows: Rows) -> None:
    stream = outputs.open_main()
    for row in rows:
        record = dict(_json_members(columns, row))
        stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")


def _json_members(columns: Iterable[str], row: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Make the members of a JSON object; a path that is not UTF-8 has its bytes, too."""
    for name, value in zip(columns, row, strict=True):
        if isinstance(value, bytes):
            shown, lossy = decode_lossy(value)
            yield name, shown
            if lossy:
                yield f"{name}_bytes", encode_base64(value)
        else:
            yield name, shorten_float32(value) if isinstance(value, float) else value


def _read_json_lines(file: Path, columns: Columns) -> Iterator[tuple[Any, ...]]:
    with file.open("rb") as stream:
        for line in stream:
            record = json.loads(line)
            yield tuple(
                parse_path({"path": record[name], "path_bytes": record.get(f"{name}_bytes")})
                if kind is bytes
                else kind(record[name])
                for name, kind in columns.items()
            )


def _write_table(outputs: ResultFiles, columns: Iterable[str], rows: Rows) -> None:
    from rich.table import Table

    from mnv1cli.results.writers.table import PipeConsole

    grid = Table(box=None, pad_edge=False, header_style="underline")
    for name in columns:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*map(_display, row))
    stream = wrap_text(outputs.open_main())
    try:
        PipeConsole(file=stream, markup=False, highlight=False, emoji=False).print(grid)
    finally:
        stream.detach()


def _display(value: Any) -> str:
    if isinstance(value, bytes):
        return display_path(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _write_parquet(
    outputs: ResultFiles,
    columns: Columns,
    rows: Rows,
    metadata: Callable[[], Mapping[str, Any]],
) -> None:
    arrow = import_pyarrow()
    schema = _arrow_schema(arrow, columns)
    waiting = iter(rows)
    with arrow.parquet.ParquetWriter(outputs.open_main(), schema, compression="zstd") as writer:
        while group := list(itertools.islice(waiting, _GROUP_ROWS)):
            records = [dict(_parquet_members(columns, row)) for row in group]
            writer.write_table(arrow.Table.from_pylist(records, schema=schema))
        encoded = json.dumps(metadata(), ensure_ascii=False).encode("utf-8", "replace")
        writer.add_key_value_metadata({METADATA_KEY: encoded})


def _arrow_schema(arrow: Any, columns: Columns) -> Any:
    kinds: dict[type, Any] = {int: arrow.int64(), float: arrow.float32(), str: arrow.string()}
    fields = []
    for name, kind in columns.items():
        if kind is bytes:
            fields += [(name, arrow.string()), (f"{name}_bytes", arrow.binary())]
        else:
            fields.append((name, kinds[kind]))
    return arrow.schema(fields)


def _parquet_members(columns: Iterable[str], row: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for name, value in zip(columns, row, strict=True):
        if isinstance(value, bytes):
            shown, lossy = decode_lossy(value)
            yield name, shown
            yield f"{name}_bytes", value if lossy else None
        else:
            yield name, value


def _read_parquet(file: Path, columns: Columns) -> Iterator[tuple[Any, ...]]:
    for batch in open_parquet(file).iter_batches(IMAGES):
        for record in batch.to_pylist():
            yield tuple(
                (record.get(f"{name}_bytes") or record[name].encode())
                if kind is bytes
                else kind(record[name])
                for name, kind in columns.items()
            )
