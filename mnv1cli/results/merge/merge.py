"""Several results merged into one: the shards of a run, or results of different images."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mnv1cli.errors import OptionError, OutputError, ResultError
from mnv1cli.path_text import count
from mnv1cli.results.files import META, ResultFiles
from mnv1cli.results.formats import choose_format
from mnv1cli.results.merge.order import order_parts
from mnv1cli.results.merge.part import Part
from mnv1cli.results.protection import refuse_image_name, refuse_to_replace
from mnv1cli.system import signals
from mnv1cli.types import Layout, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mnv1cli.results.formats import Format
    from mnv1cli.results.merge.order import OrderedParts
    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.types import Command

    Name = str | os.PathLike[str]

_UNKNOWN = (0,)
_ONE_KIND = "merge results of the same settings"


@dataclass(frozen=True, slots=True)
class Merged:
    """A result of a merge: its file, the number of its parts, and its counts of images."""

    file: str
    parts: int
    done: int
    failed: int

    def summary(self) -> str:
        """Return one line: how many images of how many results, and how many failed."""
        failed = f", {self.failed:,} failed" if self.failed else ""
        images, results = count(self.done, "image"), count(self.parts, "result")
        return f"{images} of {results}{failed}, in {self.file}"


def merge(
    files: Sequence[Name], output: Name, form: str | None = None, force: bool = False
) -> Merged:
    """Merge results into the file `output`, in the format `form` or that of its suffix.

    The rows of shards come in the order that one run would have given, other results one
    after the other.

    Raises:
        MissingInputError: one of the files does not exist.
        ResultError: one cannot be read, does not fit the others, or is missing.
        OptionError: the format cannot hold them.
        OutputError: `output` exists, or cannot be written.
    """
    output = Path(output)
    refuse_image_name(output)
    paths = [Path(file) for file in files]
    _require_different(paths)
    parts = [Part(file) for file in paths]
    _require_same_settings(parts)
    first = parts[0].metadata
    task = Task(cast("Command", first.command), pool=first.pool, meta=first.meta)
    chosen = choose_format(form, output, task, terminal=False)
    if not chosen.resumable:
        raise OptionError(f"a {chosen.name} is for people", "use csv, tsv, jsonl or parquet")
    layout = _common_layout(parts, chosen)
    outputs = ResultFiles(
        output, None, chosen.sidecars, force=force, with_meta=not chosen.holds_metadata
    )
    refuse_to_replace(outputs.paths, [path for part in parts for path in _list_files(part.file)])
    ordered = order_parts(parts)
    failures = ordered.failures()
    done, seconds = sum(part.done for part in parts), sum(part.seconds for part in ordered.parts)
    damaged = sum(part.counts.damaged or 0 for part in parts)
    metadata = ordered.parts[0].metadata.ended(done, failures, seconds, damaged)
    with _undone_on_failure(outputs):
        _write(outputs, chosen, layout, ordered, metadata)
    return Merged(str(output), len(parts), done, len(failures))


def _write(
    outputs: ResultFiles, form: Format, layout: Layout, ordered: OrderedParts, metadata: RunMetadata
) -> None:
    writer = form.create(outputs, layout)
    try:
        for table in ordered.tables(layout.shape):
            writer.write(table)
    except BaseException:
        with contextlib.suppress(OSError):
            writer.close()
        raise
    writer.close(metadata.to_json())
    if outputs.meta is not None:
        outputs.write_json(outputs.meta, metadata.to_json())
    with signals.defer_stop():
        outputs.commit()


@contextlib.contextmanager
def _undone_on_failure(outputs: ResultFiles) -> Iterator[None]:
    """Remove the files that were begun, whatever stops the merge."""
    try:
        yield
    except OSError as error:
        outputs.abandon(keep=False)
        raise OutputError(f"cannot write {outputs.name}: {error.strerror or error}") from error
    except BaseException:
        outputs.abandon(keep=False)
        raise


def _list_files(file: Path) -> Iterator[Path]:
    """Yield the files that are read with a part."""
    yield file
    for beside in (file.with_suffix(".index.csv"), file.with_name(file.name + META)):
        if beside.exists():
            yield beside


def _require_different(files: Sequence[Path]) -> None:
    """Refuse no file at all, and a file that is named twice."""
    if not files:
        raise OptionError("there is nothing to merge", "name results")
    seen: set[str] = set()
    for file in files:
        real = os.path.realpath(file)
        if real in seen:
            raise OptionError(f"{file} is named twice", "leave one of them out")
        seen.add(real)


def _require_same_settings(parts: Sequence[Part]) -> None:
    """Compare the settings of every part with those of the first one."""
    first = parts[0]
    for part in parts[1:]:
        difference = part.metadata.difference(first.metadata)
        if difference:
            raise ResultError(difference.describe(part.name, first.name), _ONE_KIND)


def _common_layout(parts: Sequence[Part], form: Format) -> Layout:
    """Return the layout that all the parts have in common.

    Raises:
        ResultError: they differ.
        OptionError: the format needs what the parts do not have.
    """
    layouts = [(part, part.layout) for part in parts if part.layout is not None]
    metadata = parts[0].metadata
    labels = metadata.command == "classify"
    wide = next((part for part, layout in layouts if layout.wide), None)
    if wide is not None and form.name not in ("csv", "tsv"):
        raise OptionError(
            f"{wide.name} was made with --wide and has no class ids", "use csv or tsv"
        )
    shape = _common_shape(parts)
    if shape == _UNKNOWN and not labels and form.name != "jsonl":
        raise OptionError("no part says how many values a row has", "use jsonl")
    layout = Layout(
        shape,
        labels,
        errors=_have_faults(parts),
        wide=wide is not None,
        meta=metadata.meta,
        warnings=metadata.accepts_damaged,
    )
    for part, own in layouts:
        if (own.meta, own.warnings) != (layout.meta, layout.warnings):
            raise ResultError(f"the metadata of {part.name} are not those of its rows")
    for part in parts if form.has_all(layout.wide) else ():
        if part.lacks_unlabelled():
            raise OptionError(
                f"{part.name} does not name its images without a label, as {form.name} would",
                "use csv, tsv or parquet" if wide is None else "make it with --wide",
            )
    return layout


def _have_faults(parts: Sequence[Part]) -> bool:
    """Return whether images that failed have rows, which must be so in all parts or in none."""
    pairs = [(part, part.has_faults) for part in parts if part.has_faults is not None]
    for part, has_faults in pairs:
        if has_faults != pairs[0][1]:
            with_row, others = ("with", "without") if has_faults else ("without", "with")
            raise ResultError(
                f"{part.name} was made {with_row} --on-error row, {pairs[0][0].name} {others}",
                _ONE_KIND,
            )
    return bool(pairs and pairs[0][1])


def _common_shape(parts: Sequence[Part]) -> tuple[int, ...]:
    """Return the shape of an image's results, which long labels and failures do not say."""
    layouts = [(part, part.layout) for part in parts if part.layout is not None]
    shapes = [(part, layout.shape) for part, layout in layouts if layout.shape != _UNKNOWN]
    for part, shape in shapes:
        first, wanted = shapes[0]
        if shape != wanted:
            raise ResultError(
                f"{part.name} has rows of {list(shape)}, {first.name} of {list(wanted)}",
                _ONE_KIND,
            )
    return shapes[0][1] if shapes else _UNKNOWN
