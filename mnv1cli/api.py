"""What a Python user holds: a `Classifier`. The commands are thin over it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mnv1cli.errors import OptionError
from mnv1cli.inference.predictor import Predictor, check
from mnv1cli.inputs import from_python
from mnv1cli.inputs.listing import Listing
from mnv1cli.runs import loop
from mnv1cli.runs.dataset_sink import DatasetSink
from mnv1cli.runs.options import OutputOptions
from mnv1cli.runs.tally import Tally
from mnv1cli.storage.location import Location, source
from mnv1cli.training.options import FinetuneOptions
from mnv1cli.types import Classified, OnError, Runner, Task, Vector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from mnv1cli.analysis.evaluate import Evaluation
    from mnv1cli.analysis.search_index import Match
    from mnv1cli.analysis.truth import Resolved, Truth
    from mnv1cli.inference.job import Job
    from mnv1cli.inference.quantize import Price
    from mnv1cli.inputs.from_python import Sources
    from mnv1cli.runs.file_sink import FileSink
    from mnv1cli.training.finetune import FinetuneResult
    from mnv1cli.types import FloatArray


class Classifier(Predictor):
    """A module with its settings, loaded once and used many times.

    Images are paths, folders (walked as on the command line), PIL images or
    uint8 arrays [h, w], [h, w, 3] or [h, w, 4]; one of them or an iterable of
    them. `on_error` is "fail" (raise `ImageError`), "skip", or "row" (keep its
    place, with an `error`).

    `Predictor` tells of the settings that it is made with.
    """

    def classify(
        self,
        images: Sources,
        top: int = 5,
        on_error: OnError = "fail",
        min_probability: float = 0.0,
    ) -> list[Classified]:
        """The `top` labels of every image that are at least so probable."""
        return list(self.iter_classify(images, top, on_error, min_probability))

    def logits(
        self, images: Sources, probabilities: bool = False, on_error: OnError = "fail"
    ) -> FloatArray:
        """The scores of every image, float32 [n, classes]; NaN rows with on_error="row"."""
        job = self.job(Task("logits", probabilities=probabilities))
        return self._stacked(job, images, on_error)

    def embed(
        self,
        images: Sources,
        endpoint: str = "",
        pool: bool = True,
        on_error: OnError = "fail",
    ) -> FloatArray:
        """The feature vector of every image, float32 [n, features].

        `endpoint` names another layer; it is averaged over height and width
        unless `pool` is false, which gives [n, h, w, c].
        """
        job = self.job(Task("embed", endpoint=endpoint, pool=pool))
        return self._stacked(job, images, on_error)

    def iter_classify(
        self,
        images: Sources,
        top: int = 5,
        on_error: OnError = "fail",
        min_probability: float = 0.0,
    ) -> Iterator[Classified]:
        """As `classify`, one image after the other, in flat memory."""
        if top < 1 or not 0 <= min_probability <= 1:
            raise OptionError(f"top={top} and min_probability={min_probability} make no sense")
        task = Task("classify", top=top, min_probability=min_probability)
        for table in self._tables(self.job(task), images, on_error):
            for path, error, found in zip(
                table.paths, table.errors, table.predictions, strict=True
            ):
                yield Classified(os.fsdecode(path), found, error)

    def iter_logits(
        self, images: Sources, probabilities: bool = False, on_error: OnError = "fail"
    ) -> Iterator[Vector]:
        """As `logits`, one image after the other, in flat memory."""
        job = self.job(Task("logits", probabilities=probabilities))
        return self._vectors(job, images, on_error)

    def iter_embed(
        self,
        images: Sources,
        endpoint: str = "",
        pool: bool = True,
        on_error: OnError = "fail",
    ) -> Iterator[Vector]:
        """As `embed`, one image after the other, in flat memory."""
        job = self.job(Task("embed", endpoint=endpoint, pool=pool))
        return self._vectors(job, images, on_error)

    def export(
        self, listing: Listing, task: Task, sink: FileSink, progress: TextIO | None = None
    ) -> Tally:
        """Do `task` for every image of `listing`, write it to `sink`, and count it.

        A bar on the stream `progress` shows how far it is.
        """
        job = self.job(task)
        tally = Tally(progress)
        loop.run(job, listing, sink, tally)
        return tally

    def fill(
        self,
        images: Sources | Listing,
        dataset: DatasetSink | str | os.PathLike[str],
        task: Task | None = None,
        runner: Runner = "local",
        address: str | None = None,
        progress: TextIO | None = None,
    ) -> Tally:
        """Put the rows of the images that a dataset lacks into it.

        Bad images have rows, too; those whose bytes could not be got have none.
        `dataset` is a folder, here or in an object store; `task` is to classify
        where it is not said. The runner "ray" does it on the cluster that the
        process is connected to, else on that at `address`, else on one of this
        machine's cores.

        Raises:
            OutputError: the dataset cannot be written, or its folder holds something else.
            ResultError: it was made with other settings.
            ClusterError: the cluster cannot be reached, or fails.
        """
        check("runner", runner, get_args(Runner))
        task = task or Task("classify")
        if isinstance(dataset, DatasetSink):
            sink = dataset
        else:
            place = Location(f"{os.fspath(dataset).rstrip('/')}/")
            sink = DatasetSink(place, task, OutputOptions())
        job = self.job(task)
        tally = Tally(progress)
        refs = images if isinstance(images, Listing) else from_python.refs(images)
        if runner == "ray":
            from mnv1cli.cluster.run import run_on_ray

            run_on_ray(job, refs, sink, tally, address, self._limit)
        else:
            loop.run(job, refs, sink, tally)
        sink.write_files_beside(tally.complete(job.metadata()))
        return tally

    def evaluate(
        self,
        images: Sources | Listing,
        truth: Truth | str | os.PathLike[str] | None = None,
        progress: TextIO | None = None,
    ) -> tuple[Evaluation, Resolved]:
        """How good the labels of images are, held against what they show.

        `truth` is a CSV with the columns path and label, or a `truth.FolderTruth`
        or `truth.ListTruth`; without it the folders' names tell. What is not told
        of the module's classes is left out, and stands in the remarks of the
        second result. Images that cannot be read are logged and counted.

        Raises:
            LabelsError: of no image it is known what it shows.
        """
        from mnv1cli.analysis.evaluate import TOP, evaluated
        from mnv1cli.analysis.truth import FolderTruth, ListTruth, Resolved

        job = self.job(Task("classify", top=TOP))
        if truth is None:
            roots = [os.fsencode(images)] if isinstance(images, str | bytes | os.PathLike) else []
            truth = FolderTruth(roots)
        elif isinstance(truth, str | os.PathLike):
            truth = ListTruth(Path(truth))
        resolved = Resolved(truth, job.names)
        refs = images if isinstance(images, Listing) else from_python.refs(images)
        with contextlib.closing(Tally(progress)) as tally:
            tables = map(tally.counted, job.tables(refs))
            return evaluated(tables, resolved, job.names), resolved

    def similar(
        self, index: str | os.PathLike[str], images: Sources, top: int = 5
    ) -> list[list[Match]]:
        """The `top` images of an index that are most like each image, by cosine.

        `index` is what `embed` wrote to a file or a dataset; bad images raise. `Classifier.as_for`
        gives a classifier with the settings of the index.

        Raises:
            ResultError: the index came about with other settings than these.
        """
        from mnv1cli.analysis.search_index import Index

        found = Index(source(Location(os.fspath(index))))
        job = self.job(found.task())
        found.metadata.require_same(found.file, job.metadata())
        return found.search(self._stacked(job, images, "fail"), top)

    def quantize(
        self, images: Sources | Listing, samples: int = 200, seed: int = 0, endpoint: str = ""
    ) -> Price:
        """Calibrate the module for int8 on some of the images; what that costs on others.

        `endpoint` names another layer than logits and feature vector.
        """
        from mnv1cli.inference.quantize import quantize

        outputs = [self.module.endpoint(endpoint)] if endpoint else self.module.main_outputs()
        refs = images if isinstance(images, Listing) else from_python.refs(images)
        return quantize(self.module, outputs, refs, self._spec, samples, seed, self._threads)

    def finetune(self, folder: str | Path, output: str | Path, **options: Any) -> FinetuneResult:
        """Train the module for the classes that `folder` has folders of, and write it to `output`.

        `options` are those of `FinetuneOptions`, and `progress`, a stream for a bar.
        """
        from mnv1cli.training.finetune import finetune

        how = (self._threads, self._engine, options.pop("progress", None))
        tuning = FinetuneOptions(**options)
        return finetune(self.module, Path(folder), Path(output), self._spec, tuning, *how)

    def _vectors(self, job: Job, images: Sources, on_error: OnError) -> Iterator[Vector]:
        for table in self._tables(job, images, on_error):
            assert table.values is not None
            for path, error, values in zip(table.paths, table.errors, table.values, strict=True):
                yield Vector(os.fsdecode(path), values, error)
