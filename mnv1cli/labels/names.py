"""The names of classes: ImageNet's, a module's own, or a user's."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import LabelsError

if TYPE_CHECKING:
    from collections.abc import Sequence


FIELDS = ("class_id", "wnid", "label", "synonyms")
_TABLE = "imagenet_1001.csv"
_WNID = re.compile(r"n[0-9]{8}(?![0-9a-z])")


@dataclass(frozen=True, slots=True)
class ClassName:
    """One class of the table; `wnid` is its WordNet id."""

    class_id: int
    wnid: str
    label: str
    synonyms: str = ""


@cache
def imagenet() -> tuple[ClassName, ...]:
    """Return the 1001 classes of MobileNet V1: the background, then the 1000 of ImageNet."""
    packaged = resources.files("mnv1cli") / "data" / "labels" / _TABLE
    if packaged.is_file():
        return _parse_table(packaged.read_text("utf-8"), _TABLE)
    # An editable install has the table beside the package.
    beside = Path(__file__).resolve().parents[2] / "labels" / _TABLE
    return _parse_table(beside.read_text("utf-8"), str(beside))


@cache
def imagenet_without_background() -> tuple[ClassName, ...]:
    """Return the 1000 classes of ImageNet, numbered from 0, as models without a background do."""
    return tuple(replace(name, class_id=i) for i, name in enumerate(imagenet()[1:]))


def choose_built_in(classes: int) -> tuple[ClassName, ...]:
    """Return the built-in names for so many classes: 1000 lack the background, others have it."""
    without = imagenet_without_background()
    return without if classes == len(without) else imagenet()


def read_labels(path: Path) -> tuple[ClassName, ...]:
    """Read class names from a file: a name per line, or CSV with the header of `FIELDS`.

    Of the CSV only the column `label` is required.

    Raises:
        LabelsError: the file is missing, empty, not UTF-8, or CSV whose ids do not count up
            from 0.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise LabelsError(f"cannot read the labels in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LabelsError(f"the labels in {path} are not UTF-8 text: {error.reason}") from error
    header = next(csv.reader(io.StringIO(text)), [])
    if "label" in header:
        names = _parse_table(text, str(path))
    else:
        names = tuple(ClassName(i, "", name.strip()) for i, name in enumerate(text.splitlines()))
    if not any(name.label for name in names):
        raise LabelsError(f"the labels file {path} is empty")
    return names


def _parse_table(text: str, source: str) -> tuple[ClassName, ...]:
    rows = list(csv.DictReader(io.StringIO(text)))
    for i, row in enumerate(rows):
        if row.get("class_id") not in (None, str(i)):
            raise LabelsError(
                f"{source}: row {i + 1} has the class id {row['class_id']!r}, not {i}",
                "ids count up from 0",
            )
    return tuple(
        ClassName(i, row.get("wnid") or "", row["label"] or "", row.get("synonyms") or "")
        for i, row in enumerate(rows)
    )


def choose_labels(
    classes: int, own: Path | None = None, asset: Path | None = None
) -> tuple[ClassName, ...]:
    """Return the names of a module's classes: from the file `own`, else its `asset` or ImageNet's.

    Of ImageNet's 1000 classes a module may have 1001, with the background, or 1000.
    `asset` is the file with the names that a module brings, None for one that has none.

    Raises:
        LabelsError: the number of names is not that of the classes.
    """
    source = own or asset
    names = choose_built_in(classes) if source is None else read_labels(source)
    if len(names) == classes:
        return names
    remedy = "name your own with --labels FILE"
    if own is not None:
        remedy = "give one line per class"
        if len(names) == 1000 and classes == 1001:
            remedy = "class 0 of this module is the background: put a line for it first"
    table = source or "the built-in table"
    raise LabelsError(f"{table} has {len(names)} names, the module {classes} classes", remedy)


def search_classes(pattern: str, names: tuple[ClassName, ...]) -> list[ClassName]:
    """Return the class with the id `pattern`, or all with it in WordNet id, label or synonyms."""
    if pattern.isdecimal():
        return [name for name in names if pattern in (str(name.class_id), name.wnid[1:])]
    wanted = pattern.casefold()
    return [
        name
        for name in names
        if any(wanted in text.casefold() for text in (name.wnid, name.label, name.synonyms))
    ]


def compute_digest(names: Sequence[ClassName]) -> str | None:
    """Return a sha256 that tells one set of names from another; None without names."""
    if not names:
        return None
    text = "\n".join(f"{name.wnid} {name.label}" for name in names)
    return hashlib.sha256(text.encode()).hexdigest()


def find_classes(text: str, names: Sequence[ClassName]) -> tuple[int, ...]:
    """Return the ids of the classes that a WordNet id, a class id, a label or a synonym names.

    Upper and lower case are the same, and so are spaces and underscores. Text after a WordNet
    id is ignored. All classes with a label are returned; a label counts before a synonym, and
    a label in the same case before one in another.
    """
    if text.isdecimal():
        return (int(text),) if int(text) < len(names) else ()
    wanted = _plain(text)
    if not wanted:
        return ()
    wnid = _WNID.match(wanted)
    if wnid and (named := tuple(name.class_id for name in names if name.wnid == wnid[0])):
        return named
    exact = text.strip().replace("_", " ")
    # Case tells the dog Cardigan from the garment.
    ids = tuple(name.class_id for name in names if exact == name.label)
    ids = ids or tuple(name.class_id for name in names if wanted == _plain(name.label))
    return ids or tuple(
        name.class_id for name in names if wanted in map(_plain, name.synonyms.split(";"))
    )


def _plain(text: str) -> str:
    return text.strip().casefold().replace("_", " ")
