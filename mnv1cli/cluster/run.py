"""A run into a dataset on a Ray cluster: Ray Data spreads the images over its cores.

The images are sent in shares. Each share becomes a part, completely or not at all. A task
that is lost with its node is done again elsewhere, and writes the same part.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import os
import pickle
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mnv1cli.cluster import ray_cluster as clusters
from mnv1cli.cluster import task
from mnv1cli.cluster.task import Order, Outcome, Share
from mnv1cli.cluster.windows import windows
from mnv1cli.errors import ClusterError, OptionError, OutputError
from mnv1cli.inference.litert_model import LiteRTModel
from mnv1cli.inference.openvino_model import OpenVINOModel
from mnv1cli.path_text import display_path
from mnv1cli.results.dataset import dataset_layout
from mnv1cli.storage import stores
from mnv1cli.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from mnv1cli.cluster.ray_cluster import Cluster
    from mnv1cli.inference.job import Job
    from mnv1cli.results.dataset import Dataset
    from mnv1cli.runs.dataset_sink import DatasetSink
    from mnv1cli.runs.tally import Tally
    from mnv1cli.types import ImageRef, OnError

log = logging.getLogger(__name__)

# Images of a part: a core does so many in some seconds, which a lost task costs.
SHARE = 2_000
# Shares for each core in a window, so that all cores end at about the same time.
_SHARES_A_CORE = 4
# Images that are listed ahead, unless the cores could not be kept busy with so few.
_MOST = 200_000
# Ray would try for ever, even a task that ends its process each time.
_RETRIES = 5


def run_on_ray(
    job: Job,
    images: Iterable[ImageRef],
    sink: DatasetSink,
    tally: Tally,
    address: str | None = None,
    threads: int | None = None,
) -> None:
    """Run a job on a Ray cluster over the images that a dataset lacks.

    At most `threads` cores of the cluster at `address`, or of this machine, are used.

    Raises:
        OptionError: Ray is not installed, or the job cannot be sent elsewhere.
        ClusterError: the cluster cannot be reached, is too small, or fails.
        OutputError: the dataset cannot be written.
        ResultError: it was made with other settings.
    """
    check(job, sink.on_error)
    with contextlib.closing(tally):
        selected = sink.select(job, images, tally)
        if selected is None:
            return
        first = next(selected)
        # Before a cluster is started for it.
        _pickle(Share(0, [first]))
        try:
            with clusters.connected(address, threads) as cluster:
                run = _Run(cluster, job, sink.dataset, tally, threads)
                # Only now: rows that are to be replaced stay where nothing can make new ones.
                sink.begin(job)
                run.do(itertools.chain([first], selected))
            sink.finish(job, tally)
        except BaseException:
            if tally.done or tally.failed:
                sink.report_kept(tally.images)
            raise


def check(job: Job, on_error: OnError) -> None:
    """Require, before any work, that a job can be done on a cluster.

    Raises:
        OptionError: it cannot, or Ray is not installed.
    """
    clusters.require()
    if not isinstance(job.model, LiteRTModel | OpenVINOModel):
        raise OptionError(
            "--runner ray has only the engines litert and openvino", "--runner local has all"
        )
    if on_error == "fail":
        raise OptionError(
            "--on-error fail cannot be used with --runner ray: many images are processed at a time",
            "faults are rows with a reason there",
        )


class _Run:
    """A run on a cluster: the images in windows, a window in shares, a share in a task."""

    def __init__(
        self, cluster: Cluster, job: Job, dataset: Dataset, tally: Tally, threads: int | None
    ) -> None:
        self._cluster = cluster
        self._dataset = dataset
        self._tally = tally
        self._threads = threads
        self._numbers = itertools.count()
        model = job.model
        assert isinstance(model, LiteRTModel | OpenVINOModel)
        sent = replace(job, threads=1, model=model.for_workers(1))
        layout = dataset_layout(job.task, job.shape, job.spec.accepts_damaged)
        schema = dataset.make_schema(layout, job.metadata())
        location = dataset.location
        if not location.is_remote:
            location = Location(os.path.abspath(location.text) + os.sep)
        self._order = Order(
            cluster.put(sent),
            location,
            dataset.run,
            schema.metadata,
            os.getcwd(),
            cluster.own_node,
            stores.get_store_environment(),
        )

    def do(self, refs: Iterable[ImageRef]) -> None:
        """Do all images, window by window."""
        enough = self._cores() * _SHARES_A_CORE * SHARE
        with contextlib.closing(windows(refs, enough, max(enough, _MOST))) as listed:
            for window in listed:
                shares = self._make_shares(window)
                # To be closed here, or Ray goes on with it after the cluster is gone.
                with contextlib.closing(self._outcomes(shares)) as outcomes:
                    parts = [self._count(outcome) for outcome in outcomes]
                self._require_parts(parts, shares)

    def _cores(self) -> int:
        cores = max(self._cluster.cores, 1)
        return min(cores, self._threads) if self._threads else cores

    def _make_shares(self, window: Sequence[ImageRef]) -> list[Share]:
        size = min(SHARE, -(-len(window) // (self._cores() * _SHARES_A_CORE)))
        has_others = self._cluster.nodes > 1
        shares = []
        for start in range(0, len(window), size):
            refs = window[start : start + size]
            visible = [os.path.lexists(ref.path) for ref in refs] if has_others else []
            shares.append(Share(next(self._numbers), refs, visible))
        return shares

    def _outcomes(self, shares: Sequence[Share]) -> Generator[Outcome, None, None]:
        """Yield the outcome of each share as soon as it is done."""
        rows = [{"share": _pickle(share)} for share in shares]
        data = self._cluster.data
        context = data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        with data.DataContext.current(context):
            items = data.from_items(rows, override_num_blocks=len(rows))
            outcomes = items.map_batches(
                partial(task.run, order=self._order),
                batch_size=None,
                batch_format="pyarrow",
                compute=data.TaskPoolStrategy(self._threads),
                num_cpus=1,
                **_retries(items.map_batches),
            )
            reading = outcomes.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            )
            with self._cluster.failures(), contextlib.closing(iter(reading)) as batches:
                for batch in batches:
                    for outcome in batch.column("outcome"):
                        yield pickle.loads(outcome.as_py())  # noqa: S301 - our own

    def _count(self, outcome: Outcome) -> str:
        """Count the images of a share, and return the name of its part."""
        if outcome.problem is not None:
            raise outcome.problem
        self._tally.join(outcome.done, outcome.unlabelled, outcome.faults, outcome.damaged)
        return outcome.part

    def _require_parts(self, parts: Sequence[str], shares: Sequence[Share]) -> None:
        """Require that each share has become a part, which this process sees."""
        lacking = set(filter(None, parts)) - set(self._dataset.list_parts())
        if lacking:
            raise OutputError(
                f"{min(lacking)} was written on another node, and is not in {self._dataset.name}",
                "all nodes must see the dataset: put it on a file system that they share, "
                "or into a store",
            )
        if len(parts) != len(shares):
            raise ClusterError(f"{self._cluster.name} has lost tasks", "the same command goes on")


def _retries(map_batches: Callable[..., Any]) -> dict[str, Any]:
    """Return the argument that limits how often a task is tried, where Ray Data has it."""
    name = "ray_remote_args_fn"
    if name not in inspect.signature(map_batches).parameters:
        return {}
    return {name: lambda: {"max_retries": _RETRIES}}


def _pickle(share: Share) -> bytes:
    try:
        return pickle.dumps(share)
    except (TypeError, AttributeError, pickle.PicklingError):
        path = next((ref.path for ref in share.refs if ref.member is not None), b"")
        raise OptionError(
            f"{display_path(path)} is in an archive, which --runner ray does not read",
            "unpack it, or use --runner local",
        ) from None
