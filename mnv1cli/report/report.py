"""A report of results: a page of pictures with their labels, all of it in one file."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OptionError
from mnv1cli.path_text import count
from mnv1cli.report.gallery import LabelGallery, SimilarityGallery, choose_truth
from mnv1cli.report.page import render_page
from mnv1cli.report.thumbnails import make_thumbnails
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.readers.similarities import open_similarities
from mnv1cli.storage.location import Location
from mnv1cli.storage.sources import to_result_source
from mnv1cli.types import PixelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import BinaryIO, TextIO

    from mnv1cli.report.gallery import Card, Entry, Sort
    from mnv1cli.report.thumbnails import Thumbnail
    from mnv1cli.storage.location import ResultSource

log = logging.getLogger(__name__)

MAX_IMAGES = 2000
SUFFIXES = (".html", ".htm")
# Up to this many pictures may be larger; a page of thousands has to open at once.
_SIDE, _LARGE_SIDE, _FEW = 160, 256, 200


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Options for a page.

    Attributes:
        title: the title, the name of the results where it is empty.
        sort: the order at first, None for the order of the results or mistakes first.
        limit: how many images the page shows, at most.
        truth: a list of what the images show.
        truth_folders: take the names of the images' folders for what they show.
        labels: a file of class names.
        module: the module of the results, which has its class names, where it has been moved.
        base: the folder that relative paths start from.
        remote: show images in stores and on servers, too, unless mnv1 is offline.
    """

    title: str = ""
    sort: Sort | None = None
    limit: int = MAX_IMAGES
    truth: Path | None = None
    truth_folders: bool = False
    labels: Path | None = None
    module: str | None = None
    base: Path | None = None
    remote: bool = False


def write_report(
    results: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: ReportOptions | None = None,
    force: bool = False,
    stdout: BinaryIO | None = None,
    progress: TextIO | None = None,
) -> str:
    """Write the page of what classify, logits or similar wrote, and return a line about it.

    `results` is a file or a dataset, `output` a file, or `-` for `stdout`. The stream
    `progress` gets a bar that counts the pictures.

    Raises:
        MissingInputError: there are no such results.
        OptionError: the options do not fit the results, or `output` is no `.html`.
        OutputError: `output` exists, or cannot be written.
        ResultError: the results cannot be read, or hold something else.
        LabelsError: class names or truth do not fit.
    """
    file = None if os.fspath(output) == "-" else Path(output)
    if file is not None and file.suffix.lower() not in SUFFIXES:
        raise OptionError(f"{file} is not the name of a page", "end it with .html")
    outputs = ResultFiles(file, stdout, force=force, with_meta=False)
    location = to_result_source(Location(os.fspath(results)))
    page, summary = build_report(location, options or ReportOptions(), progress)
    try:
        outputs.open_main().write(page)
        outputs.commit()
    except BaseException:
        outputs.abandon(keep=False)
        raise
    return f"{summary}, {_format_size(len(page))} in {outputs.name}"


def build_report(
    results: ResultSource, options: ReportOptions, progress: TextIO | None = None
) -> tuple[bytes, str]:
    """Build the page, and summarize in a few words what it shows.

    Raises:
        Mnv1Error: as `write_report`.
    """
    folders = _choose_folders(results, options.base)
    gallery = _open_gallery(results, options, folders)
    evaluates = isinstance(gallery, LabelGallery) and gallery.evaluation is not None
    sort: Sort = options.sort or ("mistakes" if evaluates else "results")
    selected: Sequence[Card] | Sequence[Entry] = gallery.select(sort, options.limit)
    paths = [path for item in selected for path in item.paths]
    thumbnails = _make_thumbnails(paths, folders, gallery.metadata, options.remote, progress)
    note = _describe_omissions(gallery, len(selected), sort)
    remarks = gallery.remarks if isinstance(gallery, LabelGallery) else []
    for remark in (*remarks, *([note] if note else ())):
        log.warning("%s", remark)
    title = options.title or results.name
    page = render_page(gallery, selected, thumbnails, sort, title, note)
    return page, count(len(selected), *_nouns(gallery))


def _nouns(gallery: LabelGallery | SimilarityGallery) -> tuple[str, str]:
    """Return the noun for what the page shows, singular and plural."""
    if isinstance(gallery, LabelGallery):
        return "image", "images"
    return ("group", "groups") if gallery.grouped else ("query", "queries")


def _format_size(length: int) -> str:
    return f"{length / 1e6:.1f} MB" if length >= 1e6 else f"{length / 1e3:.0f} kB"


def _open_gallery(
    results: ResultSource, options: ReportOptions, folders: tuple[bytes, ...]
) -> LabelGallery | SimilarityGallery:
    """Open the results, which are labels, scores or similarities."""
    # `similar` writes only files.
    rows = open_similarities(results) if isinstance(results, Path) else None
    if rows is None:
        truth = choose_truth(results, options.truth, options.truth_folders, folders)
        return LabelGallery(results, truth, options.labels, options.module)
    for name, given in (
        ("--truth", options.truth),
        ("--truth-folders", options.truth_folders),
        ("--labels", options.labels),
    ):
        if given:
            raise OptionError(f"{name} is for labels, and {results} holds similarities")
    return SimilarityGallery(rows)


def _choose_folders(results: ResultSource, base: Path | None) -> tuple[bytes, ...]:
    """Choose the folders to look for relative paths in; the empty one is the current folder."""
    if base is None:
        # A store has no images that a page could show by relative paths.
        remote = isinstance(results, Location) and results.is_remote
        beside = os.path.dirname(os.fsencode(str(results).rstrip("/")))
        return (b"",) if remote else (b"", beside)
    if not base.is_dir():
        raise OptionError(f"--base {base} is not a folder")
    return (os.fsencode(base),)


def _make_thumbnails(
    paths: list[bytes],
    folders: tuple[bytes, ...],
    metadata: Mapping[str, Any],
    remote: bool,
    progress: TextIO | None,
) -> dict[bytes, Thumbnail]:
    """Make the pictures, as far as the results' settings are about whole images."""
    spec = PixelSpec(
        _LARGE_SIDE if len(paths) <= _FEW else _SIDE,
        "squash",
        exif=bool(metadata.get("exif", True)),
        damaged="accept" if metadata.get("damaged") == "accept" else "refuse",
    )
    thumbnails = make_thumbnails(paths, folders, spec, remote)
    if progress is None:
        return dict(thumbnails)
    from tqdm import tqdm

    total = len(set(paths))
    return dict(
        tqdm(
            thumbnails, file=progress, total=total, unit=" images", dynamic_ncols=True, leave=False
        )
    )


def _describe_omissions(gallery: LabelGallery | SimilarityGallery, shown: int, sort: Sort) -> str:
    """Say what the page leaves out; empty where it has everything."""
    one, many = _nouns(gallery)
    cut = gallery.left_out if isinstance(gallery, SimilarityGallery) else 0
    if shown == gallery.total and not cut:
        return ""
    missing = count(gallery.total - shown, f"{one} is", f"{many} are")
    also = f"; of the one shown {count(cut, 'image is', 'images are')} left out" if cut else ""
    return (
        f"{count(gallery.total, one, many)}, of which the page has {shown:,}, "
        f"in the order of --sort {sort}: {missing} left out{also} (--limit)"
    )
