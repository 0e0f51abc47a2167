"""Rows with named columns in the formats that hold such: CSV, TSV, JSON lines, Parquet, a table."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OptionError
from mnv1cli.path_text import display_path, encoded_path, text, text_path
from mnv1cli.results.formats import FORMATS
from mnv1cli.results.writers.arrow import METADATA_KEY
from mnv1cli.results.writers.delimited import FLOAT_FORMAT, encode_rows
from mnv1cli.results.writers.jsonl import float32_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mnv1cli.results.files import ResultFiles

    Rows = Iterable[Sequence[Any]]

TABULAR = ("csv", "tsv", "jsonl", "parquet", "table")
_ROWS = 4096


def choose(name: str | None, file: Path | None, terminal: bool) -> str:
    """The format of rows: `name`, else the file's suffix, else what suits stdout.

    Raises:
        OptionError: an unknown suffix, or a format that holds no rows.
    """
    if name is None and file is not None:
        suffix = file.suffix.lower()
        name = next((f.name for f in FORMATS.values() if suffix in f.suffixes), None)
        if name is None:
            raise OptionError(f"the name {file} tells no format", "say it with -f")
    name = name or ("table" if terminal else "csv")
    if name not in TABULAR:
        raise OptionError(f"{name} holds no rows of names", "use csv, tsv, jsonl or parquet")
    if name == "parquet" and file is None:
        raise OptionError("parquet needs a file", "name it with -o")
    return name


def spare(outputs: ResultFiles, read: Iterable[Path | None]) -> None:
    """Refuse to replace what the run reads.

    Raises:
        OptionError: a file to write is one of those.
    """
    taken = {os.path.realpath(path) for path in read if path is not None}
    for path in outputs.named:
        if os.path.realpath(path) in taken:
            raise OptionError(f"{path} is read, and cannot be written", "name another file")


def write(
    outputs: ResultFiles,
    form: str,
    columns: Mapping[str, type],
    rows: Rows,
    metadata: Callable[[], Mapping[str, Any]],
) -> None:
    """Write rows to the main file of `outputs`, with the metadata beside or in it.

    `columns` tells what each column holds; one of bytes holds paths. `metadata`
    is asked for when all rows are there.
    """
    try:
        _write_rows(outputs, form, columns, rows, metadata)
        if outputs.meta is not None:
            outputs.write_json(outputs.meta, dict(metadata()))
        outputs.commit()
    except BaseException:
        outputs.abandon(keep=False)
        raise


def _write_rows(
    outputs: ResultFiles,
    form: str,
    columns: Mapping[str, type],
    rows: Rows,
    metadata: Callable[[], Mapping[str, Any]],
) -> None:
    if form == "parquet":
        _write_parquet(outputs, columns, rows, metadata)
    elif form == "table":
        _write_table(outputs, columns, rows)
    elif form == "jsonl":
        stream = outputs.stream()
        for row in rows:
            record = dict(_fields(columns, row))
            stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    else:
        delimiter = "\t" if form == "tsv" else ","
        stream = outputs.stream()
        stream.write(encode_rows([list(columns)], delimiter))
        for row in rows:
            stream.write(encode_rows([map(_cell, row)], delimiter))


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return text(value)
    return FLOAT_FORMAT % value if isinstance(value, float) else str(value)


def _fields(columns: Iterable[str], row: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The members of a JSON object; a path that is no text has its bytes, too."""
    for name, value in zip(columns, row, strict=True):
        if isinstance(value, bytes):
            shown, lossy = text_path(value)
            yield name, shown
            if lossy:
                yield f"{name}_bytes", encoded_path(value)
        else:
            yield name, float32_number(value) if isinstance(value, float) else value


def _write_table(outputs: ResultFiles, columns: Iterable[str], rows: Rows) -> None:
    from rich.table import Table

    from mnv1cli.results.files import text_stream
    from mnv1cli.results.writers.table import PipeConsole

    shown = Table(box=None, pad_edge=False, header_style="underline")
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(display_path(v) if isinstance(v, bytes) else _shown(v) for v in row))
    stream = text_stream(outputs.stream())
    try:
        PipeConsole(file=stream, markup=False, highlight=False, emoji=False).print(shown)
    finally:
        stream.detach()


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _write_parquet(
    outputs: ResultFiles,
    columns: Mapping[str, type],
    rows: Rows,
    metadata: Callable[[], Mapping[str, Any]],
) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise OptionError("parquet needs pyarrow", "pip install 'mnv1cli[parquet]'") from None
    arrow: Any = pyarrow
    writer: Any
    kinds: dict[type, Any] = {int: arrow.int64(), float: arrow.float32(), str: arrow.string()}
    fields = []
    for name, kind in columns.items():
        if kind is bytes:
            fields += [(name, arrow.string()), (f"{name}_bytes", arrow.binary())]
        else:
            fields.append((name, kinds[kind]))
    schema = arrow.schema(fields)
    waiting = iter(rows)
    with parquet.ParquetWriter(outputs.stream(), schema, compression="zstd") as writer:
        while taken := list(itertools.islice(waiting, _ROWS)):
            records = [dict(_raw_fields(columns, row)) for row in taken]
            writer.write_table(arrow.Table.from_pylist(records, schema=schema))
        told = json.dumps(metadata(), ensure_ascii=False).encode("utf-8", "replace")
        writer.add_key_value_metadata({METADATA_KEY: told})


def _raw_fields(columns: Iterable[str], row: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for name, value in zip(columns, row, strict=True):
        if isinstance(value, bytes):
            shown, lossy = text_path(value)
            yield name, shown
            yield f"{name}_bytes", value if lossy else None
        else:
            yield name, value
