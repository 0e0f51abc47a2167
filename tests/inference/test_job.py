"""A job's tables: the same for any number of threads and batches, in order, errors in place."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

from mnv1cli.inference.job import Job
from mnv1cli.system.threads import ordered_map
from mnv1cli.types import Loader, PixelSpec, Task
from tests.support.reading import KINDS, Endless, number_refs, read_alone, write_mixture
from tests.system.test_threads import threads, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mnv1cli.types import FloatArray, ImageRef

SPEC = PixelSpec(16)
OUTPUT = "pixels"


class Passing:
    """A model that gives its pixels, without a copy, and refuses too many calls at once."""

    engine, precision, device = "passing", "float32", ""
    calibrated: str | None = None
    recipe: str | None = None

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._room = threading.Semaphore(workers)

    def __call__(self, pixels: FloatArray) -> Mapping[str, FloatArray]:
        assert self._room.acquire(blocking=False)
        # Without the interpreter's lock, so that another thread would come in.
        np.sort(pixels, axis=None)
        self._room.release()
        return {OUTPUT: pixels}


def make_job(batch_size: int, cores: int, loader: Loader = "threads", workers: int = 4) -> Job:
    module: Any = None
    task = Task("embed", endpoint=OUTPUT, pool=False)
    shape = (SPEC.size, SPEC.size, 3)
    model = Passing(workers)
    return Job(module, model, SPEC, task, OUTPUT, shape, batch_size, cores, loader)


@pytest.fixture(scope="module")
def refs(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRef]:
    mixture = write_mixture(tmp_path_factory.mktemp("mixture"))
    return number_refs(mixture, itertools.islice(itertools.cycle(KINDS), 50))


@pytest.mark.parametrize("loader", get_args(Loader))
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(("cores", "batch_size"), [(1, 1), (1, 16), (3, 4), (5, 64)])
def test_each_image_has_its_own_result_in_its_place(
    refs: list[ImageRef], cores: int, batch_size: int, workers: int, loader: Loader
) -> None:
    tables = list(make_job(batch_size, cores, loader, workers).compute_tables(refs))
    images = [
        (path, error, row)
        for table in tables
        for path, error, row in zip(table.paths, table.errors, table.values, strict=True)  # type: ignore[arg-type]
    ]
    for (path, error, row), ref in zip(images, refs, strict=True):
        expected = read_alone(ref, SPEC)
        assert (path, error) == (expected.path, expected.reason)
        blank = np.full((SPEC.size, SPEC.size, 3), np.nan, np.float32)
        np.testing.assert_array_equal(row, blank if expected.pixels is None else expected.pixels)


def test_a_job_that_is_closed_early_ends_its_threads(refs: list[ImageRef]) -> None:
    before = threads()
    images = Endless(*refs[:3])
    tables: Any = make_job(4, 3).compute_tables(images)
    next(tables)
    tables.close()
    assert until(lambda: threads() <= before)
    assert images.taken < 200


def test_ctrl_c_while_a_batch_is_under_way_ends_the_threads(refs: list[ImageRef]) -> None:
    before = threads()
    tables: Any = make_job(4, 3).compute_tables(Endless(*refs[:3]))
    next(tables)
    with pytest.raises(KeyboardInterrupt):
        tables.throw(KeyboardInterrupt)
    assert until(lambda: threads() <= before)


def test_jobs_may_run_side_by_side(refs: list[ImageRef]) -> None:
    def run(cores: int) -> int:
        return sum(len(table.paths) for table in make_job(3, cores).compute_tables(refs))

    assert list(ordered_map(run, [1, 2, 3, 4], workers=4)) == [len(refs)] * 4
