"""The options of a run's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.storage.location import ResultSource
    from mnv1cli.types import OnError


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """The output of a run: `file` or stdout, in `format` or the one that suits.

    `errors` is a file for the faults, `manifest` one for the run's metadata. Images that have a
    row in `skip_existing` are not done again; with `append` the rows come behind those of
    `file`. With `retry` images that failed earlier are done again.
    """

    file: Path | None = None
    format: str | None = None
    wide: bool = False
    force: bool = False
    resume: bool = False
    on_error: OnError = "skip"
    errors: Path | None = None
    manifest: Path | None = None
    skip_existing: ResultSource | None = None
    append: bool = False
    retry: bool = False
