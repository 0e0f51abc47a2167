"""A result that is there already: whether it fits a run, and what the run need not do again."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError, ResultError, ResumeError
from mnv1cli.path_text import display_path
from mnv1cli.results.metadata import REMEDY, RunMetadata
from mnv1cli.results.readers import describe_dataset_parts, detect_format, open_result
from mnv1cli.storage.location import Location
from mnv1cli.types import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.storage.location import Source
    from mnv1cli.types import ImageRef, Layout, Table

log = logging.getLogger(__name__)


class ExistingResult:
    """A result that is there, held against the metadata that this run's would have.

    `passed` counts the images that need not be done again; `metadata` are those
    of the result, None where there are none.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, came about in another way, or does not tell how.
    """

    def __init__(self, file: Source, metadata: RunMetadata, force: bool = False) -> None:
        self.file = file
        self.passed = 0
        self._result = open_result(file)
        self.metadata = self._result.metadata
        if self.metadata is None and not force:
            raise ResultError(
                f"nothing tells how {file} came about: it has no metadata",
                "--force takes it as it is",
            )
        if self.metadata is not None:
            self.metadata.require_same(file, metadata)
        failures = (self.metadata.failures if self.metadata else None) or ()
        self._failed = {fault.path: fault.reason for fault in failures}

    @property
    def signature(self) -> str:
        """What tells whether the file or the dataset has changed."""
        if isinstance(self.file, Location):
            return f"{self.file.name} of {describe_dataset_parts(self.file)}"
        found = self.file.stat()
        return f"{self.file.name} of {found.st_size} bytes and time {found.st_mtime_ns}"

    def missing(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The images that have no row in the result, by the bytes of their paths."""
        known = set(self._result.paths())
        for ref in refs:
            if ref.path in known:
                self.passed += 1
            else:
                yield ref
        if known and not self.passed:
            log.warning(
                "%s has none of these images: paths are compared as they are reported", self.file
            )

    def watched(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The same images; what becomes of those that failed earlier is the run's to say."""
        has_rows = self._result.layout is not None and self._result.layout.errors
        for ref in refs:
            if not has_rows:
                self._failed.pop(ref.path, None)
            yield ref

    def rows(self, layout: Layout) -> Iterator[Table]:
        """The rows, for a writer with this layout.

        Raises:
            ResultError: the file's layout is another.
        """
        found = self._result.layout
        if found is not None:
            for name, begun, now in (
                ("--on-error row", found.errors, layout.errors),
                ("--wide", found.wide, layout.wide),
                ("labels", found.labels, layout.labels),
                ("--with-meta", found.meta, layout.meta),
            ):
                if begun != now:
                    has = "with" if begun else "without"
                    raise ResultError(f"{self.file} was made {has} {name}", REMEDY)
            # Long labels have no shape, and JSON lines of faults alone none either.
            if found.shape not in (layout.shape, (0,)):
                raise ResultError(
                    f"{self.file} has rows of {list(found.shape)}, not {list(layout.shape)}",
                    REMEDY,
                )
            yield from self._result.tables()

    def add_to(self, metadata: RunMetadata) -> RunMetadata:
        """Return the metadata of this result together with a run that was added to it."""
        earlier = self.metadata
        if earlier is not None and earlier.counts is not None:
            done, seconds = earlier.counts.done, earlier.seconds or 0.0
        else:
            done, seconds = sum(1 for _ in self._result.paths()), 0.0
        if metadata.counts is not None:
            done += metadata.counts.done
        failures = [Fault(path, reason) for path, reason in self._failed.items()]
        failures += metadata.failures or ()
        return metadata.ended(done, failures, seconds + (metadata.seconds or 0.0))

    def require(self, refs: Iterable[ImageRef]) -> None:
        """Hold the inputs of a run that is complete against what it did.

        Raises:
            ResumeError: some of them are not in it.
        """
        if self.metadata is not None and self.metadata.min_probability:
            # Images without a label may have no row.
            return
        there = Counter(self._result.paths())
        lacking = 0
        example = b""
        for ref in refs:
            if ref.path in self._failed:
                continue
            there[ref.path] -= 1
            if there[ref.path] < 0:
                lacking += 1
                example = example or ref.path
        if lacking:
            raise ResumeError(
                f"{self.file} is complete, and has nothing of {lacking:,} of these inputs, "
                f"such as {display_path(example)}",
                f"--skip-existing {self.file} --append adds them",
            )


class Before:
    """What a run finds: a result whose images it skips, one that it adds to; they may be one.

    Raises:
        OptionError: the result to skip is the file to write, and nothing is said of adding.
    """

    def __init__(self, options: OutputOptions) -> None:
        self._options = options
        self._skipped: ExistingResult | None = None
        self._extended: ExistingResult | None = None
        if not options.append and _same(options.skip_existing, options.file):
            raise OptionError(
                f"{options.file} is what --skip-existing reads", "--append adds to it"
            )

    @property
    def passed(self) -> int:
        """Images that were not done again."""
        return self._skipped.passed if self._skipped else 0

    @property
    def extends(self) -> bool:
        """Whether the rows come behind those of a result that is there."""
        return self._extended is not None

    def missing(self, refs: Iterable[ImageRef], metadata: RunMetadata) -> Iterator[ImageRef]:
        """The images that are to be done; `metadata` are those that this run would have.

        Raises:
            MissingInputError: the result to skip is not there, and is not the one to begin.
            ResultError: a result that is there does not fit.
        """
        skipped, file, force = self._options.skip_existing, self._options.file, self._options.force
        if self._options.append and file is not None and file.exists():
            self._extended = ExistingResult(file, metadata, force)
        if self._extended is not None and _same(skipped, file):
            self._skipped = self._extended
        elif skipped is not None and (skipped != file or file.exists()):
            self._skipped = ExistingResult(skipped, metadata, force)
        missing = self._skipped.missing(refs) if self._skipped else iter(refs)
        return self._extended.watched(missing) if self._extended else missing

    def rows(self, layout: Layout) -> Iterator[Table]:
        """The rows that the new ones come behind."""
        return self._extended.rows(layout) if self._extended else iter(())

    def add_to(self, metadata: RunMetadata) -> RunMetadata:
        """Return the metadata of all the rows."""
        return self._extended.add_to(metadata) if self._extended else metadata

    def signatures(self) -> dict[str, str | None]:
        """What must be the same for a run that goes on, by the options' names."""
        return {
            "--skip-existing": self._skipped.signature if self._skipped else None,
            "--append": self._extended.signature if self._extended else None,
        }


def format_there(options: OutputOptions) -> str | None:
    """The format of the result that is added to, which `--format` cannot change."""
    if not options.append or options.file is None or not options.file.is_file():
        return None
    found = detect_format(options.file)
    if options.format not in (None, found):
        raise OptionError(f"{options.file} is {found}, not {options.format}", "leave -f away")
    return found


def _same(one: Source | None, other: Path | None) -> bool:
    if one is None or other is None or isinstance(one, Location):
        return False
    return one.exists() and other.exists() and one.samefile(other)
