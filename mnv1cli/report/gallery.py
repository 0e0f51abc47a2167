"""What a report shows of results: images with labels, or with those like them, put in order."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mnv1cli.analysis.evaluate import TOP, Evaluation, SavedPredictions, evaluated, ranked
from mnv1cli.analysis.truth import ListTruth, Resolved
from mnv1cli.errors import OptionError, ResultError
from mnv1cli.labels import names
from mnv1cli.path_text import path_of
from mnv1cli.results.readers import open_result
from mnv1cli.results.readers.similarities import SimilarityRows, group_entries
from mnv1cli.types import Fault, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mnv1cli.analysis.truth import Truth
    from mnv1cli.labels.names import ClassName
    from mnv1cli.storage.location import Source
    from mnv1cli.types import Prediction

Sort = Literal["results", "certain", "uncertain", "label", "name", "mistakes"]
SORTS: tuple[Sort, ...] = ("results", "certain", "uncertain", "label", "name", "mistakes")
_SIGNS: dict[Sort, int] = {"certain": -1, "uncertain": 1}
# What can be said of an image once it is known what it shows.
RIGHT, AMONG, WRONG = "right", "among", "wrong"


@dataclass(frozen=True, slots=True)
class Card:
    """An image with its labels; `truth` is what it shows, and `verdict` what that says of them."""

    index: int
    path: bytes
    predictions: tuple[Prediction, ...]
    truth: str = ""
    verdict: str = ""

    @property
    def label(self) -> str:
        """The first label, empty where there is none."""
        return self.predictions[0].label if self.predictions else ""

    @property
    def certainty(self) -> float:
        """The first label's probability."""
        return self.predictions[0].probability if self.predictions else 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A query with its matches, or a group with its members; `query` is empty for a group."""

    index: int
    query: bytes
    members: tuple[tuple[bytes, float], ...]

    @property
    def paths(self) -> tuple[bytes, ...]:
        """Every image that it shows."""
        return (*((self.query,) if self.query else ()), *(path for path, _ in self.members))

    @property
    def certainty(self) -> float:
        """How similar the most similar one is, the query itself left out."""
        others = (similarity for path, similarity in self.members if path != self.query)
        return max(others, default=-1.0)


class Labelled:
    """Images with their labels, out of what `classify` or `logits` wrote.

    With `truth` they are evaluated, too. `total` counts the images, `faults` are
    those that failed, `remarks` says what could not be evaluated.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or holds something else.
        LabelsError: the class names do not fit, or of no image it is known what it shows.
    """

    def __init__(self, file: Source, truth: Truth | None = None, own: Path | None = None) -> None:
        self.total = 0
        self.evaluation: Evaluation | None = None
        self.remarks: list[str] = []
        self._truth = truth
        self._result = open_result(file)
        metadata = self._result.metadata
        self.metadata: Mapping[str, Any] = metadata.to_json() if metadata else {}
        self._names = self._class_names(file, own)
        self.faults = _told_faults(self.metadata, file)
        if truth is not None:
            self._evaluate(file, truth)

    def chosen(self, sort: Sort, limit: int) -> list[Card]:
        """The first `limit` images in an order; memory does not grow with the others."""
        if sort == "mistakes" and self._truth is None:
            raise OptionError("--sort mistakes needs to know what the images show", _SAY_TRUTH)
        resolved = Resolved(self._truth, self._names) if self._truth else None
        return heapq.nsmallest(limit, self._cards(resolved), key=lambda card: _key(card, sort))

    def _class_names(self, file: Source, own: Path | None) -> tuple[ClassName, ...]:
        """The class names, as far as they are needed."""
        layout = self._result.layout
        output = self.metadata.get("output", "logits")
        if layout and not layout.labels and output not in ("logits", "probabilities"):
            raise ResultError(
                f"{file} holds {output}, which no page can show",
                "give what classify, logits or similar wrote",
            )
        if layout and not layout.labels:
            return names.labels_for(layout.shape[-1], own)
        return SavedPredictions(file).names(own) if own or self._truth else ()

    def _evaluate(self, file: Source, truth: Truth) -> None:
        saved, resolved = SavedPredictions(file), Resolved(truth, self._names)
        self.evaluation = evaluated(saved.tables(self._names), resolved, self._names)
        self.evaluation.failed = saved.failed
        self.remarks = list(resolved.remarks())

    def _cards(self, resolved: Resolved | None) -> Iterator[Card]:
        self.total = 0
        known = {fault.path for fault in self.faults}
        for table in self._tables():
            for path, error, found in zip(
                table.paths, table.errors, table.predictions, strict=True
            ):
                if not error:
                    yield self._card(path, found[:TOP], resolved)
                    self.total += 1
                elif path not in known:
                    self.faults.append(Fault(path, error))

    def _tables(self) -> Iterator[Table]:
        layout, output = self._result.layout, self.metadata.get("output")
        for table in self._result.tables() if layout else ():
            if table.values is None:
                yield table
                continue
            yield ranked(table.without_faults(), self._names, output)
            bad = [pair for pair in zip(table.paths, table.errors, strict=True) if pair[1]]
            if bad:
                paths, errors = zip(*bad, strict=True)
                yield Table(paths, errors, predictions=((),) * len(bad))

    def _card(self, path: bytes, found: tuple[Prediction, ...], resolved: Resolved | None) -> Card:
        wanted = resolved.of(path) if resolved else None
        if wanted is None:
            return Card(self.total, path, found)
        verdict = WRONG
        if any(p.class_id == wanted for p in found):
            verdict = RIGHT if found[0].class_id == wanted else AMONG
        return Card(self.total, path, found, self._names[wanted].label, verdict)


class Alike:
    """Queries with their matches, or groups, out of what `similar` wrote.

    `total` counts queries or groups, `left_out` the images that one of them has
    beyond the limit.
    """

    def __init__(self, rows: SimilarityRows) -> None:
        self.total = 0
        self.left_out = 0
        self.grouped = rows.grouped
        self.metadata: Mapping[str, Any] = rows.metadata or {}
        self.faults = _told_faults(self.metadata, rows.file)
        self._rows = rows

    def chosen(self, sort: Sort, limit: int) -> list[Entry]:
        """The first ones in an order that show no more than `limit` images together."""
        if sort in ("mistakes", "label"):
            raise OptionError(f"--sort {sort} is for labels, and these are similarities")
        found = heapq.nsmallest(limit, self._entries(), key=lambda entry: _entry_key(entry, sort))
        room = limit
        for i, entry in enumerate(found):
            size = len(entry.paths)
            if size > room:
                return found[:i] if i else [self._cut(entry, limit)]
            room -= size
        return found

    def _cut(self, entry: Entry, limit: int) -> Entry:
        self.left_out = len(entry.paths) - limit
        return Entry(entry.index, entry.query, entry.members[: -self.left_out])

    def _entries(self) -> Iterator[Entry]:
        self.total = 0
        for key, members in group_entries(self._rows.rows()):
            yield Entry(self.total, key if isinstance(key, bytes) else b"", tuple(members))
            self.total += 1


def truth_of(
    results: Source, file: Path | None, folders: bool, roots: Iterable[bytes]
) -> Truth | None:
    """What the images show: as a list tells, or the names of their folders, or nothing does."""
    if file is not None and folders:
        raise OptionError("--truth and --truth-folders are two truths", "give one of them")
    if file is not None:
        return ListTruth(file, [root for root in roots if root])
    return SavedPredictions(results).folders() if folders else None


def _key(card: Card, sort: Sort) -> tuple[Any, ...]:
    if sort == "name":
        return card.path, card.index
    if sort == "label":
        return card.label.casefold(), -card.certainty, card.index
    if sort == "mistakes":
        # The surest mistakes first; of what is right the least sure.
        stage = {RIGHT: 1, "": 2}.get(card.verdict, 0)
        return stage, card.certainty if stage else -card.certainty, card.index
    return _SIGNS.get(sort, 0) * card.certainty, card.index


def _entry_key(entry: Entry, sort: Sort) -> tuple[Any, ...]:
    if sort == "name":
        return entry.paths[0], entry.index
    return _SIGNS.get(sort, 0) * entry.certainty, entry.index


def _told_faults(metadata: Mapping[str, Any], file: object) -> list[Fault]:
    try:
        told = metadata.get("failures") or ()
        return [Fault(path_of(each), str(each["reason"])) for each in told]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"the metadata of {file} are damaged") from error


_SAY_TRUTH = "say so with --truth FILE or --truth-folders"
