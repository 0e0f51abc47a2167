"""What a task of a Ray cluster does: some images, from their files to a part of a dataset.

It runs in a process that Ray keeps from task to task: the model is made ready
once in each. TensorFlow is not imported here.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli._version import __version__
from mnv1cli.errors import ClusterError, Mnv1Error
from mnv1cli.images import file
from mnv1cli.path_text import display_path
from mnv1cli.results.dataset import layout, write_part
from mnv1cli.results.writers.arrow import ArrowRows
from mnv1cli.runs.tally import Tally
from mnv1cli.storage.folder import open_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.inference.job import Job
    from mnv1cli.storage.location import Location
    from mnv1cli.types import Fault, ImageRef

# The job that this process is at, by the name of its object.
_jobs: dict[str, Job] = {}


@dataclass(frozen=True, slots=True)
class Order:
    """What all tasks of a run have in common.

    `job` is Ray's reference to the job; `folder` is where relative paths begin;
    `node` is the one that the run was begun on, and `stores` tells which stores are meant.
    """

    job: Any
    place: Location
    run: str
    metadata: Mapping[bytes, bytes]
    folder: str
    node: str
    stores: Mapping[str, str]
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Share:
    """The images of one task, and the number of the part that it makes.

    `there` has one entry an image: whether the run's own node sees its file.
    """

    number: int
    refs: Sequence[ImageRef]
    there: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a share; without a `part` where no image could be got, or for a `problem`."""

    number: int
    part: str = ""
    done: int = 0
    unlabelled: int = 0
    faults: Sequence[Fault] = ()
    problem: Mnv1Error | None = None


def run(block: Any, order: Order) -> Any:
    """The outcome for each share in a block of Ray Data, both as pickles in a column."""
    import pyarrow

    arrow: Any = pyarrow
    outcomes = []
    for row in block.column("share"):
        share = pickle.loads(row.as_py())  # noqa: S301 - our own, as Ray's are
        outcomes.append(pickle.dumps(_outcome(share, order)))
    return arrow.table({"outcome": arrow.array(outcomes, arrow.binary())})


def _outcome(share: Share, order: Order) -> Outcome:
    try:
        if order.version != __version__:
            raise ClusterError(
                f"node {_node()[:12]} has mnv1cli {__version__}, and the run is of {order.version}",
                "install the same version there",
            )
        return _done(share, order)
    except Mnv1Error as error:
        return Outcome(share.number, problem=error)


def _done(share: Share, order: Order) -> Outcome:
    """Do a share as if it were where the run was begun."""
    # Relative paths mean the same here as where the run was begun.
    with contextlib.suppress(OSError):
        os.chdir(order.folder)
    # And URIs mean the same stores.
    os.environ.update(order.stores)
    return done(share, order, _job(order))


def done(share: Share, order: Order, job: Job) -> Outcome:
    """Run a job over the images of a share, and write their part.

    Raises:
        ClusterError: this node does not see the images.
        OutputError: the part cannot be written.
    """
    tally = Tally()
    rows = ArrowRows(layout(job.task, job.shape))
    batches = []
    reasons: list[str] = []
    for table in job.tables(share.refs):
        tally.add(table)
        reasons += table.errors
        # What could not be got has no row: the next run asks again.
        batches.append(rows.batch(table.without_unread()))
    _require_files(share, reasons, order)
    import pyarrow

    arrow: Any = pyarrow
    found = arrow.Table.from_batches(batches, rows.schema)
    told = found.replace_schema_metadata(order.metadata)
    part = ""
    if told.num_rows:
        part = write_part(open_folder(order.place), order.run, share.number, told)
    return Outcome(share.number, part, tally.done, tally.unlabelled, tuple(tally.faults))


def _require_files(share: Share, reasons: Sequence[str], order: Order) -> None:
    """Tell an image that is missing everywhere from a folder that this node does not see."""
    if _node() == order.node:
        return
    for ref, reason, there in zip(share.refs, reasons, share.there, strict=False):
        if there and reason == file.MISSING:
            raise ClusterError(
                f"{display_path(ref.path)} is not on node {_node()[:12]}",
                "all nodes must see the images: put them on a file system that they share, "
                "or into a store",
            )


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _job(order: Order) -> Job:
    name = order.job.hex()
    if name not in _jobs:
        import ray

        _jobs.clear()
        _jobs[name] = ray.get(order.job)
    return _jobs[name]
