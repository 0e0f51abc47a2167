"""The choice of a format: by option, by suffix, or by what stdout is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnv1cli.errors import OptionError
from mnv1cli.results.formats import choose_format, choose_rows_format
from mnv1cli.types import Task

CLASSIFY, LOGITS, EMBED = Task("classify"), Task("logits"), Task("embed")
SPATIAL = Task("embed", endpoint="Conv2d_5_pointwise", pool=False)


class TestChoice:
    @pytest.mark.parametrize(
        ("name", "file", "task", "terminal", "chosen"),
        [
            (None, None, CLASSIFY, True, "table"),
            (None, None, CLASSIFY, False, "csv"),
            (None, None, LOGITS, True, "csv"),
            (None, None, EMBED, False, "csv"),
            (None, "x.csv", CLASSIFY, True, "csv"),
            (None, "x.CSV", LOGITS, False, "csv"),
            (None, "x.tsv", CLASSIFY, False, "tsv"),
            (None, "x.jsonl", CLASSIFY, False, "jsonl"),
            (None, "x.ndjson", EMBED, False, "jsonl"),
            (None, "x.tar.npy", EMBED, False, "npy"),
            (None, "x.npy", SPATIAL, False, "npy"),
            ("jsonl", None, CLASSIFY, True, "jsonl"),
            ("tsv", "x.csv", LOGITS, False, "tsv"),
            ("table", "x.txt", CLASSIFY, False, "table"),
            ("npy", "x", LOGITS, False, "npy"),
        ],
    )
    def test_follows_name_then_suffix_then_stdout(
        self, name: str | None, file: str | None, task: Task, terminal: bool, chosen: str
    ) -> None:
        path = Path(file) if file else None
        assert choose_format(name, path, task, terminal).name == chosen

    @pytest.mark.parametrize(
        ("name", "file", "task", "reason"),
        [
            (None, "x.xls", CLASSIFY, "x.xls tells no format.*csv.*jsonl.*-f"),
            (None, "x", EMBED, "tells no format"),
            (None, ".csv", EMBED, "tells no format"),
            ("npy", "x.npy", CLASSIFY, "holds numbers, and classify gives labels.*csv"),
            (None, "x.npy", CLASSIFY, "holds numbers"),
            ("npy", None, CLASSIFY, "holds numbers"),
            ("table", None, LOGITS, "for labels.*csv"),
            ("table", None, EMBED, "for labels"),
            ("npy", None, LOGITS, "needs a file.*-o"),
            ("npy", None, SPATIAL, "needs a file"),
            (None, None, SPATIAL, "--no-pool.*npy"),
            ("csv", "x.npy", SPATIAL, "--no-pool"),
            (None, "x.jsonl", SPATIAL, "--no-pool"),
        ],
    )
    def test_refuses_what_does_not_fit(
        self, name: str | None, file: str | None, task: Task, reason: str
    ) -> None:
        with pytest.raises(OptionError, match=reason) as caught:
            choose_format(name, Path(file) if file else None, task, True)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "file", "terminal", "form"),
    [
        (None, None, False, "csv"),
        (None, None, True, "table"),
        ("jsonl", None, True, "jsonl"),
        (None, "x.tsv", True, "tsv"),
        (None, "x.CSV", False, "csv"),
        (None, "x.ndjson", False, "jsonl"),
        (None, "x.pq", False, "parquet"),
        ("csv", "x.npy", False, "csv"),
    ],
)
def test_format_of_rows_follows_name_then_suffix_then_stdout(
    name: str | None, file: str | None, terminal: bool, form: str
) -> None:
    assert choose_rows_format(name, Path(file) if file else None, terminal).name == form


@pytest.mark.parametrize(
    ("name", "file", "reason"),
    [
        (None, "x.npy", "npy holds no rows of names"),
        (None, "x", "the name x tells no format"),
        ("parquet", None, "parquet needs a file"),
    ],
)
def test_format_without_rows_is_refused(name: str | None, file: str | None, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        choose_rows_format(name, Path(file) if file else None, False)
