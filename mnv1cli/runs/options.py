"""Where the results of a run go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.storage.location import Source
    from mnv1cli.types import OnError


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where results go: `file` or stdout, in `format` or the one that suits, and what lies beside.

    `errors` is a file for the faults, `manifest` one for the run's metadata.
    What has a row in `skip_existing` is not done again; with `append` the rows
    come behind those that `file` has. With `retry` what failed earlier is done again.
    """

    file: Path | None = None
    format: str | None = None
    wide: bool = False
    force: bool = False
    resume: bool = False
    on_error: OnError = "skip"
    errors: Path | None = None
    manifest: Path | None = None
    skip_existing: Source | None = None
    append: bool = False
    retry: bool = False
