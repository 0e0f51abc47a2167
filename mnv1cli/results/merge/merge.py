"""Many results made one: the shards of a run, or results of different images."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mnv1cli.errors import OptionError, OutputError, ResultError
from mnv1cli.results.files import META, ResultFiles, refuse_image_name, refuse_to_replace
from mnv1cli.results.formats import choose_format
from mnv1cli.results.merge.order import whole_of
from mnv1cli.results.merge.part import Part
from mnv1cli.system import signals
from mnv1cli.types import Layout, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mnv1cli.results.formats import Format
    from mnv1cli.results.merge.order import Whole
    from mnv1cli.results.metadata import RunMetadata
    from mnv1cli.types import Command

    Name = str | os.PathLike[str]

_UNKNOWN = (0,)
_ONE_KIND = "merge results that were made alike"


@dataclass(frozen=True, slots=True)
class Merged:
    """A result that others were put together to; images are counted."""

    file: str
    parts: int
    done: int
    failed: int

    def summary(self) -> str:
        """One line: how many results, how many images, how many failed."""
        images = f"{self.done:,} image{'' if self.done == 1 else 's'}"
        failed = f", {self.failed:,} failed" if self.failed else ""
        results = f"{self.parts:,} result{'' if self.parts == 1 else 's'}"
        return f"{images} of {results}{failed}, in {self.file}"


def merge(
    files: Sequence[Name], output: Name, form: str | None = None, force: bool = False
) -> Merged:
    """Put results together to one in the file `output`, in the format `form` or its suffix's.

    Shards come in the order that one run would have given, others one behind
    the other.

    Raises:
        MissingInputError: one of the files is not there.
        ResultError: one cannot be read, does not fit to the others, or is missing.
        OptionError: the format cannot hold them.
        OutputError: `output` exists, or cannot be written.
    """
    output = Path(output)
    refuse_image_name(output)
    parts = [Part(file) for file in _different([Path(file) for file in files])]
    _refuse_differences(parts)
    first = parts[0].metadata
    task = Task(cast("Command", first.command), pool=first.pool, meta=first.meta)
    chosen = choose_format(form, output, task, terminal=False)
    if not chosen.resumable:
        raise OptionError(f"a {chosen.name} is for people", "use csv, tsv, jsonl or parquet")
    layout = _layout(parts, chosen)
    outputs = ResultFiles(
        output, None, chosen.sidecars, force=force, with_meta=not chosen.holds_metadata
    )
    refuse_to_replace(outputs, [path for part in parts for path in _read(part.file)])
    whole = whole_of(parts)
    failures = whole.failures()
    done, seconds = sum(part.done for part in parts), sum(part.seconds for part in whole.parts)
    metadata = whole.parts[0].metadata.ended(done, failures, seconds)
    with _undone_where_it_fails(outputs):
        _write(outputs, chosen, layout, whole, metadata)
    return Merged(str(output), len(parts), done, len(failures))


def _write(
    outputs: ResultFiles, form: Format, layout: Layout, whole: Whole, metadata: RunMetadata
) -> None:
    writer = form.create(outputs, layout)
    try:
        for table in whole.tables(layout.shape):
            writer.write(table)
    except BaseException:
        with contextlib.suppress(OSError):
            writer.close()
        raise
    writer.close(metadata.to_json())
    if outputs.meta is not None:
        outputs.write_json(outputs.meta, metadata.to_json())
    with signals.held():
        outputs.commit()


@contextlib.contextmanager
def _undone_where_it_fails(outputs: ResultFiles) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        outputs.abandon(keep=False)
        raise OutputError(f"cannot write {outputs.name}: {error.strerror or error}") from error
    except BaseException:
        outputs.abandon(keep=False)
        raise


def _read(file: Path) -> Iterator[Path]:
    """The files that are read with a part."""
    yield file
    for beside in (file.with_suffix(".index.csv"), file.with_name(file.name + META)):
        if beside.exists():
            yield beside


def _different(files: Sequence[Path]) -> Sequence[Path]:
    """The same files, if they are some and none is there twice."""
    if not files:
        raise OptionError("there is nothing to merge", "name results")
    seen: set[str] = set()
    for file in files:
        real = os.path.realpath(file)
        if real in seen:
            raise OptionError(f"{file} is named twice", "leave one of them out")
        seen.add(real)
    return files


def _refuse_differences(parts: Sequence[Part]) -> None:
    """Hold every part against the first one."""
    first = parts[0]
    for part in parts[1:]:
        difference = part.metadata.difference(first.metadata)
        if difference:
            option, value, wanted = difference
            raise ResultError(
                f"{part.name} was made with {option} {value}, {first.name} with {wanted}",
                _ONE_KIND,
            )


def _layout(parts: Sequence[Part], form: Format) -> Layout:
    """What all the parts have in common, for a writer.

    Raises:
        ResultError: they have not.
        OptionError: the format needs what the parts do not have.
    """
    known = [(part, part.layout) for part in parts if part.layout is not None]
    metadata = parts[0].metadata
    labels = metadata.command == "classify"
    wide = next((part for part, layout in known if layout.wide), None)
    if wide is not None and form.name not in ("csv", "tsv"):
        raise OptionError(
            f"{wide.name} was made with --wide and has no class ids", "use csv or tsv"
        )
    shape = _shape(parts)
    if shape == _UNKNOWN and not labels and form.name != "jsonl":
        raise OptionError("no part tells how many values a row has", "use jsonl")
    layout = Layout(shape, labels, _has_faults(parts), wide is not None, metadata.meta)
    for part, found in known:
        if found.meta != layout.meta:
            raise ResultError(f"the metadata of {part.name} are not those of its rows")
    for part in parts if form.has_all(layout.wide) else ():
        if part.lacks_unlabelled():
            raise OptionError(
                f"{part.name} does not name its images without a label, as {form.name} would",
                "use csv, tsv or parquet" if wide is None else "make it with --wide",
            )
    return layout


def _has_faults(parts: Sequence[Part]) -> bool:
    """Whether images that failed have rows, in all parts alike."""
    known = [(part, part.has_faults) for part in parts if part.has_faults is not None]
    for part, has in known:
        if has != known[0][1]:
            how, other = ("with", "without") if has else ("without", "with")
            raise ResultError(
                f"{part.name} was made {how} --on-error row, {known[0][0].name} {other}",
                _ONE_KIND,
            )
    return bool(known and known[0][1])


def _shape(parts: Sequence[Part]) -> tuple[int, ...]:
    """The shape of an image's results, which long labels and failures do not tell."""
    shapes = [(part, part.layout.shape) for part in parts if part.layout is not None]
    found = [(part, shape) for part, shape in shapes if shape != _UNKNOWN]
    for part, shape in found:
        if shape != found[0][1]:
            raise ResultError(
                f"{part.name} has rows of {list(shape)}, {found[0][0].name} of {list(found[0][1])}",
                _ONE_KIND,
            )
    return found[0][1] if found else _UNKNOWN
