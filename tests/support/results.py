"""Results to write, and what other programs read out of them."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import FORMATS
from mnv1cli.types import Layout, Prediction, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

NAN = float("nan")
TENCH = Prediction(1, 1, "n01440764", "tench", 0.75)
SHARK = Prediction(2, 3, "n01484850", "shark, great white", 0.1)

# Any name that a file may have.
PATHS = st.binary(min_size=1, max_size=40).filter(lambda path: 0 not in path)
ODD_TEXT = st.text(st.sampled_from("a,\"'\t\n\r;\\ ü\x0b\x1b\u2028"), max_size=8)
FLOATS32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def encode(name: str, layout: Layout, *tables: Table) -> bytes:
    """Write tables in a format to stdout, and return the bytes."""
    stdout = io.BytesIO()
    writer = FORMATS[name].create(ResultFiles(None, stdout), layout)
    for table in tables:
        writer.write(table)
    writer.close()
    return stdout.getvalue()


def make_vectors(rows: Any, errors: Sequence[str] | None = None) -> Table:
    """Make a table of images `0.jpg`, `1.jpg` and so on with these values."""
    values = np.array(rows, np.float32)
    paths = tuple(b"%d.jpg" % i for i in range(len(values)))
    return Table(paths, tuple(errors or [""] * len(values)), values=values)


def make_labels(path: bytes, *predictions: Prediction, error: str = "") -> Table:
    """Make a table of one image with these labels."""
    return Table((path,), (error,), predictions=(predictions,))


def parse_delimited(content: bytes, delimiter: str = ",") -> list[list[str]]:
    """Read delimited rows with Python's reader, the header among them."""
    text = content.decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
