"""A run into a dataset, on this machine or on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnv1cli.runs import loop
from mnv1cli.runs.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.runs.dataset_sink import DatasetSink
    from mnv1cli.types import ImageRef, Runner, Task


def fill_dataset(
    predictor: Predictor,
    task: Task,
    images: Iterable[ImageRef],
    sink: DatasetSink,
    runner: Runner = "local",
    address: str | None = None,
    progress: TextIO | None = None,
) -> Tally:
    """Add the rows of the images that a dataset lacks, and count them.

    The runner "ray" uses the cluster that the process is connected to, else the one at
    `address`, else the cores of this machine. A bar on the stream `progress` shows how many
    images are done.

    Raises:
        OptionError: Ray is not installed, or the job cannot be sent to a cluster.
        ClusterError: the cluster cannot be reached, is too small, or fails.
        OutputError: the dataset cannot be written.
        ResultError: it was made with other settings.
    """
    job = predictor.make_job(task)
    tally = Tally(progress)
    if runner == "ray":
        from mnv1cli.cluster.run import run_on_ray

        run_on_ray(job, images, sink, tally, address, predictor.settings.threads)
    else:
        loop.run(job, images, sink, tally)
    sink.write_files_beside(tally.complete(job.metadata()))
    return tally
