"""Runs into datasets: in this process, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

from mnv1cli.cli import console
from mnv1cli.errors import OptionError
from mnv1cli.path_text import display_path
from mnv1cli.results.formats import FORMATS, find_format
from mnv1cli.storage.location import Location

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.cli.image_options import Reading
    from mnv1cli.inputs.listing import Listing
    from mnv1cli.runs.options import OutputOptions
    from mnv1cli.types import Runner, Task


def spread_place(named: Location | None) -> Location:
    """The dataset that a cluster writes, whether its name says that it is one or not.

    Raises:
        OptionError: it is none, or Ray is not installed.
    """
    from mnv1cli.cluster import ray_cluster

    ray_cluster.require()
    if named is None or named.is_stdout:
        raise OptionError("--runner ray writes a dataset", "name its folder with -o")
    if named.is_folder:
        return named
    # Whoever knows Spark may call a folder labels.parquet.
    of_file = find_format(named.suffix) not in (None, FORMATS["parquet"])
    if of_file or (not named.is_remote and named.path.exists()):
        raise OptionError(
            f"--runner ray writes a dataset, and {named} is a file", f"name a folder: {named}/"
        )
    return Location(f"{named}/")


@dataclasses.dataclass(frozen=True)
class DatasetRun:
    """A run into a dataset: which images, and on what."""

    reading: Reading
    place: Location
    options: OutputOptions
    runner: Runner
    ray_address: str | None

    def start(
        self, task: Task, listing: Listing, labels: Path | None, progress: TextIO | None
    ) -> NoReturn:
        """Put the rows of the images that the dataset lacks into it; ends with the exit code."""
        from mnv1cli.runs.dataset_output import Depot

        depot = Depot(self.place, task, self.options)
        listing.require_images()
        classifier = self.reading.classifier(labels, progress, depot.engine_left())
        # Ray prints what becomes of its processes to stdout, which no setting of its own stops.
        with contextlib.redirect_stdout(sys.stderr):
            tally = classifier.fill(listing, depot, task, self.runner, self.ray_address, progress)
        for folder in listing.empty:
            console.log.warning("no images in %s", display_path(folder))
        if depot.passed and not tally.done and not tally.failed:
            console.log.info("%s is complete: nothing is left to do", self.place)
        else:
            note = depot.note() + listing.skipped_note()
            console.log.info("%s%s, in %s", tally.summary(), note, self.place)
        raise SystemExit(tally.exit_code)
