"""`Classifier`, the class that Python programs use.

Every method is a few lines over the packages that do the work.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from mnv1cli.analysis.evaluate import evaluate_images
from mnv1cli.analysis.search import find_similar
from mnv1cli.analysis.search_index import Index
from mnv1cli.analysis.truth import FolderTruth, ListTruth, choose_truth
from mnv1cli.cluster.fill import fill_dataset
from mnv1cli.inference.arguments import (
    check_choice,
    check_text,
    check_type,
    take_flag,
    take_integer,
    take_path,
)
from mnv1cli.inference.image_results import Classified, Vector, iterate_classified, iterate_vectors
from mnv1cli.inference.int8.quantize import quantize
from mnv1cli.inference.predictor import Predictor
from mnv1cli.inference.reopen import keep_module, reopen_predictor
from mnv1cli.inference.settings import Settings, make_input_range
from mnv1cli.inference.tasks import make_classify_task, make_embed_task, make_logits_task
from mnv1cli.inputs import from_python
from mnv1cli.runs.dataset_sink import DatasetSink
from mnv1cli.runs.options import OutputOptions
from mnv1cli.storage.location import Location
from mnv1cli.storage.sources import to_result_source
from mnv1cli.training.finetune import finetune
from mnv1cli.training.options import FinetuneOptions
from mnv1cli.types import (
    DEFAULT_BATCH,
    DEFAULT_DEVICE,
    MAX_BYTES,
    MAX_PIXELS,
    Engine,
    FetchOptions,
    Runner,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from mnv1cli.analysis.evaluation import Evaluation
    from mnv1cli.analysis.search_index import Match
    from mnv1cli.analysis.truth import ResolvedTruth, Truth
    from mnv1cli.inference.int8.quantize import Price
    from mnv1cli.inputs.from_python import ImageInputs
    from mnv1cli.runs.tally import Tally
    from mnv1cli.training.finetune import FinetuneResult
    from mnv1cli.types import (
        Damaged,
        Decode,
        FloatArray,
        Loader,
        OnError,
        Precision,
        Preprocess,
    )

_TRUTHS = (str, os.PathLike, FolderTruth, ListTruth, type(None))


class Classifier:
    """A module with its settings, loaded once and used many times.

    Images are paths (also of folders, archives, and files in them as `photos.zip!/a.jpg`), PIL
    images, uint8 arrays [h, w], [h, w, 3] or [h, w, 4], the bytes of an image file, or files
    opened with "rb"; one of them or an iterable. `on_error` is "fail" (raise `ImageError`),
    "skip", or "row" (keep its place, with an `error`).

    `module` is as in `Predictor`, the settings are those of `Settings`, and `fetch` has the
    last three, which are as in `FetchOptions`, and a stream for a progress bar in one value.

    Raises:
        OptionError: a setting has no such value; raised by methods for their arguments, too.
        ModuleError: there is no such module, or it cannot be used.
    """

    def __init__(
        self,
        module: str | os.PathLike[str] | None = None,
        *,
        preprocess: Preprocess = "slim",
        decode: Decode = "scaled",
        exif: bool = True,
        damaged: Damaged = "refuse",
        image_size: int | None = None,
        input_range: tuple[float, float] = (0.0, 1.0),
        labels: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        precision: Precision = "float32",
        device: str = DEFAULT_DEVICE,
        loader: Loader | None = None,
        threads: int | None = None,
        batch_size: int = DEFAULT_BATCH,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
        offline: bool = False,
        insecure: bool = False,
        trust_module: bool = False,
        fetch: FetchOptions | None = None,
    ) -> None:
        settings = Settings(
            preprocess=preprocess,
            decode=decode,
            exif=exif,
            damaged=damaged,
            image_size=image_size,
            input_range=make_input_range(input_range),
            labels=None if labels is None else Path(take_path("labels", labels)),
            engine=engine,
            precision=precision,
            device=device,
            loader=loader,
            threads=threads,
            batch_size=batch_size,
            max_pixels=max_pixels,
            max_bytes=max_bytes,
            fetch=_make_fetch(offline, insecure, trust_module) if fetch is None else fetch,
        )
        self.predictor = Predictor(module, settings)

    @classmethod
    def as_for(
        cls,
        metadata: Mapping[str, Any],
        module: str | None = None,
        fetch: FetchOptions | None = None,
        threads: int | None = None,
    ) -> Self:
        """Make a classifier with the settings of a result, as `reopen_predictor` does."""
        classifier = cls.__new__(cls)
        classifier.predictor = reopen_predictor(metadata, module, fetch, threads)
        return classifier

    def classify(
        self,
        images: ImageInputs,
        top: int = 5,
        on_error: OnError = "fail",
        min_probability: float = 0.0,
    ) -> list[Classified]:
        """Return the `top` labels of every image with at least `min_probability`."""
        return list(self.iter_classify(images, top, on_error, min_probability))

    def logits(
        self, images: ImageInputs, probabilities: bool = False, on_error: OnError = "fail"
    ) -> FloatArray:
        """Return the scores of every image, float32 [n, classes]; NaN rows for "row"."""
        return self.predictor.predict_array(make_logits_task(probabilities), images, on_error)

    def embed(
        self, images: ImageInputs, endpoint: str = "", pool: bool = True, on_error: OnError = "fail"
    ) -> FloatArray:
        """Return the features of every image, or of the layer `endpoint`, float32 [n, features].

        A layer is averaged over height and width; without `pool` it is [n, h, w, c].
        """
        return self.predictor.predict_array(make_embed_task(endpoint, pool), images, on_error)

    def iter_classify(
        self,
        images: ImageInputs,
        top: int = 5,
        on_error: OnError = "fail",
        min_probability: float = 0.0,
    ) -> Iterator[Classified]:
        """Yield what `classify` returns, image by image, in constant memory."""
        task = make_classify_task(top, min_probability)
        return iterate_classified(self.predictor.predict(task, images, on_error))

    def iter_logits(
        self, images: ImageInputs, probabilities: bool = False, on_error: OnError = "fail"
    ) -> Iterator[Vector]:
        """Yield what `logits` returns, image by image, in constant memory."""
        task = make_logits_task(probabilities)
        return iterate_vectors(self.predictor.predict(task, images, on_error))

    def iter_embed(
        self, images: ImageInputs, endpoint: str = "", pool: bool = True, on_error: OnError = "fail"
    ) -> Iterator[Vector]:
        """Yield what `embed` returns, image by image, in constant memory."""
        task = make_embed_task(endpoint, pool)
        return iterate_vectors(self.predictor.predict(task, images, on_error))

    def fill(
        self,
        images: ImageInputs,
        dataset: str | os.PathLike[str],
        task: Task | None = None,
        runner: Runner = "local",
        address: str | None = None,
        progress: TextIO | None = None,
    ) -> Tally:
        """Add the rows of the images that a dataset lacks, and count them.

        `dataset` is a folder, on disk or in an object store. Images that fail have rows, too;
        those whose bytes could not be read have none. Without a `task` images are classified,
        without a named module by that of the dataset. For runner and address see `fill_dataset`.

        Raises:
            OutputError: the dataset cannot be written, or its folder holds something else.
            ResultError: it was made with other settings.
            ClusterError: the cluster cannot be reached, or fails.
        """
        check_choice("runner", runner, get_args(Runner))
        task = Task("classify") if task is None else task
        check_type("task", task, Task, "pass a Task")
        refs = from_python.make_refs(images, self.predictor.spec.max_bytes)
        folder = f"{take_path('dataset', dataset).rstrip('/')}/"
        sink = DatasetSink(Location(folder), task, OutputOptions())
        predictor = keep_module(self.predictor, sink.earlier_module())
        return fill_dataset(predictor, task, refs, sink, runner, address, progress)

    def evaluate(
        self,
        images: ImageInputs,
        truth: Truth | str | os.PathLike[str] | None = None,
        progress: TextIO | None = None,
    ) -> tuple[Evaluation, ResolvedTruth]:
        """Compare the labels of images with what the images show.

        `truth` is a CSV with the columns path and label, a `FolderTruth` or a `ListTruth`; None
        for the names of folders. Images without a class of the module are left out, and named in
        the remarks of the second result. Images that cannot be read are logged and counted.

        Raises:
            LabelsError: the truth of no image is known.
        """
        check_type("truth", truth, _TRUTHS, "pass the path of a CSV, a FolderTruth or a ListTruth")
        refs = from_python.make_refs(images, self.predictor.spec.max_bytes)
        return evaluate_images(self.predictor, refs, choose_truth(truth, images), progress)

    def similar(
        self, index: str | os.PathLike[str], images: ImageInputs, top: int = 5
    ) -> list[list[Match]]:
        """Return the `top` images most similar to each image, by cosine.

        `index` is a file or a dataset that `embed` wrote; `as_for` has its settings.

        Raises:
            ResultError: the index was made with other settings than these.
            ImageError: an image cannot be used.
        """
        source = Index(to_result_source(Location(take_path("index", index))))
        return find_similar(self.predictor, source, images, take_integer("top", top, 1))

    def quantize(
        self,
        images: ImageInputs,
        samples: int = 200,
        seed: int = 0,
        endpoint: str = "",
        engine: Engine | None = None,
        recipe: str | None = None,
    ) -> Price:
        """Calibrate the module for int8 on some of the images, and compare it on others.

        `endpoint` names a layer to calibrate instead of logits and feature vector. Recipes are
        tried, those of `engine` or only `recipe`, and the best is kept; see `Price`.
        """
        check_text("endpoint", endpoint)
        numbers = take_integer("samples", samples, 1), take_integer("seed", seed, 0)
        refs = from_python.make_refs(images, self.predictor.spec.max_bytes)
        return quantize(self.predictor, refs, *numbers, endpoint, engine, recipe)

    def finetune(self, folder: str | Path, output: str | Path, **options: Any) -> FinetuneResult:
        """Train the module for the classes that `folder` has folders of, and write it to `output`.

        `options` are the fields of `FinetuneOptions`, and `progress`, a stream for a bar.
        """
        progress, training = options.pop("progress", None), FinetuneOptions(**options)
        return finetune(self.predictor, *_take_folders(folder, output), training, progress)


def _take_folders(folder: str | Path, output: str | Path) -> tuple[Path, Path]:
    return Path(take_path("folder", folder)), Path(take_path("output", output))


def _make_fetch(offline: bool, insecure: bool, trust_module: bool) -> FetchOptions:
    flags = {"offline": offline, "insecure": insecure, "trust_module": trust_module}
    offline, insecure, trust = (take_flag(name, flag) for name, flag in flags.items())
    return FetchOptions(offline, None, insecure, trust)
