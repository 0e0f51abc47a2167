"""Existing results: whether they fit a run, and which images the run need not do again."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from typing import TYPE_CHECKING

from mnv1cli.errors import OptionError, ResultError, ResumeError
from mnv1cli.inference.result_module import ResultModule
from mnv1cli.path_text import display_path
from mnv1cli.results.metadata import REMEDY, RunMetadata
from mnv1cli.results.readers import describe_version, detect_format, open_result
from mnv1cli.storage.location import is_same_file
from mnv1cli.types import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.storage.location import ResultSource
    from mnv1cli.types import ImageRef, Layout, Table

log = logging.getLogger(__name__)


def describe_skipped(images: int) -> str:
    """Return the end of a summary, which says how many images were not done again."""
    return f", {images:,} {'was' if images == 1 else 'were'} there already" if images else ""


class ExistingResult:
    """An existing result that a run goes on with.

    `metadata` are its own, None where there are none; with `force` it is taken without any.
    `skipped` counts the images that need not be done again. `signature` is a text that differs
    once the file or the dataset has changed.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or has no metadata.
    """

    def __init__(self, file: ResultSource, force: bool = False) -> None:
        self.file = file
        self.skipped = 0
        # Taken before it is read, so that whatever is written from then on is noticed.
        self.signature = describe_version(file)
        self._result = open_result(file)
        self.metadata = self._result.metadata
        if self.metadata is None and not force:
            raise ResultError(f"{file} has no metadata", "--force takes it as it is")
        failures = (self.metadata.failures if self.metadata else None) or ()
        self._failed = {fault.path: fault.reason for fault in failures}

    @property
    def module(self) -> ResultModule | None:
        """The module that the result was made with, None where it does not say."""
        return None if self.metadata is None else find_result_module(self.file, self.metadata)

    def require_same(self, metadata: RunMetadata) -> None:
        """Require that the result was made with the settings of this run, if it has metadata.

        Raises:
            ResultError: it was made with other settings.
        """
        if self.metadata is not None:
            self.metadata.require_same(self.file, metadata)

    def require_unchanged(self) -> None:
        """Require that the file or the dataset is as it was when it was read.

        Raises:
            ResultError: another run has written it.
        """
        if describe_version(self.file) != self.signature:
            raise ResultError(f"another run has just written {self.file}", "try again")

    def select_missing(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """Yield the images that have no row in the result, by the bytes of their paths."""
        existing = set(self._result.paths())
        for ref in refs:
            if ref.path in existing:
                self.skipped += 1
            else:
                yield ref
        if existing and not self.skipped:
            log.warning(
                "%s has none of these images: paths are compared as they are reported", self.file
            )

    def watch(self, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """Yield the same images; of those that failed earlier only this run's outcome counts."""
        has_rows = self._result.layout is not None and self._result.layout.errors
        for ref in refs:
            if not has_rows:
                self._failed.pop(ref.path, None)
            yield ref

    def tables(self, layout: Layout) -> Iterator[Table]:
        """Yield the rows, for a writer with this layout.

        Raises:
            ResultError: the result has another layout.
        """
        own = self._result.layout
        if own is not None:
            self._require_layout(own, layout)
            yield from self._result.tables()

    def _require_layout(self, own: Layout, layout: Layout) -> None:
        for name, begun, now in (
            ("--on-error row", own.errors, layout.errors),
            ("--wide", own.wide, layout.wide),
            ("labels", own.labels, layout.labels),
            ("--with-meta", own.meta, layout.meta),
            ("--damaged accept", own.warnings, layout.warnings),
        ):
            if begun != now:
                has = "with" if begun else "without"
                raise ResultError(f"{self.file} was made {has} {name}", REMEDY)
        # Long labels have no shape, and JSON lines with only faults have none either.
        if own.shape not in (layout.shape, (0,)):
            raise ResultError(
                f"{self.file} has rows of {list(own.shape)}, not {list(layout.shape)}", REMEDY
            )

    def add_to(self, metadata: RunMetadata) -> RunMetadata:
        """Return the metadata of this result together with a run that was added to it."""
        earlier = self.metadata
        if earlier is not None and earlier.counts is not None:
            done, seconds = earlier.counts.done, earlier.seconds or 0.0
        else:
            done, seconds = sum(1 for _ in self._result.paths()), 0.0
        damaged = self._count_damaged() if metadata.accepts_damaged else 0
        if metadata.counts is not None:
            done += metadata.counts.done
            damaged += metadata.counts.damaged or 0
        failures = [Fault(path, reason) for path, reason in self._failed.items()]
        failures += metadata.failures or ()
        return metadata.ended(done, failures, seconds + (metadata.seconds or 0.0), damaged)

    def _count_damaged(self) -> int:
        """Count the damaged images that were accepted."""
        if self.metadata is not None and self.metadata.counts is not None:
            return self.metadata.counts.damaged or 0
        return sum(bool(text) for table in self._result.tables() for text in table.warnings)

    def require_images(self, refs: Iterable[ImageRef]) -> None:
        """Require that the result, which is complete, has all images of a run.

        Raises:
            ResumeError: it lacks some of them.
        """
        if self.metadata is not None and self.metadata.min_probability:
            # Images without a label may have no row.
            return
        rows = Counter(self._result.paths())
        lacking = 0
        example = b""
        for ref in refs:
            if ref.path in self._failed:
                continue
            rows[ref.path] -= 1
            if rows[ref.path] < 0:
                lacking += 1
                example = example or ref.path
        if lacking:
            raise ResumeError(
                f"{self.file} is complete, and has nothing of {lacking:,} of these inputs, "
                f"such as {display_path(example)}",
                f"--skip-existing {self.file} --append adds them",
            )


class EarlierResults:
    """The results that a run starts from: one whose images it skips, one that it adds to.

    They may be one and the same.
    """

    def __init__(self, options: OutputOptions) -> None:
        self._options = options
        self._to_skip: ExistingResult | None = None
        self._to_extend: ExistingResult | None = None
        self._is_open = False

    @property
    def skipped(self) -> int:
        """The number of images that were not done again."""
        return self._to_skip.skipped if self._to_skip else 0

    @property
    def extends(self) -> bool:
        """True where the rows come behind those of an existing result."""
        return self._to_extend is not None

    def find_module(self) -> ResultModule | None:
        """Return the module that these results were made with, None where they do not say.

        Raises:
            MissingInputError: the result to skip does not exist, and is not the one to begin.
            ResultError: a result cannot be read, or the two were made with different settings.
        """
        self._open()
        modules = (result.module for result in (self._to_extend, self._to_skip) if result)
        return next(filter(None, modules), None)

    def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        skip, file, force = self._options.skip_existing, self._options.file, self._options.force
        if self._options.append and file is not None and file.exists():
            self._to_extend = ExistingResult(file, force)
        if self._to_extend is not None and is_same_file(skip, file):
            self._to_skip = self._to_extend
        elif skip is not None and not is_same_file(skip, file):
            self._to_skip = ExistingResult(skip, force)
        if self._to_skip is not None and self._to_extend is not None:
            require_equal(self._to_skip, self._to_extend.file, self._to_extend.metadata)

    def select_missing(self, refs: Iterable[ImageRef], metadata: RunMetadata) -> Iterator[ImageRef]:
        """Return the images that are to be done by a run with these settings.

        Raises:
            MissingInputError: the result to skip does not exist, and is not the one to begin.
            ResultError: an existing result does not fit.
        """
        self._open()
        for result in (self._to_extend, self._to_skip):
            if result is not None:
                result.require_same(metadata)
        missing = self._to_skip.select_missing(refs) if self._to_skip else iter(refs)
        return self._to_extend.watch(missing) if self._to_extend else missing

    def require_unchanged(self) -> None:
        """Require that the result to add to is as it was read; call it when it is locked.

        Raises:
            ResultError: another run has replaced it.
        """
        if self._to_extend is not None:
            self._to_extend.require_unchanged()

    def tables(self, layout: Layout) -> Iterator[Table]:
        """Return the rows that the new ones come behind."""
        return self._to_extend.tables(layout) if self._to_extend else iter(())

    def add_to(self, metadata: RunMetadata) -> RunMetadata:
        """Return the metadata of all the rows."""
        return self._to_extend.add_to(metadata) if self._to_extend else metadata

    def signatures(self) -> dict[str, str | None]:
        """Return what must be the same for a run that goes on, by the options' names."""
        return {
            "--skip-existing": self._to_skip.signature if self._to_skip else None,
            "--append": self._to_extend.signature if self._to_extend else None,
        }


def require_existing_format(options: OutputOptions) -> str | None:
    """Return the format of the result to add to, None where there is none.

    Raises:
        OptionError: --format names another one.
    """
    if not options.append or options.file is None or not options.file.is_file():
        return None
    name = detect_format(options.file)
    if options.format not in (None, name):
        raise OptionError(f"{options.file} is {name}, not {options.format}", "leave -f away")
    return name


def require_equal(result: ExistingResult, file: object, metadata: RunMetadata | None) -> None:
    """Require that a result to skip was made with the settings of `file`, which is added to.

    Raises:
        ResultError: they differ in what decides rows, such as the module.
    """
    if result.metadata is None or metadata is None:
        return
    difference = result.metadata.difference(metadata)
    if difference is not None:
        raise ResultError(
            difference.describe(result.file, file), "skip a result of the same settings"
        )


def find_result_module(source: ResultSource, metadata: RunMetadata) -> ResultModule | None:
    """Return the module in the metadata of a result, None where they lack facts about it."""
    with contextlib.suppress(ResultError):
        return ResultModule.from_metadata(metadata.module, source)
    return None
