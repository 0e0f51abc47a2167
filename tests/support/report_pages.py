"""Results to make reports of, and the pages that come out, parsed."""

from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from mnv1cli.labels.names import imagenet
from mnv1cli.path_text import decode_path
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.formats import FORMATS
from mnv1cli.results.readers.similarities import MATCHES
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.types import Layout, Prediction, Table
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mnv1cli.labels.names import ClassName

HOSTILE = (
    "<img src=x onerror=hurt=1>.jpg",
    "a</script><script>hurt=1</script>.jpg",
    "\"'& onload=hurt=1 \u200b.jpg",
    "]]>--><!--.jpg",
)
TABBY, ESPRESSO = imagenet()[282], imagenet()[968]
METADATA = {
    "version": "0.1.0",
    "command": "classify",
    "module": {"handle": "https://example.org/<b>module</b>", "fingerprint": "2e", "image_size": 8},
    "exif": True,
    "output": "labels",
    "counts": {"done": 2, "failed": 1},
    "failures": [{"path": "bad </script>.jpg", "reason": "the file is <empty>"}],
}


def make_prediction(rank: int, name: ClassName, probability: float) -> Prediction:
    return Prediction(rank, name.class_id, name.wnid, name.label, probability)


def make_predictions(count: int) -> tuple[tuple[Prediction, ...], ...]:
    """Make five labels per image; every third image is an espresso."""
    last = tuple(make_prediction(rank, imagenet()[rank], 0.0) for rank in (3, 4, 5))
    images = []
    for i in range(count):
        best, other = (ESPRESSO, TABBY) if i % 3 == 2 else (TABBY, ESPRESSO)
        probability = 0.5 + 0.49 * (i * 7 % max(count, 1)) / max(count, 1)
        first = (make_prediction(1, best, probability), make_prediction(2, other, 1 - probability))
        images.append((*first, *last))
    return tuple(images)


def write_labels_csv(file: Path, names: Sequence[str | bytes]) -> Path:
    """Write what classify would write about these images, without metadata."""
    rows = [
        [decode_path(os.fsencode(name)), p.rank, p.class_id, p.wnid, p.label, p.probability]
        for name, predictions in zip(names, make_predictions(len(names)), strict=True)
        for p in predictions
    ]
    header = ["path", "rank", "class_id", "wnid", "label", "probability"]
    file.write_bytes(encode_rows([header, *rows]))
    return file


def write_matches_csv(file: Path, queries: Iterable[str], names: Sequence[str]) -> Path:
    """Write what similar would write: four of the images for each query."""
    rows = [[q, i, n, 1 - i / 20] for q in queries for i, n in enumerate(names[:4], start=1)]
    file.write_bytes(encode_rows([list(MATCHES), *rows]))
    return file


def write_result(file: Path, table: Table, layout: Layout, metadata: dict[str, Any]) -> None:
    """Write a table in the format of the file's suffix, with metadata."""
    form = FORMATS[file.suffix[1:]]
    outputs = ResultFiles(
        file, None, form.sidecars, (), force=True, with_meta=not form.holds_metadata
    )  # fmt: skip
    writer = form.create(outputs, layout)
    writer.write(table)
    writer.close(metadata)
    if outputs.meta is not None:
        outputs.write_json(outputs.meta, metadata)
    outputs.commit()


class ParsedPage(HTMLParser):
    """The elements of a page, its text, its scripts and styles."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._tag = ""
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._tag = tag
        if tag == "script":
            self.scripts.append("")
        if tag == "style":
            self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag == "script":
            self.scripts[-1] += data
        elif self._tag == "style":
            self.styles[-1] += data
        else:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def entries(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads(self.scripts[0])["entries"]
        return entries


def make_page(results: Path, *more: object) -> ParsedPage:
    """Run the command on results, and parse the page."""
    page = results.with_name("page.html")
    result = mnv1("report", results, "-o", page, "--force", *more)
    assert result.exit_code == 0, result.stderr
    return ParsedPage(page.read_bytes())


def list_photos(folder: Path) -> list[str]:
    """List the pictures in `photos`, as paths relative to `folder`."""
    return sorted(f"photos/{path.name}" for path in (folder / "photos").iterdir())
