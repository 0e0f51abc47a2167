"""Listings in the current folder: files to list, and the paths that come of inputs."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from mnv1cli.inputs.listing import InputOptions, Listing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Tree: TypeAlias = "dict[bytes, Tree | None]"

ODD_NAMES = [
    b"with space.jpg",
    b"new\nline.jpg",
    b"'single' and \"double\".jpg",
    b"tab\tand\rreturn.jpg",
    b"not utf-8 \xff\xfe.jpg",
    b"-0.jpg",
    b"~.jpg",
    b"\\.jpg",
    "ü.jpg".encode(),
]


def touch(*names: bytes) -> None:
    for name in names:
        os.makedirs(os.path.dirname(name) or b".", exist_ok=True)
        with open(name, "wb"):
            pass


def list_paths(*inputs: bytes, lists: Sequence[bytes] = (), recursive: bool = True) -> list[bytes]:
    listing = Listing(inputs, lists, InputOptions(recursive=recursive))
    return [ref.path for ref in listing]


def list_stdin(content: bytes, null: bool = False) -> list[bytes]:
    options = InputOptions(null=null, stdin=io.BytesIO(content))
    return [ref.path for ref in Listing([b"-"], options=options)]
