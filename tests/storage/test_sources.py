"""Single results in stores: every command that reads results reads them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support.objectstore import ObjectStore, object_store
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["object_store"]

PHOTOS = str(ROOT / "examples" / "photos")
BUNDLED = ("--module", "bundled")


@pytest.fixture(scope="module")
def results(object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results, which are in the bucket `results` as well."""
    folder = tmp_path_factory.mktemp("results")
    object_store.bucket("results")
    for command, name in (
        ("classify", "a.csv"), ("classify", "b.jsonl"), ("embed", "c.npy"), ("embed", "d.parquet"),
    ):  # fmt: skip
        assert mnv1(command, PHOTOS, *BUNDLED, "-o", folder / name).exit_code == 0
    (folder / "x.jpg").write_bytes((ROOT / "examples" / "photos" / "coffee.jpg").read_bytes())
    assert mnv1("classify", folder / "x.jpg", *BUNDLED, "-o", folder / "e.csv").exit_code == 0
    (folder / "truth.csv").write_text(f"path,label\n{PHOTOS}/coffee.jpg,espresso\n")
    object_store.put("results", {path.name: path for path in folder.iterdir()})
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "--from", "{}/a.csv", "--truth", "{here}/truth.csv", "--json"),
        ("evaluate", "--from", "{}/b.jsonl", "--truth", "{here}/truth.csv", "--json"),
        ("similar", "{}/c.npy", "--all-pairs", "--threshold", "0"),
        ("similar", "{}/d.parquet", "--from", "{}/c.npy", "--top", "1"),
        ("classify", PHOTOS, *BUNDLED, "-f", "csv", "--skip-existing", "{}/a.csv"),
    ],
)
def test_rows_are_those_of_the_results_on_disk(results: Path, words: tuple[str, ...]) -> None:
    outputs = []
    for root in (str(results), "s3://results"):
        run = mnv1(*(word.format(root, here=results) for word in words))
        assert run.exit_code == 0, run.stderr
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1] != ""


def test_merge_and_report_take_results_in_stores(results: Path, tmp_path: Path) -> None:
    merged = mnv1("merge", "s3://results/a.csv", "s3://results/e.csv", "-o", tmp_path / "m.csv")
    assert merged.exit_code == 0, merged.stderr
    page = mnv1("report", "s3://results/a.csv", "-o", tmp_path / "a.html")
    assert page.exit_code == 0, page.stderr
    assert "3 images" in page.stderr


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("similar", "s3://results/none.npy", "--all-pairs"), 2, "no such file: s3://results/none"),
        (("similar", "s3://no-bucket/a.npy", "--all-pairs"), 2, "no such file: s3://no-bucket/a"),
        (("merge", "s3://results/set/", "-o", "m.csv"), 2, "which merge does not read"),
        (("classify", PHOTOS, "-o", "s3://results/a.csv", "--skip-existing", "s3://results/a.csv"),
         2, "--skip-existing cannot be used with s3://results/a.csv"),
        (("classify", PHOTOS, "--append", "--skip-existing", "s3://results/a.csv"),
         2, "--append cannot be used with s3://results/a.csv"),
    ],
)  # fmt: skip
def test_what_does_not_work_is_an_error_of_one_line(
    results: Path, words: tuple[str, ...], code: int, what: str
) -> None:
    run = mnv1(*words)
    assert (run.exit_code, run.stderr.count("\n")) == (code, 1), run.stderr
    assert what in run.stderr
