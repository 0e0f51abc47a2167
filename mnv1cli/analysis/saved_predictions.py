"""The predictions in an existing result, for an evaluation."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from mnv1cli.analysis.evaluation import TOP
from mnv1cli.analysis.truth import SavedTruth
from mnv1cli.errors import LabelsError, ResultError
from mnv1cli.inference.probe import are_probabilities
from mnv1cli.inference.ranking import rank_classes
from mnv1cli.labels.names import (
    choose_built_in,
    compute_digest,
    imagenet,
    imagenet_without_background,
    read_labels,
)
from mnv1cli.path_text import display_path
from mnv1cli.results.readers import open_result
from mnv1cli.runs.existing import find_result_module
from mnv1cli.types import Layout, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mnv1cli.inference.result_module import ResultModule
    from mnv1cli.labels.names import ClassName
    from mnv1cli.storage.location import ResultSource
    from mnv1cli.types import Prediction

_REMEDY = f"make it with --top {TOP} and without --min-probability, or give logits"


class SavedPredictions:
    """The first five labels of each image in an existing result.

    `module` says where the module of the result is, if it has been moved. `failed` is the number
    of images that failed, as far as the result has been read.

    Raises:
        MissingInputError: there is no such file.
        ResultError: it cannot be read, or holds something else.
    """

    def __init__(self, file: ResultSource, module: str | None = None) -> None:
        self._file = file
        self._named = module
        self._result = open_result(file)
        self._metadata = self._result.metadata
        self._layout = self._result.layout or Layout((0,), labels=True)
        self.failed = len(self._metadata.failures or ()) if self._metadata else 0
        self._refuse()

    def names(self, own: Path | None) -> tuple[ClassName, ...]:
        """Return the names of the result's classes.

        They are in the file `own`, else ImageNet's or those that the result's module brings.

        Raises:
            LabelsError: they are not the names that the result was made with.
        """
        if not self._layout.labels:
            return self._names_of_scores(own)
        digest = (self._metadata and self._metadata.labels) or compute_digest(imagenet())
        built_in = (imagenet(), imagenet_without_background())
        for names in built_in if own is None else (read_labels(own),):
            if digest == compute_digest(names):
                return names
        module = self._module
        if own is not None or module is None or module.has_built_in_names:
            what = f"{self._file} was made with other class names"
            raise LabelsError(what, "give them with --labels FILE")
        if names_of_module := module.find_class_names(digest, self._named):
            return names_of_module
        raise self._explain_lack(module)

    def tables(self, names: tuple[ClassName, ...]) -> Iterator[Table]:
        """Yield the predictions of the images that did not fail."""
        for table in self._result.tables():
            good = table.without_faults()
            if self._metadata is None:
                self.failed += len(table.paths) - len(good.paths)
            if self._layout.labels:
                self._check_labels(good, names)
                yield good
            else:
                yield self._rank(good, names)

    def folder_truth(self) -> SavedTruth:
        """Return the truth in the names of the images' folders."""
        return SavedTruth(self._result.paths())

    def _names_of_scores(self, own: Path | None) -> tuple[ClassName, ...]:
        module = self._module
        names = None if own is None else read_labels(own)
        if own is None and module is not None and not module.has_built_in_names:
            names = module.find_class_names(None, self._named)
        names = names or choose_built_in(self._layout.shape[-1])
        if self._layout.shape != (len(names),):
            if own is None and module is not None and not module.is_on_disk(self._named):
                raise self._explain_lack(module)
            numbers = " x ".join(map(str, self._layout.shape))
            raise LabelsError(
                f"{self._file} has {numbers} numbers per image, but there are {len(names)} names",
                "give scores of the classes, and your own names with --labels FILE",
            )
        return names

    @property
    def _module(self) -> ResultModule | None:
        """The module that the result was made with, None where it does not say."""
        return None if self._metadata is None else find_result_module(self._file, self._metadata)

    def _explain_lack(self, module: ResultModule) -> LabelsError:
        """Return the error of a result whose class names are nowhere."""
        if module.is_on_disk(self._named):
            what = f"{self._file} was made with other class names than module {module.handle} has"
            return LabelsError(what, "give them with --labels FILE")
        return LabelsError(
            f"{self._file} was made with module {module.handle}, which has its class names and is "
            "not there any more, or has changed",
            "give them with --labels FILE, or name the module with --module where it is now",
        )

    def _rank(self, table: Table, names: tuple[ClassName, ...]) -> Table:
        output = self._metadata.output if self._metadata else None
        predictions = rank_table(table, names, output)
        self.failed += len(table.paths) - len(predictions.paths)
        return predictions

    def _check_labels(self, table: Table, names: Sequence[ClassName]) -> None:
        """Refuse a table without the first labels of every image, or with unknown classes."""
        ranks = list(range(1, min(TOP, len(names)) + 1))
        for path, predictions in zip(table.paths, table.predictions, strict=True):
            if [p.rank for p in predictions[:TOP]] != ranks:
                raise ResultError(
                    f"{self._file} lacks some of the first {len(ranks)} labels of "
                    f"{display_path(path)}",
                    _REMEDY,
                )
            if not all(_is_valid(p, len(names)) for p in predictions[:TOP]):
                raise ResultError(
                    f"{self._file} is damaged: it has no class and probability for a label of "
                    f"{display_path(path)}"
                )

    def _refuse(self) -> None:
        metadata, file = self._metadata, self._file
        output = (metadata and metadata.output) or "logits"
        if self._layout.wide:
            raise ResultError(
                f"{file} was made with --wide and has no class ids",
                "give one that was made without it, or logits",
            )
        if not self._layout.labels and output not in ("logits", "probabilities"):
            raise ResultError(f"{file} holds {output}, neither labels nor logits")
        if metadata and metadata.min_probability:
            raise ResultError(f"{file} lacks the first labels of some images", _REMEDY)


def _is_valid(label: Prediction, classes: int) -> bool:
    """Return whether a label from a file has a probability and one of so many classes."""
    numbers = isinstance(label.class_id, int) and isinstance(label.probability, int | float)
    return numbers and 0 <= label.class_id < classes and 0 <= label.probability <= 1


def rank_table(table: Table, names: tuple[ClassName, ...], output: str | None = None) -> Table:
    """Return the first five labels of each image by its scores.

    `output` is "probabilities" where the scores are probabilities; where it is None, they are
    recognised by their sum. Rows of NaN, which are those of images that failed, are left out.
    """
    values = table.values
    assert values is not None
    good = np.isfinite(values.max(axis=1))
    paths, values = tuple(itertools.compress(table.paths, good)), values[good]
    probabilities = output == "probabilities" or (output is None and are_probabilities(values))
    predictions = rank_classes(values, names, min(TOP, len(names)), are_probabilities=probabilities)
    warnings = tuple(itertools.compress(table.warnings, good))
    return Table(paths, ("",) * len(paths), predictions=tuple(predictions), warnings=warnings)
