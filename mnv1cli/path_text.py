"""Paths and counts as text: for messages, for JSON and CSV, and back to their bytes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def display_path(path: bytes) -> str:
    """`path` for a message: one line, nothing that a terminal would obey."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def text_path(path: bytes) -> tuple[str, bool]:
    """`path` as text with U+FFFD for what is not UTF-8, and whether that lost something."""
    text = path.decode("utf-8", "replace")
    return text, text.encode() != path


def path_of(record: Mapping[str, Any]) -> bytes:
    """The path's bytes, as `path_fields` of the writer keeps them."""
    if raw := record.get("path_bytes"):
        return base64.b64decode(raw)
    return str(record["path"]).encode("utf-8", "replace")


def encoded_path(path: bytes) -> str:
    """The bytes of a path for JSON, in base64."""
    return base64.b64encode(path).decode()


def path_fields(path: bytes) -> dict[str, Any]:
    """`path` as text, and `path_bytes` in base64 where that lost something."""
    text, lossy = text_path(path)
    return {"path": text, **({"path_bytes": encoded_path(path)} if lossy else {})}


def text(path: bytes) -> str:
    """A path as the text that `encode_rows` turns back into its bytes."""
    return path.decode("utf-8", "surrogateescape")


def one_line(text: str) -> str:
    """Text out of a file, in one line and without what would turn its neighbours round."""
    return display_path(text.encode("utf-8", "surrogatepass"))


def count(number: int, noun: str, plural: str = "") -> str:
    """Say how many there are: `1 image`, `1,797 images`; `plural` where it is not noun + s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
