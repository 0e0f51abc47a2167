"""Training all layers of a module: epochs, validation, the best of them, and checkpoints."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import ResumeError
from mnv1cli.images import loader
from mnv1cli.inference.ranking import softmax
from mnv1cli.system import signals
from mnv1cli.system.tempdirs import plain_path
from mnv1cli.training.augment import Views
from mnv1cli.training.step import Network, learning_rate
from mnv1cli.types import DEFAULT_BATCH

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from numpy.typing import NDArray

    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.training.options import FinetuneOptions
    from mnv1cli.types import FloatArray, ImageRef, PixelSpec

log = logging.getLogger(__name__)

# Epochs without a lower validation loss after which training stops.
_PATIENCE = 3
# How much work a run that is killed may lose, but for a step.
_SAVE_SECONDS = 60.0
# What is done: whole epochs, and of the one at hand its steps, their losses, what was right.
_COUNTS = ("epoch", "step", "loss", "right")


@dataclass(frozen=True, slots=True)
class Examples:
    """Images with the class of each."""

    refs: tuple[ImageRef, ...]
    classes: NDArray[np.int64]

    def balance(self) -> FloatArray:
        """A weight for each image, the same in sum for each class; their mean is 1."""
        counts = np.bincount(self.classes)
        weights = len(self.classes) / (np.count_nonzero(counts) * counts[self.classes])
        return weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Trained:
    """The variables with the lowest validation loss, and the epoch they are of; 0 is the start."""

    variables: dict[str, Any]
    epoch: int
    loss: float


def train(
    module: HubModule,
    examples: tuple[Examples, Examples],
    spec: PixelSpec,
    options: FinetuneOptions,
    folder: Path,
    threads: int = 1,
    progress: TextIO | None = None,
) -> Trained:
    """Train all variables of `module` on the first of `examples`, stopped by the second.

    What is in `folder` from a run that was cut is gone on with; the same
    options and images give the same result.

    Raises:
        ImageError: an image cannot be read any more.
    """
    run = _Run(module, examples, spec, options, folder, threads, progress)
    try:
        return run.finish()
    except BaseException:
        with signals.held():
            run.save()
        log.error(
            "done so far: %d of %d epochs, in %s; the same command with --resume goes on",
            run.epoch, options.epochs, folder,
        )  # fmt: skip
        raise
    finally:
        run.close()


class _Run:
    """One training: where it stands, what is best so far, and what is kept of it."""

    def __init__(
        self,
        module: HubModule,
        examples: tuple[Examples, Examples],
        spec: PixelSpec,
        options: FinetuneOptions,
        folder: Path,
        threads: int,
        progress: TextIO | None,
    ) -> None:
        import tensorflow as tf

        self._training, self._validation = examples
        self._balance = self._training.balance()
        self._spec, self._options, self._threads = spec, options, threads
        self._network = Network(module, threads)
        batch_size = min(options.batch_size, len(self._training.refs))
        self._views = Views(self._training.refs, spec, batch_size, options.seed, threads)
        names = (*_COUNTS, "best_epoch", "best_loss", "low_epoch", "low_loss")
        self._state = {name: tf.Variable(0.0, dtype=tf.float64) for name in names}
        self._best = {
            name: tf.Variable(variable) for name, variable in self._network.variables.items()
        }
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(
                current=list(self._network.variables.values()),
                best=list(self._best.values()),
                optimizer=self._network.optimizer,
                state=self._state,
            ),
            plain_path(folder),
            max_to_keep=1,
        )
        self._folder = folder
        self._saved, self._unsaved = time.monotonic(), False
        self._bar: Any = None
        if progress is not None:
            from tqdm import tqdm

            total = options.epochs * self._views.steps
            self._bar = tqdm(
                total=total, file=progress, unit=" batches", dynamic_ncols=True, leave=False
            )

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self._count("epoch")

    def finish(self) -> Trained:
        """Go on from where an earlier run stood, or begin, to the end."""
        self._begin()
        while self.epoch < self._options.epochs and self._waited() < _PATIENCE:
            self._one_epoch()
        best = {name.partition(":")[0]: value.numpy() for name, value in self._best.items()}
        return Trained(best, self._count("best_epoch"), float(self._state["best_loss"].numpy()))

    def save(self) -> None:
        """Note where the run stands, so that another can go on from there."""
        if self._unsaved:
            self._manager.save()
            self._unsaved, self._saved = False, time.monotonic()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _count(self, name: str) -> int:
        return int(self._state[name].numpy())

    def _waited(self) -> int:
        """Epochs since the best one, the start not counted: training may cost at first."""
        return self.epoch - self._count("low_epoch")

    def _begin(self) -> None:
        """Take up the last checkpoint; without one the start is the best so far.

        Raises:
            ResumeError: it is damaged.
        """
        import tensorflow as tf

        try:
            found = self._manager.restore_or_initialize()
        except (tf.errors.OpError, ValueError) as error:
            raise ResumeError(
                f"the checkpoint in {self._folder} is damaged", "begin anew with --force"
            ) from error
        if found is not None:
            log.info("going on after %d of %d epochs", self.epoch, self._options.epochs)
            if self._bar is not None:
                self._bar.update(self.epoch * self._views.steps + self._count("step"))
            return
        loss, accuracy = self._score()
        self._state["best_loss"].assign(loss)
        self._state["low_loss"].assign(math.inf)
        self._tell("before training: validation loss %.3f, accuracy %.1f %%", loss, 100 * accuracy)

    def _one_epoch(self) -> None:
        for pixels, places in self._views.epoch(self.epoch, self._count("step")):
            with signals.held():
                self._train(pixels, places.numpy())
                if time.monotonic() - self._saved > _SAVE_SECONDS:
                    self.save()
        loss, accuracy = self._score()
        with signals.held():
            self._end_epoch(loss, accuracy)

    def _train(self, pixels: Any, places: Any) -> None:
        """One step, counted."""
        state = self._state
        steps = self._views.steps
        done = self.epoch * steps + self._count("step")
        rate = learning_rate(done, self._options.epochs * steps, self._options.learning_rate)
        self._network.rate.assign(rate)
        loss, right = self._network.step(
            pixels, self._training.classes[places], self._balance[places]
        )
        self._unsaved = True
        for name, value in (("step", 1), ("loss", loss), ("right", right)):
            state[name].assign_add(float(value))
        if self._bar is not None:
            loss, accuracy = self._means()
            shown = {"loss": f"{loss:.3f}", "accuracy": f"{100 * accuracy:.1f} %"}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()

    def _means(self) -> tuple[float, float]:
        """Loss and accuracy of this epoch's batches."""
        step = self._count("step")
        loss, right = (float(self._state[name].numpy()) for name in ("loss", "right"))
        return loss / step, right / (step * self._views.batch_size)

    def _end_epoch(self, loss: float, accuracy: float) -> None:
        mean, right = self._means()
        self._tell(
            "epoch %d of %d: loss %.3f, accuracy %.1f %%; validation loss %.3f, accuracy %.1f %%",
            self.epoch + 1, self._options.epochs, mean, 100 * right, loss, 100 * accuracy,
        )  # fmt: skip
        self._state["epoch"].assign_add(1)
        for name in ("step", "loss", "right"):
            self._state[name].assign(0)
        if self._lower("low", loss) and self._lower("best", loss):
            for name, value in self._best.items():
                value.assign(self._network.variables[name])
        self.save()

    def _lower(self, name: str, loss: float) -> bool:
        """Whether this epoch's loss is lower than the one noted as `name`; notes it then."""
        if loss >= float(self._state[f"{name}_loss"].numpy()):
            return False
        self._state[f"{name}_loss"].assign(loss)
        self._state[f"{name}_epoch"].assign(self._state["epoch"])
        return True

    def _tell(self, message: str, *values: Any) -> None:
        """A line, where there is no bar."""
        if self._bar is None:
            log.info(message, *values)

    def _score(self) -> tuple[float, float]:
        """Loss, every class with the same weight, and accuracy on the validation part."""
        self._network.settle()
        batches = loader.load_batches(
            self._validation.refs, self._spec, DEFAULT_BATCH, self._threads
        )
        logits = np.concatenate([self._network.scores(batch.pixels) for batch in batches])
        classes = self._validation.classes
        shares = softmax(logits)[np.arange(len(classes)), classes]
        # Whatever is called impossible costs much, and not infinitely so.
        losses = -np.log(np.maximum(shares, 1e-12)) * self._validation.balance()
        return float(losses.mean()), float((logits.argmax(axis=1) == classes).mean())
