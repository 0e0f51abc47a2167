"""The images of a report: their order, and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.report.gallery import LabelGallery
from mnv1cli.types import Layout, Table
from tests.support.report_pages import (
    ESPRESSO,
    METADATA,
    TABBY,
    ParsedPage,
    make_page,
    make_prediction,
    write_labels_csv,
    write_matches_csv,
    write_result,
)
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path


def test_one_image_more_than_a_page_holds(tmp_path: Path) -> None:
    file = write_labels_csv(tmp_path / "x.csv", [f"{i:04}.jpg" for i in range(2001)])
    result = mnv1("report", file, "-o", tmp_path / "x.html")
    note = (
        "2,001 images, of which the page has 2,000, in the order of --sort results: "
        "1 image is left out (--limit)"
    )
    assert result.stderr.splitlines()[0] == f"mnv1: warning: {note}"
    page = ParsedPage((tmp_path / "x.html").read_bytes())
    assert note in page.text
    assert len(page.entries()) == 2000
    assert page.entries()[-1]["name"] == "1999.jpg"
    assert (tmp_path / "x.html").stat().st_size < 4_000_000


@pytest.mark.parametrize(
    ("sort", "wanted"),
    [
        ("results", [0, 1, 2]),
        ("certain", [5, 4, 3]),
        ("uncertain", [0, 1, 2]),
        ("label", [5, 2, 4]),
        ("name", [5, 4, 3]),
    ],
)
def test_first_of_an_order(tmp_path: Path, sort: Any, wanted: list[int]) -> None:
    predictions = [
        (make_prediction(1, ESPRESSO if i % 3 == 2 else TABBY, 0.5 + i / 20), ) for i in range(6)
    ]  # fmt: skip
    table = Table(tuple(f"{9 - i}.jpg".encode() for i in range(6)), ("",) * 6,
                  predictions=tuple(predictions))  # fmt: skip
    write_result(tmp_path / "x.csv", table, Layout((1,), labels=True), METADATA)
    gallery = LabelGallery(tmp_path / "x.csv")
    assert [card.index for card in gallery.select(sort, 3)] == wanted
    assert gallery.total == 6


def test_query_that_comes_twice_is_two_entries(tmp_path: Path) -> None:
    file = write_matches_csv(tmp_path / "x.csv", ["a.jpg", "a.jpg", "b.jpg"], ["a.jpg", "b.jpg"])
    assert [entry["name"] for entry in make_page(file).entries()] == [
        "a.jpg\na.jpg\nb.jpg", "a.jpg\na.jpg\nb.jpg", "b.jpg\na.jpg\nb.jpg",
    ]  # fmt: skip


def test_limit_counts_all_pictures_of_similarities(tmp_path: Path) -> None:
    paths = [f"{i}.jpg" for i in range(9)]
    file = write_matches_csv(tmp_path / "x.csv", paths[:3], paths)
    page = make_page(file, "--limit", 12)
    assert len(page.entries()) == 2
    assert "3 queries, of which the page has 2" in page.text
    page = make_page(file, "--limit", 3)
    assert len(page.entries()) == 1
    assert "of the one shown 2 images are left out" in page.text
