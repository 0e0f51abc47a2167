"""A page to look at instead of rows: pictures with their labels, all of it in one file."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OptionError
from mnv1cli.report import page
from mnv1cli.report.gallery import Alike, Labelled, truth_of
from mnv1cli.report.thumbnails import thumbnails
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.readers.similarities import open_similarities
from mnv1cli.storage.location import Location, source

if TYPE_CHECKING:
    from typing import BinaryIO, TextIO

    from mnv1cli.report.gallery import Sort
    from mnv1cli.report.thumbnails import Thumbnail
    from mnv1cli.storage.location import Source

log = logging.getLogger(__name__)

MAX_IMAGES = 2000
SUFFIXES = (".html", ".htm")
# A few pictures may be larger; thousands are to stay a page that opens at once.
_SIDE, _LARGE_SIDE, _FEW = 160, 256, 200


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a page shows, and in which order at first.

    `truth` is a list of what the images show, or their folders' names tell it.
    `base` is the folder that relative paths are seen from.
    """

    title: str = ""
    sort: Sort | None = None
    limit: int = MAX_IMAGES
    truth: Path | None = None
    truth_folders: bool = False
    labels: Path | None = None
    base: Path | None = None


def write_report(
    results: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: ReportOptions | None = None,
    force: bool = False,
    stdout: BinaryIO | None = None,
    progress: TextIO | None = None,
) -> str:
    """Write the page of what classify, logits or similar wrote; gives a line on it.

    `results` is a file or a dataset, `output` a file, or `-` for `stdout`; a bar on the
    stream `progress` shows
    how far the pictures are.

    Raises:
        MissingInputError: there are no such results.
        OptionError: the options do not fit the results, or `output` is no `.html`.
        OutputError: `output` exists, or cannot be written.
        ResultError: the results cannot be read, or hold something else.
        LabelsError: class names or truth do not fit.
    """
    file = None if os.fspath(output) == "-" else Path(output)
    if file is not None and file.suffix.lower() not in SUFFIXES:
        raise OptionError(f"{file} is no name of a page", "end it in .html")
    outputs = ResultFiles(file, stdout, force=force, with_meta=False)
    found = source(Location(os.fspath(results)))
    written, told = build_report(found, options or ReportOptions(), progress)
    try:
        outputs.open_main().write(written)
        outputs.commit()
    except BaseException:
        outputs.abandon(keep=False)
        raise
    return f"{told}, {_size(len(written))} in {outputs.name}"


def build_report(
    results: Source, options: ReportOptions, progress: TextIO | None = None
) -> tuple[bytes, str]:
    """The page, and what it shows in a few words.

    Raises:
        Mnv1Error: as `write_report`.
    """
    folders = _folders(results, options.base)
    found = _opened(results, options, folders)
    evaluates = isinstance(found, Labelled) and found.evaluation is not None
    sort: Sort = options.sort or ("mistakes" if evaluates else "results")
    shown: list[Any] = [*found.chosen(sort, options.limit)]
    paths = [
        path for one in shown for path in (one.paths if isinstance(found, Alike) else [one.path])
    ]
    pictures = _pictures(paths, folders, bool(found.metadata.get("exif", True)), progress)
    note = _note(found, shown, sort)
    for remark in (*getattr(found, "remarks", ()), *([note] if note else ())):
        log.warning("%s", remark)
    title = options.title or results.name
    told = f"{_counted(len(shown), *_WORDS[_kind(found)])}"
    return page.rendered(found, shown, pictures, sort, title, note), told


_WORDS = {
    "labels": ("image", "images"),
    "matches": ("query", "queries"),
    "groups": ("group", "groups"),
}


def _kind(found: Labelled | Alike) -> str:
    if isinstance(found, Labelled):
        return "labels"
    return "groups" if found.grouped else "matches"


def _counted(number: int, one: str, many: str) -> str:
    return f"1 {one}" if number == 1 else f"{number:,} {many}"


def _size(length: int) -> str:
    return f"{length / 1e6:.1f} MB" if length >= 1e6 else f"{length / 1e3:.0f} kB"


def _opened(
    results: Source, options: ReportOptions, folders: tuple[bytes, ...]
) -> Labelled | Alike:
    """The results, whichever they are, with what is said about them."""
    # `similar` writes files alone.
    rows = open_similarities(results) if isinstance(results, Path) else None
    if rows is None:
        truth = truth_of(results, options.truth, options.truth_folders, folders)
        return Labelled(results, truth, options.labels)
    for name, given in (
        ("--truth", options.truth),
        ("--truth-folders", options.truth_folders),
        ("--labels", options.labels),
    ):
        if given:
            raise OptionError(f"{name} is for labels, and {results} holds similarities")
    return Alike(rows)


def _folders(results: Source, base: Path | None) -> tuple[bytes, ...]:
    """Where relative paths are looked for, in this order; the empty one is the current folder."""
    if base is None:
        # A store has no images that a page could show by relative paths.
        remote = isinstance(results, Location) and results.is_remote
        there = os.path.dirname(os.fsencode(str(results).rstrip("/")))
        return (b"",) if remote else (b"", there)
    if not base.is_dir():
        raise OptionError(f"--base {base} is no folder")
    return (os.fsencode(base),)


def _pictures(
    paths: list[bytes], folders: tuple[bytes, ...], exif: bool, progress: TextIO | None
) -> dict[bytes, Thumbnail]:
    side = _LARGE_SIDE if len(paths) <= _FEW else _SIDE
    made = thumbnails(paths, folders, side, exif)
    if progress is None:
        return dict(made)
    from tqdm import tqdm

    total = len(set(paths))
    return dict(
        tqdm(made, file=progress, total=total, unit=" images", dynamic_ncols=True, leave=False)
    )


def _note(found: Labelled | Alike, shown: list[Any], sort: Sort) -> str:
    """What the page leaves out, empty where it has everything."""
    words = _WORDS[_kind(found)]
    if isinstance(found, Alike) and found.left_out:
        left = f"; of that one {_counted(found.left_out, 'image is', 'images are')} left out"
    else:
        left = ""
    if len(shown) == found.total and not left:
        return ""
    missing = _counted(found.total - len(shown), f"{words[0]} is", f"{words[1]} are")
    return (
        f"{_counted(found.total, *words)}, of which the page has {len(shown):,}, "
        f"in the order of --sort {sort}: {missing} left out{left} (--limit)"
    )
