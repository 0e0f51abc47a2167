"""What all readers of results share."""

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
    """Read the metadata of a run out of `FILE.meta.json`; return None where it does not exist.

    Raises:
        ResultError: it cannot be read, or is damaged.
    """
    document = read_metadata_beside(file)
    return None if document is None else RunMetadata.from_json(document, file)


def read_metadata_beside(file: Path) -> Mapping[str, Any] | None:
    """What `FILE.meta.json` says; None where it is not there.

    Raises:
        ResultError: it cannot be read.
    """
    beside = file.with_name(file.name + META)
    try:
        return parse_metadata(beside.read_text("utf-8"), beside)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(f"cannot read {beside}: {error}") from error


def parse_metadata(text: str, source: object) -> Mapping[str, Any]:
    """A run's metadata out of JSON.

    Raises:
        ResultError: it is no metadata.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("module"), dict):
        raise ResultError(f"the metadata in {source} are damaged")
    return found
