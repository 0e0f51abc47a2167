"""Paths and counts as text, for messages, JSON and CSV, and paths back to bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def display_path(path: bytes) -> str:
    """Return `path` for a message: in one line, without control characters."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def decode_lossy(path: bytes) -> tuple[str, bool]:
    """Return `path` as text with U+FFFD for what is not UTF-8, and whether bytes were lost."""
    text = path.decode("utf-8", "replace")
    return text, text.encode() != path


def parse_path(record: Mapping[str, Any]) -> bytes:
    """Return the bytes of the path that `make_path_fields` put into a JSON object."""
    if raw := record.get("path_bytes"):
        import base64

        return base64.b64decode(raw)
    return str(record["path"]).encode("utf-8", "replace")


def encode_base64(path: bytes) -> str:
    """Return the bytes of a path in base64, for JSON."""
    import base64

    return base64.b64encode(path).decode()


def make_path_fields(path: bytes) -> dict[str, Any]:
    """Return `path` as text for JSON, with `path_bytes` in base64 where the text lost bytes."""
    text, lossy = decode_lossy(path)
    return {"path": text, **({"path_bytes": encode_base64(path)} if lossy else {})}


def decode_path(path: bytes) -> str:
    """Return a path as the text that `encode_rows` turns back into its bytes."""
    return path.decode("utf-8", "surrogateescape")


def to_one_line(text: str) -> str:
    """Return text from a file in one line, without marks that change the direction of text."""
    return display_path(text.encode("utf-8", "surrogatepass"))


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 image`, `1,797 images`; `plural` if it is not noun + s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
