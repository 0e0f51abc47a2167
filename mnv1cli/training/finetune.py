"""Training a module for other classes: a folder of class folders in, a TF1 Hub module out.

By default a new head is fitted to the features of the module, which are
computed once; with `full` all layers are trained from there.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.analysis import metrics
from mnv1cli.errors import ModuleError, OptionError
from mnv1cli.images import loader
from mnv1cli.inference import models
from mnv1cli.inference.arguments import take_flag, take_integer, take_number
from mnv1cli.inference.job import Job, compute_row_shape
from mnv1cli.inference.reopen import keep_module
from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules import inspection, mobilenet
from mnv1cli.modules.files import compute_fingerprint
from mnv1cli.modules.locate import LocatedModule
from mnv1cli.system.tempdirs import make_plain_path
from mnv1cli.training.base import read_base
from mnv1cli.training.class_folders import (
    HELD_OUT,
    TRAINING,
    VALIDATION,
    encode_label_table,
    read_class_folders,
)
from mnv1cli.training.examples import compute_features, split_photos
from mnv1cli.training.files import FinetuneFiles, find_begun_module
from mnv1cli.training.full import train
from mnv1cli.training.head import fit_head
from mnv1cli.types import DEFAULT_BATCH, Task

if TYPE_CHECKING:
    from typing import TextIO

    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.training.class_folders import Numbers
    from mnv1cli.training.examples import Photos
    from mnv1cli.training.full import Trained
    from mnv1cli.training.head import Head
    from mnv1cli.training.options import FinetuneOptions
    from mnv1cli.types import Fault, FloatArray, ImageRef, PixelSpec, Variant

# The images on which the module that was written is compared with the head, and how far
# its logits may be off, as a share of their range.
_CHECKED, _TOLERANCE = 8, 0.01
# Far beyond any that ends in a module; infinity is a number, too.
_MAX_LEARNING_RATE = 1e6


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The accuracy of a module on `n` images that it was not trained with.

    Attributes:
        n: the number of images.
        accuracy: the share of them that it gets right.
        interval: the 95 % interval of that share (Wilson's).
        majority: the share that always naming their most frequent class would get right.
    """

    n: int
    accuracy: float
    interval: tuple[float, float]
    majority: float


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """A module that was trained, and its accuracy.

    Attributes:
        path: the folder of the module.
        fingerprint: the sha256 that names it.
        split: the CSV file with the part of each image.
        classes: the number of classes.
        images: the number of images that were used.
        failed: the number of images that could not be read.
        copies: the number of images that are copies of others.
        held_out: the accuracy on the images held out.
        regularisation: scikit-learn's C, with which the head was fitted.
        epochs: the epoch that the module is of, None where only the head was fitted.
        faults: the images that could not be read, and why.
        damaged: the number of damaged images that were used, None where such are refused.
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
    damaged: int | None = None


def finetune(
    predictor: Predictor,
    folder: Path,
    output: Path,
    options: FinetuneOptions,
    progress: TextIO | None = None,
) -> FinetuneResult:
    """Train a module for the classes that `folder` has folders of, and write it to `output`.

    A bar on the stream `progress` shows how far it is.

    Raises:
        OptionError: an option makes no sense, or there are fewer than two classes.
        NoImagesError: a class has fewer than two different images.
        ModuleError: the module is no MobileNet V1 in the TF1 Hub format, or that of the run to
            resume cannot be used any more.
        OutputError: `output` exists, or cannot be written.
        ResumeError: an earlier run cannot be resumed.
    """
    _check_options(options)
    predictor = keep_module(predictor, find_begun_module(output) if options.resume else None)
    module, spec, threads = predictor.module, predictor.spec, predictor.threads
    files = FinetuneFiles(output, folder, options)
    folders = read_class_folders(os.fsencode(folder))
    variables, variant = read_base(module, spec.size)
    job = _make_job(predictor)
    features, tally = compute_features(job, folders, progress)
    photos = split_photos(folders, features, options)
    head = _fit_to_training_part(photos, options, threads)
    if options.full:
        files.begin(_settings(module, photos, spec, options))
    with files.work() as work:
        built = work / "module"
        _write_module(built, {**variables, **head.to_variables()}, variant, photos.names)
        _verify(built, head, photos, spec)
        held_out = photos.mask(HELD_OUT)
        logits: Any = head.compute_logits(photos.features[held_out])
        epoch = None
        if options.full:
            trained = _train_all_layers(built, photos, spec, options, files.part, threads, progress)
            epoch, built = trained.epoch, work / "trained"
            _write_module(built, trained.variables, variant, photos.names)
            logits = _compute_logits(built, photos.select(HELD_OUT).refs, spec, threads)
        fingerprint = compute_fingerprint(built)
        files.publish(built, photos.encode_split(), work)
    return FinetuneResult(
        path=str(output),
        fingerprint=fingerprint,
        split=str(files.split),
        classes=len(photos.names),
        images=len(photos.refs),
        failed=tally.failed,
        copies=len(photos.refs) - len(np.unique(photos.groups)),
        held_out=_measure_held_out(logits, photos.classes[held_out]),
        regularisation=head.strength,
        epochs=epoch,
        faults=tuple(tally.faults),
        damaged=tally.damaged if spec.accepts_damaged else None,
    )


def _fit_to_training_part(photos: Photos, options: FinetuneOptions, threads: int) -> Head:
    rows = photos.mask(TRAINING)
    return fit_head(
        photos.features[rows], photos.classes[rows], photos.groups[rows], options.seed, threads
    )


def _train_all_layers(
    directory: Path,
    photos: Photos,
    spec: PixelSpec,
    options: FinetuneOptions,
    part: Path,
    threads: int,
    progress: TextIO | None,
) -> Trained:
    """Train all layers of the module in `directory`, with checkpoints in `part`."""
    examples = (photos.select(TRAINING), photos.select(VALIDATION))
    return train(_open(directory), examples, spec, options, part, threads, progress)


def _check_options(options: FinetuneOptions) -> None:
    """Refuse what would not end in a module, for callers in Python too."""
    for name in ("full", "force", "resume"):
        take_flag(name, getattr(options, name))
    take_integer("seed", options.seed, 0, 2**32 - 1)
    take_integer("epochs", options.epochs, 1)
    take_integer("batch_size", options.batch_size, 2)
    held_out = take_number("held_out", options.held_out, 0, 1)
    learning_rate = take_number("learning_rate", options.learning_rate, 0, _MAX_LEARNING_RATE)
    for name, value, valid in (
        ("held_out", held_out, 0 < held_out < 1),
        ("learning_rate", learning_rate, learning_rate > 0),
    ):
        if not valid:
            raise OptionError(f"{name}={value} makes no sense")
    if options.resume and not options.full:
        raise OptionError(
            "--resume is for --full", "without it training takes seconds and begins anew"
        )
    if options.resume and options.force:
        raise OptionError("--force begins anew and --resume goes on", "give one of them")


def _make_job(predictor: Predictor) -> Job:
    """Return the job of computing features, in float32 whatever the settings say."""
    module, threads, engine = predictor.module, predictor.threads, predictor.settings.engine
    task, output = Task("embed"), module.features()
    return Job(
        module=module,
        model=models.open_model(module, [output], threads, engine),
        spec=predictor.spec,
        task=task,
        output=output.name,
        shape=compute_row_shape(module, output, task),
        batch_size=DEFAULT_BATCH,
        threads=threads,
    )


def _write_module(
    directory: Path, variables: dict[str, Any], variant: Variant, names: tuple[str, ...]
) -> None:
    """Write a module with its class names to a new directory."""
    directory.mkdir()
    labels = encode_label_table(names)
    mobilenet.write_module(Path(make_plain_path(directory)), variables, variant, labels)


def _open(directory: Path) -> HubModule:
    return inspection.read_module(LocatedModule(str(directory), directory))


def _verify(directory: Path, head: Head, photos: Photos, spec: PixelSpec) -> None:
    """Compare the module that was written with its head on the features of a few images.

    Raises:
        ModuleError: the base module computes something else with the same variables.
    """
    wanted = head.compute_logits(photos.features[:_CHECKED])
    logits = _compute_logits(directory, photos.refs[:_CHECKED], spec, 1)
    if np.abs(wanted - logits).max() > _TOLERANCE * max(float(np.ptp(wanted)), 1.0):
        raise ModuleError(
            "the module has the variables of a MobileNet V1, but computes something else",
            "give the range of its pixels with --input-range, or name another with --module",
        )


def _compute_logits(
    directory: Path, refs: tuple[ImageRef, ...], spec: PixelSpec, threads: int
) -> FloatArray:
    """Compute the logits [n, classes] of images with the module in `directory`."""
    module = _open(directory)
    model = TensorFlowModel(module, [module.logits()])
    batches = loader.load_batches(refs, spec, DEFAULT_BATCH, threads)
    return np.concatenate([model(batch.pixels)["logits"] for batch in batches])


def _measure_held_out(logits: Any, classes: Numbers) -> HeldOut:
    n = len(classes)
    right = int((logits.argmax(axis=1) == classes).sum())
    majority = float(np.bincount(classes).max() / n)
    return HeldOut(n, right / n, metrics.wilson(right, n), majority)


def _settings(
    module: HubModule, photos: Photos, spec: PixelSpec, options: FinetuneOptions
) -> dict[str, Any]:
    """Return what must be the same in a run that resumes another, by the names of options."""
    return {
        "module": module.fingerprint,
        "handle": module.handle,
        "--seed": options.seed,
        "--held-out": options.held_out,
        "--epochs": options.epochs,
        "--learning-rate": options.learning_rate,
        "--batch-size": options.batch_size,
        "--image-size": spec.size,
        "--input-range": module.input_range.setting,
        "--preprocess": spec.preprocess,
        "--exif": spec.exif,
        "--damaged": spec.damaged,
        "the split with the sha256": hashlib.sha256(photos.encode_split()).hexdigest(),
    }
