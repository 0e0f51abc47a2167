"""A task of a Ray cluster: some images, from their files to a part of a dataset.

It runs in a process that Ray keeps from task to task: each process loads the model once.
TensorFlow is not imported here.
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
from mnv1cli.results.dataset import dataset_layout, write_part
from mnv1cli.results.writers.arrow import ArrowRows
from mnv1cli.runs import loop
from mnv1cli.runs.tally import Tally, list_faults
from mnv1cli.storage.folder import open_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mnv1cli.inference.job import Job
    from mnv1cli.storage.location import Location
    from mnv1cli.types import Fault, ImageRef, OnError, Table

# The job of this process, by the name of its Ray object.
_jobs: dict[str, Job] = {}


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a run, which all its tasks have in common.

    `job` is Ray's reference to the job; `metadata` are those of the schema of the parts;
    relative paths begin in `folder`; `node` is the one that the run was begun on, and
    `stores` are the environment variables that say which stores are meant.
    """

    job: Any
    location: Location
    run: str
    metadata: Mapping[bytes, bytes]
    folder: str
    node: str
    stores: Mapping[str, str]
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Share:
    """The images of one task, and the number of the part that it makes.

    `visible` has one entry an image: whether the node that the run was begun on sees its file.
    """

    number: int
    refs: Sequence[ImageRef]
    visible: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a share; `damaged` are the images that were accepted with a warning.

    There is no `part` where no image could be read from its store, or for a `problem`.
    """

    number: int
    part: str = ""
    done: int = 0
    unlabelled: int = 0
    faults: Sequence[Fault] = ()
    damaged: Sequence[Fault] = ()
    problem: Mnv1Error | None = None


class PartSink:
    """A part of a dataset as the output of a run over the images of a share.

    `part` is its name once it is written; it stays empty where there are no rows. `damaged` are
    the images that were accepted with a warning.
    """

    def __init__(self, share: Share, order: Order) -> None:
        self.part = ""
        self.damaged: list[Fault] = []
        self._share = share
        self._order = order
        self._batches: list[Any] = []
        self._reasons: list[str] = []

    @property
    def name(self) -> str:
        """The name of the dataset in messages."""
        return str(self._order.location)

    @property
    def on_error(self) -> OnError:
        """The option --on-error: what to do with images that fail: they have rows."""
        return "row"

    def select(
        self,
        job: Job,  # noqa: ARG002 - as other sinks
        images: Iterable[ImageRef],
        tally: Tally,  # noqa: ARG002
    ) -> Iterator[ImageRef]:
        """Return all images: those that have rows are not in the share."""
        return iter(images)

    def begin(self, job: Job) -> None:
        """Prepare the columns of the part."""
        self._rows = ArrowRows(dataset_layout(job.task, job.shape, job.spec.accepts_damaged))

    def write(self, table: Table, tally: Tally) -> Sequence[Fault]:
        """Count a table, keep its rows, and return the images that failed."""
        faults = tally.add(table)
        self._reasons += table.errors
        self.damaged += list_faults(table.paths, table.get_warnings())
        # What could not be read from a store has no row: the next run tries again.
        self._batches.append(self._rows.batch(table.without_unread()))
        return faults

    def commit(self, tally: Tally) -> None:
        """Note nothing: the part exists completely or not at all."""

    def finish(self, job: Job, tally: Tally) -> None:  # noqa: ARG002
        """Write the part.

        Raises:
            ClusterError: this node does not see the images.
            OutputError: the part cannot be written.
        """
        import pyarrow

        self._require_files()
        arrow: Any = pyarrow
        table = arrow.Table.from_batches(self._batches, self._rows.schema)
        if table.num_rows:
            order = self._order
            table = table.replace_schema_metadata(order.metadata)
            self.part = write_part(
                open_folder(order.location), order.run, self._share.number, table
            )

    def abandon(self, tally: Tally, error: BaseException) -> None:
        """Leave nothing: the task is done again."""

    def _require_files(self) -> None:
        """Tell an image that is missing everywhere from a folder that this node does not see."""
        share = self._share
        if _node() == self._order.node:
            return
        for ref, reason, visible in zip(share.refs, self._reasons, share.visible, strict=False):
            if visible and reason == file.MISSING:
                raise ClusterError(
                    f"{display_path(ref.path)} is not on node {_node()[:12]}",
                    "all nodes must see the images: put them on a file system that they share, "
                    "or into a store",
                )


def run(block: Any, order: Order) -> Any:
    """Do each share in a block of Ray Data; both shares and outcomes are pickles in a column."""
    import pyarrow

    arrow: Any = pyarrow
    outcomes = []
    for row in block.column("share"):
        share = pickle.loads(row.as_py())  # noqa: S301 - our own, as Ray's are
        outcomes.append(pickle.dumps(_try_share(share, order)))
    return arrow.table({"outcome": arrow.array(outcomes, arrow.binary())})


def _try_share(share: Share, order: Order) -> Outcome:
    try:
        if order.version != __version__:
            raise ClusterError(
                f"node {_node()[:12]} has mnv1cli {__version__}, and the run is of {order.version}",
                "install the same version there",
            )
        # Relative paths mean the same here as where the run was begun.
        with contextlib.suppress(OSError):
            os.chdir(order.folder)
        # And URIs mean the same stores.
        os.environ.update(order.stores)
        return do_share(share, order, _get_job(order))
    except Mnv1Error as error:
        return Outcome(share.number, problem=error)


def do_share(share: Share, order: Order, job: Job) -> Outcome:
    """Run a job over the images of a share, and write their part.

    Raises:
        ClusterError: this node does not see the images.
        OutputError: the part cannot be written.
    """
    sink, tally = PartSink(share, order), Tally()
    loop.run(job, share.refs, sink, tally)
    faults, damaged = tuple(tally.faults), tuple(sink.damaged)
    return Outcome(share.number, sink.part, tally.done, tally.unlabelled, faults, damaged)


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _get_job(order: Order) -> Job:
    name = order.job.hex()
    if name not in _jobs:
        import ray

        _jobs.clear()
        _jobs[name] = ray.get(order.job)
    return _jobs[name]
