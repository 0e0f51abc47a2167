"""Read class names from any bytes: names, or a `LabelsError`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.harness import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[bytes], None]:
    from mnv1cli.errors import LabelsError
    from mnv1cli.labels.names import read_labels

    file = Path(tempfile.mkdtemp(), "labels.csv")

    def target(data: bytes) -> None:
        file.write_bytes(data)
        try:
            names = read_labels(file)
        except LabelsError:
            return
        assert [name.class_id for name in names] == list(range(len(names)))

    return target


if __name__ == "__main__":
    fuzz(load)
