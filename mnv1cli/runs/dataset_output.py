"""Where a run's rows go when they go into a dataset, and the files beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError, OutputError
from mnv1cli.path_text import text
from mnv1cli.results.dataset import Dataset
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.runs.existing import ExistingResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.storage.location import Location
    from mnv1cli.types import Engine, Fault, ImageRef, Task


class Depot:
    """A dataset as the target of a run, with the files for faults and metadata; checked at once.

    `passed` counts the images that the run need not do.

    Raises:
        OptionError: the options do not suit a dataset.
        OutputError: it or a file exists as something else, or cannot be written.
        ResultError: the dataset is damaged.
    """

    def __init__(self, place: Location, task: Task, options: OutputOptions) -> None:
        _check(place, task, options)
        self.options = options
        self._skipped: ExistingResult | None = None
        for path in (options.errors, options.manifest):
            # --force is about the rows: nobody should lose them for the sake of a list.
            if path is not None and os.path.lexists(path) and not options.force:
                raise OutputError(f"{path} exists", "name another file, or remove it")
        self._outputs = ResultFiles(
            None, None, other_files=(options.errors, options.manifest), force=options.force
        )
        self.dataset = Dataset(place, options.force, options.retry)

    @property
    def passed(self) -> int:
        """Images that were not done again."""
        return self.dataset.passed + (self._skipped.passed if self._skipped else 0)

    def note(self) -> str:
        """How many these are, for the end of a summary."""
        if self.passed:
            return f", {self.passed:,} {'was' if self.passed == 1 else 'were'} there already"
        # Who gives other paths to the same images should see it.
        return "" if self.dataset.metadata is None else ", none was there already"

    def engine_left(self) -> Engine | None:
        """The engine that the dataset was begun with, None where it has no rows."""
        return self.dataset.metadata.engine if self.dataset.metadata else None

    def refs(self, refs: Iterable[ImageRef], metadata: RunMetadata) -> Iterable[ImageRef]:
        """The images that have no row in the result to skip, which is another one.

        Raises:
            MissingInputError: there is no such result.
            ResultError: it cannot be read, or was made with other settings.
        """
        skipped = self.options.skip_existing
        if skipped is None or str(skipped).rstrip("/") == self.dataset.name.rstrip("/"):
            return refs
        self._skipped = ExistingResult(skipped, metadata, self.options.force)
        return self._skipped.missing(refs)

    def finish(self, metadata: RunMetadata, faults: Iterable[Fault]) -> None:
        """Write the files beside the dataset."""
        options = self.options
        try:
            if options.errors is not None:
                file = self._outputs.open(options.errors)
                file.write(encode_rows([("path", "reason")]))
                file.write(encode_rows([text(fault.path), fault.reason] for fault in faults))
            if options.manifest is not None:
                self._outputs.write_json(options.manifest, metadata.to_json())
            self._outputs.commit()
        except BaseException:
            self._outputs.abandon(keep=False)
            raise


def _check(place: Location, task: Task, options: OutputOptions) -> None:
    """Refuse what a dataset cannot hold."""
    if options.wide:
        raise OptionError("--wide is for csv and tsv, not for a dataset")
    if options.format not in (None, "parquet"):
        if not place.text.endswith("/"):
            raise OutputError(f"cannot write {place}: it is a folder", "name a file")
        raise OptionError(
            f"{place} is a folder: a dataset of Parquet files, not {options.format}",
            "name a file",
        )
    if options.force and options.retry:
        raise OptionError("--force begins anew, and --retry-failed goes on", "say one of them")
    if not task.pool:
        raise OptionError("--no-pool keeps arrays, which a dataset cannot hold", "use npy")
