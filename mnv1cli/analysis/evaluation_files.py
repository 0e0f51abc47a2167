"""The CSV files of an evaluation: one row per class, pair of classes, or mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli.path_text import decode_path
from mnv1cli.results.files import ResultFiles
from mnv1cli.results.protection import refuse_to_replace
from mnv1cli.results.writers.delimited import FLOAT_FORMAT, encode_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mnv1cli.analysis.evaluation import Evaluation

_PER_CLASS = ("class_id", "wnid", "label", "n", "top1", "top5")
_CONFUSION = ("truth_id", "truth", "predicted_id", "predicted", "count")
_MISTAKES = ("path", "truth", "predicted", "probability")


class EvaluationFiles:
    """The files that an evaluation is written to, checked before any work.

    `per_class`, `confusion` and `mistakes` are written where they are not None. None of them
    may be one of the files `read`.

    Raises:
        OptionError: two of the files are one, or one of them is read.
        OutputError: one of them exists and `force` is false, or it cannot be written.
    """

    def __init__(
        self,
        per_class: Path | None = None,
        confusion: Path | None = None,
        mistakes: Path | None = None,
        read: Sequence[Path | None] = (),
        force: bool = False,
    ) -> None:
        self._per_class, self._confusion, self._mistakes = per_class, confusion, mistakes
        files = (per_class, confusion, mistakes)
        self._outputs = ResultFiles(None, None, other_files=files, force=force)
        refuse_to_replace(self._outputs.paths, read)

    def write(self, evaluation: Evaluation) -> None:
        """Write the files; all of them get their names at the end, or none.

        Raises:
            OSError: a file cannot be written.
        """
        try:
            self._write_per_class(evaluation)
            self._write_confusion(evaluation)
            self._write_mistakes(evaluation)
            self._outputs.commit()
        except BaseException:
            self._outputs.abandon(keep=False)
            raise

    def _write_per_class(self, evaluation: Evaluation) -> None:
        rows = (
            (s.name.class_id, s.name.wnid, s.name.label, s.n, s.top1 / s.n, s.top5 / s.n)
            for s in evaluation.per_class()
        )
        self._write(self._per_class, _PER_CLASS, rows)

    def _write_confusion(self, evaluation: Evaluation) -> None:
        rows = (
            (truth.class_id, truth.label, predicted.class_id, predicted.label, count)
            for truth, predicted, count in evaluation.confusion()
        )
        self._write(self._confusion, _CONFUSION, rows)

    def _write_mistakes(self, evaluation: Evaluation) -> None:
        rows = (
            (decode_path(m.path), m.truth, m.predicted, FLOAT_FORMAT % m.probability)
            for m in evaluation.mistakes()
        )
        self._write(self._mistakes, _MISTAKES, rows)

    def _write(
        self, file: Path | None, header: Iterable[str], rows: Iterable[Iterable[Any]]
    ) -> None:
        if file is not None:
            self._outputs.open(file).write(encode_rows([header, *rows]))
