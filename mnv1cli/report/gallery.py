"""The images of a report in their order: with labels, or with the images that are similar."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mnv1cli.analysis.evaluate import evaluate_tables
from mnv1cli.analysis.evaluation import TOP, Evaluation
from mnv1cli.analysis.saved_predictions import SavedPredictions, rank_table
from mnv1cli.analysis.truth import ListTruth, ResolvedTruth
from mnv1cli.errors import OptionError, ResultError
from mnv1cli.path_text import parse_path
from mnv1cli.results.readers import open_result
from mnv1cli.results.readers.similarities import SimilarityRows, group_entries
from mnv1cli.types import Fault, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from mnv1cli.analysis.truth import Truth
    from mnv1cli.labels.names import ClassName
    from mnv1cli.storage.location import ResultSource
    from mnv1cli.types import Prediction

Sort = Literal["results", "certain", "uncertain", "label", "name", "mistakes"]
SORTS: tuple[Sort, ...] = ("results", "certain", "uncertain", "label", "name", "mistakes")
_SIGNS: dict[Sort, int] = {"certain": -1, "uncertain": 1}
# The verdicts on an image whose class is known.
RIGHT, AMONG, WRONG = "right", "among", "wrong"


@dataclass(frozen=True, slots=True)
class Card:
    """An image with its labels; `truth` is its class, and `verdict` whether they are right.

    Both are empty where the class is unknown. `warning` is the damage of an image that was
    accepted.
    """

    index: int
    path: bytes
    predictions: tuple[Prediction, ...]
    truth: str = ""
    verdict: str = ""
    warning: str = ""

    @property
    def label(self) -> str:
        """The first label, empty where there is none."""
        return self.predictions[0].label if self.predictions else ""

    @property
    def certainty(self) -> float:
        """The probability of the first label, 0 where there is none."""
        return self.predictions[0].probability if self.predictions else 0.0

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The images that it shows."""
        return (self.path,)


@dataclass(frozen=True, slots=True)
class Entry:
    """A query with its matches, or a group with its members; `query` is empty for a group."""

    index: int
    query: bytes
    members: tuple[tuple[bytes, float], ...]

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The images that it shows, the query first."""
        return (*((self.query,) if self.query else ()), *(path for path, _ in self.members))

    @property
    def certainty(self) -> float:
        """The similarity of the most similar image other than the query."""
        others = (similarity for path, similarity in self.members if path != self.query)
        return max(others, default=-1.0)


class LabelGallery:
    """Images with their labels, from what `classify` or `logits` wrote.

    Attributes:
        total: the number of images, known once `select` has read them.
        evaluation: how right the labels are, None without `truth`.
        remarks: what could not be evaluated.
        metadata: those of the results, empty where there are none.
        faults: the images that failed.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or holds something else.
        LabelsError: the class names do not fit, or the class of no image is known.
    """

    def __init__(
        self,
        file: ResultSource,
        truth: Truth | None = None,
        labels_file: Path | None = None,
        module: str | None = None,
    ) -> None:
        self.total = 0
        self._module = module
        self.evaluation: Evaluation | None = None
        self.remarks: list[str] = []
        self._truth = truth
        self._result = open_result(file)
        metadata = self._result.metadata
        self.metadata: Mapping[str, Any] = metadata.to_json() if metadata else {}
        self._names = self._read_class_names(file, labels_file)
        self.faults = _read_faults(self.metadata, file)
        if truth is not None:
            self._evaluate(file, truth)

    def select(self, sort: Sort, limit: int) -> list[Card]:
        """Select the first `limit` images in an order; memory does not grow with the others.

        Raises:
            OptionError: mistakes are wanted, and the classes of the images are unknown.
        """
        if sort == "mistakes" and self._truth is None:
            raise OptionError(
                "--sort mistakes needs to know what the images show",
                "add --truth FILE or --truth-folders",
            )
        resolved = ResolvedTruth(self._truth, self._names) if self._truth else None
        return heapq.nsmallest(limit, self._cards(resolved), key=lambda card: _card_key(card, sort))

    def _read_class_names(
        self, file: ResultSource, labels_file: Path | None
    ) -> tuple[ClassName, ...]:
        """Read the class names, as far as they are needed."""
        layout = self._result.layout
        output = self.metadata.get("output", "logits")
        if layout and not layout.labels and output not in ("logits", "probabilities"):
            raise ResultError(
                f"{file} holds {output}, which no page can show",
                "give what classify, logits or similar wrote",
            )
        if labels_file or self._truth or (layout and not layout.labels):
            return SavedPredictions(file, self._module).names(labels_file)
        return ()

    def _evaluate(self, file: ResultSource, truth: Truth) -> None:
        saved, resolved = SavedPredictions(file), ResolvedTruth(truth, self._names)
        self.evaluation = evaluate_tables(saved.tables(self._names), resolved, self._names)
        self.evaluation.failed = saved.failed
        self.remarks = list(resolved.remarks())

    def _cards(self, resolved: ResolvedTruth | None) -> Iterator[Card]:
        """Yield the images in the order of the results, and collect those that failed."""
        self.total = 0
        failed = {fault.path for fault in self.faults}
        for table in self._tables():
            for path, error, warning, predictions in zip(
                table.paths, table.errors, table.get_warnings(), table.predictions, strict=True
            ):
                if not error:
                    card = self._make_card(path, predictions[:TOP], resolved)
                    yield replace(card, warning=warning) if warning else card
                    self.total += 1
                elif path not in failed:
                    self.faults.append(Fault(path, error))

    def _tables(self) -> Iterator[Table]:
        """Yield the results as labels, whatever they hold."""
        layout, output = self._result.layout, self.metadata.get("output")
        for table in self._result.tables() if layout else ():
            if table.values is None:
                yield table
                continue
            yield rank_table(table.without_faults(), self._names, output)
            bad = [pair for pair in zip(table.paths, table.errors, strict=True) if pair[1]]
            if bad:
                paths, errors = zip(*bad, strict=True)
                yield Table(paths, errors, predictions=((),) * len(bad))

    def _make_card(
        self, path: bytes, predictions: tuple[Prediction, ...], resolved: ResolvedTruth | None
    ) -> Card:
        class_id = resolved.find_class(path) if resolved else None
        if class_id is None:
            return Card(self.total, path, predictions)
        verdict = WRONG
        if any(p.class_id == class_id for p in predictions):
            verdict = RIGHT if predictions[0].class_id == class_id else AMONG
        return Card(self.total, path, predictions, self._names[class_id].label, verdict)


class SimilarityGallery:
    """Queries with their matches, or groups, from what `similar` wrote.

    Attributes:
        total: the number of queries or groups, known once `select` has read them.
        left_out: the number of images that the only entry selected has beyond the limit.
        grouped: whether these are groups.
        metadata: those of the search, empty where there are none.
        faults: the images that failed.
    """

    def __init__(self, rows: SimilarityRows) -> None:
        self.total = 0
        self.left_out = 0
        self.grouped = rows.grouped
        self.metadata: Mapping[str, Any] = rows.metadata or {}
        self.faults = _read_faults(self.metadata, rows.file)
        self._rows = rows

    def select(self, sort: Sort, limit: int) -> list[Entry]:
        """Select the first entries in an order that show at most `limit` images together.

        Raises:
            OptionError: the order is one of labels.
        """
        if sort in ("mistakes", "label"):
            raise OptionError(f"--sort {sort} is for labels, and these are similarities")
        entries = heapq.nsmallest(limit, self._entries(), key=lambda entry: _entry_key(entry, sort))
        room = limit
        for i, entry in enumerate(entries):
            size = len(entry.paths)
            if size > room:
                return entries[:i] if i else [self._cut(entry, limit)]
            room -= size
        return entries

    def _cut(self, entry: Entry, limit: int) -> Entry:
        self.left_out = len(entry.paths) - limit
        return Entry(entry.index, entry.query, entry.members[: -self.left_out])

    def _entries(self) -> Iterator[Entry]:
        self.total = 0
        for key, members in group_entries(self._rows.rows()):
            yield Entry(self.total, key if isinstance(key, bytes) else b"", tuple(members))
            self.total += 1


def choose_truth(
    results: ResultSource, file: Path | None, folders: bool, roots: Iterable[bytes]
) -> Truth | None:
    """Choose where the classes of images come from: a list, their folders' names, or nowhere.

    Raises:
        OptionError: both are given.
    """
    if file is not None and folders:
        raise OptionError("--truth and --truth-folders are two truths", "give one of them")
    if file is not None:
        return ListTruth(file, [root for root in roots if root])
    return SavedPredictions(results).folder_truth() if folders else None


def _card_key(card: Card, sort: Sort) -> tuple[Any, ...]:
    if sort == "name":
        return card.path, card.index
    if sort == "label":
        return card.label.casefold(), -card.certainty, card.index
    if sort == "mistakes":
        # The most certain mistakes first; of what is right the least certain.
        stage = {RIGHT: 1, "": 2}.get(card.verdict, 0)
        return stage, card.certainty if stage else -card.certainty, card.index
    return _SIGNS.get(sort, 0) * card.certainty, card.index


def _entry_key(entry: Entry, sort: Sort) -> tuple[Any, ...]:
    if sort == "name":
        return entry.paths[0], entry.index
    return _SIGNS.get(sort, 0) * entry.certainty, entry.index


def _read_faults(metadata: Mapping[str, Any], file: object) -> list[Fault]:
    try:
        records = metadata.get("failures") or ()
        return [Fault(parse_path(record), str(record["reason"])) for record in records]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ResultError(f"the metadata of {file} are damaged") from error
