"""Read a list of paths from any bytes; the first byte decides whether NUL ends them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tests.fuzz.harness import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable


def load() -> Callable[[bytes], None]:
    from mnv1cli.errors import OptionError
    from mnv1cli.inputs.listing import InputOptions, Listing
    from mnv1cli.path_text import display_path

    def target(data: bytes) -> None:
        null = data[:1] > b"\x7f"
        try:
            refs = list(Listing([b"-"], (), InputOptions(null=null, stdin=io.BytesIO(data[1:]))))
        except OptionError:
            assert not null
            return
        assert [ref.index for ref in refs] == list(range(len(refs)))
        for ref in refs:
            assert ref.path
            assert b"\0" not in ref.path
            assert display_path(ref.path).isprintable()

    return target


if __name__ == "__main__":
    fuzz(load)
