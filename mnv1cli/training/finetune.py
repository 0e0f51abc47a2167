"""Training a module for other classes: a folder of class folders in, a TF1 Hub module out.

By default a new head is fitted to the features of the module, which are
computed once; with `full` all layers are trained from there.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.analysis import metrics
from mnv1cli.errors import ModuleError, OptionError
from mnv1cli.images import loader
from mnv1cli.inference import models
from mnv1cli.inference.job import Job, row_shape
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.labels import names as labels
from mnv1cli.modules import files as modulefiles
from mnv1cli.modules import inspection as modules
from mnv1cli.modules import mobilenet
from mnv1cli.modules.locate import LocatedModule
from mnv1cli.system.tempdirs import plain_path
from mnv1cli.training import base, head
from mnv1cli.training import class_folders as parting
from mnv1cli.training import examples as labelled
from mnv1cli.training.files import FinetuneFiles
from mnv1cli.training.full import train
from mnv1cli.types import DEFAULT_BATCH, Task

if TYPE_CHECKING:
    from typing import TextIO

    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.training.class_folders import Numbers
    from mnv1cli.training.examples import Photos
    from mnv1cli.training.full import Trained
    from mnv1cli.training.options import FinetuneOptions
    from mnv1cli.types import Engine, Fault, FloatArray, ImageRef, PixelSpec, Variant

# Images that the module written is held against the features on, and how far its scores
# may be off, as a part of their spread.
_CHECKED, _TOLERANCE = 8, 0.01


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How good a module is on `n` images that it was not trained with.

    `accuracy` is the share that it gets right, with its 95 % `interval`;
    `majority` is what always naming their most frequent class would get.
    """

    n: int
    accuracy: float
    interval: tuple[float, float]
    majority: float


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """A module that was trained, and how good it is.

    `copies` counts images that are copies of others. `regularisation` is
    scikit-learn's C; `epochs` is the one that the result is of, None where only
    the head was fitted.
    """

    path: str
    fingerprint: str
    split: str
    classes: int
    images: int
    failed: int
    copies: int
    held_out: HeldOut
    regularisation: float
    epochs: int | None
    faults: tuple[Fault, ...] = field(default=(), repr=False)


def finetune(
    module: HubModule,
    folder: Path,
    output: Path,
    spec: PixelSpec,
    options: FinetuneOptions,
    threads: int = 1,
    engine: Engine | None = None,
    progress: TextIO | None = None,
) -> FinetuneResult:
    """Train `module` for the classes that `folder` has folders of, and write it to `output`.

    Raises:
        OptionError: an option makes no sense, or there are fewer than two classes.
        NoImagesError: a class has fewer than two different images.
        ModuleError: the module is no MobileNet V1 in the TF1 Hub format.
        OutputError: `output` exists, or cannot be written.
        ResumeError: an earlier run cannot be gone on with.
    """
    _check(options)
    files = FinetuneFiles(output, folder, options)
    found = parting.class_folders(os.fsencode(folder))
    variables, variant = base.read(module, spec.size)
    job = _job(module, spec, threads, engine)
    features, tally = labelled.features_of(job, found, progress)
    photos = labelled.photos_of(found, features, options)
    fitted = _fitted(photos, options, threads)
    if options.full:
        files.begin(_settings(module, photos, spec, options))
    with files.work() as work:
        made = work / "module"
        _write(made, {**variables, **fitted.variables()}, variant, photos.names)
        _verify(made, fitted, photos, spec)
        held_out = photos.rows(parting.HELD_OUT)
        scores: Any = fitted.logits(photos.features[held_out])
        epochs = None
        if options.full:
            trained = _trained(made, photos, spec, options, files.part, threads, progress)
            epochs, made = trained.epoch, work / "trained"
            _write(made, trained.variables, variant, photos.names)
            scores = _scores(made, photos.examples(parting.HELD_OUT).refs, spec, threads)
        fingerprint = modulefiles.compute_fingerprint(made)
        files.publish(made, photos.table(), work)
    return FinetuneResult(
        path=str(output),
        fingerprint=fingerprint,
        split=str(files.split),
        classes=len(photos.names),
        images=len(photos.refs),
        failed=tally.failed,
        copies=len(photos.refs) - len(np.unique(photos.groups)),
        held_out=_held_out(scores, photos.classes[held_out]),
        regularisation=fitted.strength,
        epochs=epochs,
        faults=tuple(tally.faults),
    )


def _fitted(photos: Photos, options: FinetuneOptions, threads: int) -> head.Head:
    """The last layer for the training part."""
    rows = photos.rows(parting.TRAINING)
    parts = (photos.features[rows], photos.classes[rows], photos.groups[rows])
    return head.fit(*parts, options.seed, threads)


def _trained(
    made: Path,
    photos: Photos,
    spec: PixelSpec,
    options: FinetuneOptions,
    part: Path,
    threads: int,
    progress: TextIO | None,
) -> Trained:
    """All layers of the module that was made, trained; notes lie in `part` meanwhile."""
    examples = (photos.examples(parting.TRAINING), photos.examples(parting.VALIDATION))
    return train(_opened(made), examples, spec, options, part, threads, progress)


def _check(options: FinetuneOptions) -> None:
    """Refuse what would not end in a module, for callers in Python too."""
    for name, value, good in (
        ("held_out", options.held_out, 0 < options.held_out < 1),
        ("seed", options.seed, 0 <= options.seed < 2**32),
        ("epochs", options.epochs, options.epochs > 0),
        ("learning_rate", options.learning_rate, 0 < options.learning_rate < math.inf),
        ("batch_size", options.batch_size, options.batch_size > 1),
    ):
        if not good:
            raise OptionError(f"{name}={value} makes no sense")
    if options.resume and not options.full:
        raise OptionError(
            "--resume is for --full", "without it training takes seconds and begins anew"
        )
    if options.resume and options.force:
        raise OptionError("--force begins anew and --resume goes on", "say one of them")


def _job(module: HubModule, spec: PixelSpec, threads: int, engine: Engine | None) -> Job:
    task, output = Task("embed"), module.features()
    return Job(
        module=module,
        model=models.open_model(module, [output], threads, engine),
        spec=spec,
        task=task,
        output=output.name,
        shape=row_shape(module, output, task),
        batch_size=DEFAULT_BATCH,
        threads=threads,
    )


def _write(
    directory: Path, variables: dict[str, Any], variant: Variant, names: tuple[str, ...]
) -> None:
    """A module with its class names, in a new directory."""
    directory.mkdir()
    mobilenet.write_module(Path(plain_path(directory)), variables, variant)
    (directory / labels.ASSET).write_bytes(parting.label_table(names))


def _opened(directory: Path) -> HubModule:
    return modules.read_module(LocatedModule(str(directory), directory))


def _verify(made: Path, fitted: head.Head, photos: Photos, spec: PixelSpec) -> None:
    """Hold the module that was written against the features that its head was fitted to.

    Raises:
        ModuleError: the base module computes something else with the same variables.
    """
    wanted = fitted.logits(photos.features[:_CHECKED])
    found = _scores(made, photos.refs[:_CHECKED], spec, 1)
    if np.abs(wanted - found).max() > _TOLERANCE * max(float(np.ptp(wanted)), 1.0):
        raise ModuleError(
            "the module has the variables of a MobileNet V1, and computes something else",
            "name another with --module",
        )


def _scores(made: Path, refs: tuple[ImageRef, ...], spec: PixelSpec, threads: int) -> FloatArray:
    """The logits [n, classes] of images, as the module in `made` gives them."""
    module = _opened(made)
    model = TensorFlowModel(module, [module.logits()])
    batches = loader.load_batches(refs, spec, DEFAULT_BATCH, threads)
    return np.concatenate([model(batch.pixels)["logits"] for batch in batches])


def _held_out(scores: Any, classes: Numbers) -> HeldOut:
    n = len(classes)
    right = int((scores.argmax(axis=1) == classes).sum())
    majority = float(np.bincount(classes).max() / n)
    return HeldOut(n, right / n, metrics.wilson(right, n), majority)


def _settings(
    module: HubModule, photos: Photos, spec: PixelSpec, options: FinetuneOptions
) -> dict[str, Any]:
    """What must be the same in a run that goes on with another, by names that people know."""
    return {
        "module": module.fingerprint,
        "--seed": options.seed,
        "--held-out": options.held_out,
        "--epochs": options.epochs,
        "--learning-rate": options.learning_rate,
        "--batch-size": options.batch_size,
        "--image-size": spec.size,
        "--preprocess": spec.preprocess,
        "--exif": spec.exif,
        "the split with the sha256": hashlib.sha256(photos.table()).hexdigest(),
    }
