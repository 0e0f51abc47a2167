"""What a task does, in this process: its part of the dataset, and what it refuses."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.cluster import task
from mnv1cli.cluster.task import Order, Outcome, Share
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.settings import Settings
from mnv1cli.results.dataset import Dataset, dataset_layout
from mnv1cli.results.readers import open_result
from mnv1cli.storage.location import Location
from mnv1cli.types import ImageRef, Task
from tests.conftest import ROOT

if TYPE_CHECKING:
    from mnv1cli.inference.job import Job

pytest.importorskip("ray")
PHOTOS = sorted(str(path).encode() for path in (ROOT / "examples" / "photos").iterdir())
HERE, ELSEWHERE = "a" * 56, "b" * 56


class Reference:
    """What Ray gives for an object, as far as a task asks for it."""

    def hex(self) -> str:
        return "01"


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """The order of a run that was begun on the node HERE; tasks run on HERE, too."""
    job: Job = Predictor("bundled", Settings(threads=1)).make_job(Task("classify", top=2))
    place = Location(f"{tmp_path}/out/")
    dataset = Dataset(place)
    dataset.begin()
    schema = dataset.make_schema(dataset_layout(job.task, job.shape), job.metadata())
    monkeypatch.setattr(task, "_jobs", {"01": pickle.loads(pickle.dumps(job))})
    monkeypatch.setattr(task, "_node", lambda: HERE)
    monkeypatch.chdir("/")
    return Order(Reference(), place, dataset.run, schema.metadata, str(tmp_path), HERE, {})


def done(share: Share, order: Order) -> Outcome:
    """A share's outcome, by the way it takes in a cluster."""
    import pyarrow

    arrow: Any = pyarrow
    block = arrow.table({"share": arrow.array([pickle.dumps(share)], arrow.binary())})
    (row,) = task.run(block, order).column("outcome")
    found: Outcome = pickle.loads(row.as_py())
    return found


def refs(*paths: bytes) -> list[ImageRef]:
    return [ImageRef(i, path) for i, path in enumerate(paths)]


def test_a_share_becomes_a_part_once_however_often_it_is_done(order: Order) -> None:
    share = Share(7, refs(*PHOTOS, b"missing.jpg"))
    first, second = done(share, order), done(share, order)
    assert first == second
    assert (first.number, first.done, first.problem) == (7, len(PHOTOS), None)
    assert [(fault.path, fault.reason) for fault in first.faults] == [
        (b"missing.jpg", "no such file")
    ]
    assert list(open_result(order.location).paths()) == [*PHOTOS, b"missing.jpg"]


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_share_of_which_nothing_could_be_got_makes_no_part(order: Order, command: str) -> None:
    job = Predictor("bundled", Settings(threads=1)).make_job(Task(command))  # type: ignore[arg-type]
    away = ImageRef(0, b"a.jpg", problem="cannot be read: no answer in time")
    outcome = task.do_share(Share(0, [away]), order, job)
    assert (outcome.part, outcome.done, len(outcome.faults)) == ("", 0, 1)
    assert not Dataset(order.location).list_parts()


def test_relative_paths_begin_where_the_run_was_begun(order: Order, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").symlink_to(Path(PHOTOS[0].decode()))
    assert done(Share(0, refs(b"photo.jpg")), order).done == 1


def test_a_node_that_does_not_see_the_images_is_named(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "_node", lambda: ELSEWHERE)
    missing = refs(PHOTOS[0], b"there.jpg")
    problem = done(Share(0, missing, [True, True]), order).problem
    assert "there.jpg is not on node bbbbbbbbbbbb" in str(problem)
    assert not Dataset(order.location).list_parts()
    # Missing where the run was begun, too: a fault like any other.
    outcome = done(Share(0, missing, [True, False]), order)
    assert (outcome.problem, len(outcome.faults)) == (None, 1)


def test_a_node_with_another_version_is_named(order: Order) -> None:
    older = replace(order, version="0.0.1")
    problem = done(Share(0, refs(PHOTOS[0])), older).problem
    assert "install the same version" in str(problem)


def test_a_task_loads_no_tensorflow() -> None:
    import subprocess
    import sys

    code = (
        "import os, sys, pickle\n"
        "from mnv1cli.cluster import task as raytask\n"
        "job = pickle.load(sys.stdin.buffer)\n"
        "from mnv1cli.types import ImageRef\n"
        "refs = [ImageRef(0, os.fsencode(name)) for name in sys.argv[1:]]\n"
        "assert len(list(job.compute_tables(refs)))\n"
        "assert 'tensorflow' not in sys.modules"
    )
    job = pickle.dumps(Predictor("bundled", Settings(threads=1)).make_job(Task("classify")))
    words: list[Any] = [sys.executable, "-c", code, *PHOTOS]
    subprocess.run(words, input=job, check=True, cwd=ROOT)
