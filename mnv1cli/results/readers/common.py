"""Functions that the readers of all formats share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ResultError
from mnv1cli.results.files import META
from mnv1cli.results.metadata import RunMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


# Images that are read at once.
IMAGES = 1024


def read_run_metadata(file: Path) -> RunMetadata | None:
    """Read the metadata of a run from `FILE.meta.json`; return None where it does not exist.

    Raises:
        ResultError: it cannot be read, or is damaged.
    """
    document = read_metadata_beside(file)
    return None if document is None else RunMetadata.from_json(document, file)


def parse_run_metadata(text: str, file: object) -> RunMetadata:
    """Parse the metadata of a run, which are JSON inside `file`.

    Raises:
        ResultError: they are damaged.
    """
    return RunMetadata.from_json(parse_metadata(text, file), file)


def read_metadata_beside(file: Path) -> Mapping[str, Any] | None:
    """Read the object in `FILE.meta.json`; return None where it does not exist.

    Raises:
        ResultError: it cannot be read, or is no metadata.
    """
    beside = file.with_name(file.name + META)
    try:
        return parse_metadata(beside.read_text("utf-8"), beside)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"cannot read {beside}: {error}") from error


def parse_metadata(text: str, source: object) -> Mapping[str, Any]:
    """Parse metadata, which are a JSON object with an object `module`.

    Raises:
        ResultError: they are something else; names `source`.
    """
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("module"), dict):
        raise ResultError(f"the metadata in {source} are damaged")
    return document


def encode_path(text: str) -> bytes:
    """Encode a path that was read as text in which lone surrogates stand for other bytes."""
    return text.encode("utf-8", "surrogateescape")
