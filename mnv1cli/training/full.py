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
from mnv1cli.system.tempdirs import make_plain_path
from mnv1cli.training.augment import Views
from mnv1cli.training.step import Network, compute_learning_rate
from mnv1cli.types import DEFAULT_BATCH

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.training.examples import Examples
    from mnv1cli.training.options import FinetuneOptions
    from mnv1cli.types import PixelSpec

log = logging.getLogger(__name__)

# Epochs without a lower validation loss after which training stops.
_PATIENCE = 3
# How much work a run that is killed may lose, apart from a step.
_SAVE_SECONDS = 60.0
# The progress: whole epochs, and the steps of the current one, with their losses and the
# number of images that were right.
_COUNTS = ("epoch", "step", "loss", "right")


@dataclass(frozen=True, slots=True)
class Trained:
    """The variables with the lowest validation loss, and their epoch; 0 is the start."""

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

    Continues from the checkpoint in `folder`, where a run that was stopped has left
    one; the same options and images give the same result.

    Raises:
        ImageError: an image cannot be read any more.
        ResumeError: the checkpoint is damaged.
    """
    training = _Training(module, examples, spec, options, folder, threads, progress)
    try:
        return training.finish()
    except BaseException:
        with signals.defer_stop():
            training.save()
        log.error(
            "done so far: %d of %d epochs, in %s; the same command with --resume goes on",
            training.epoch, options.epochs, folder,
        )  # fmt: skip
        raise
    finally:
        training.close()


class _Training:
    """A training: its progress, the best variables so far, and their checkpoints."""

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
            make_plain_path(folder),
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
        """The number of epochs that are done."""
        return self._read_count("epoch")

    def finish(self) -> Trained:
        """Train to the end, from the last checkpoint or from the start."""
        self._restore_or_start()
        while self.epoch < self._options.epochs and self._epochs_since_low() < _PATIENCE:
            self._run_epoch()
        best = {name.partition(":")[0]: value.numpy() for name, value in self._best.items()}
        loss = float(self._state["best_loss"].numpy())
        return Trained(best, self._read_count("best_epoch"), loss)

    def save(self) -> None:
        """Save a checkpoint, so that another run can go on from here."""
        if self._unsaved:
            self._manager.save()
            self._unsaved, self._saved = False, time.monotonic()

    def close(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.close()

    def _read_count(self, name: str) -> int:
        return int(self._state[name].numpy())

    def _epochs_since_low(self) -> int:
        """Count the epochs since the lowest loss but that of the start: training may cost first."""
        return self.epoch - self._read_count("low_epoch")

    def _restore_or_start(self) -> None:
        """Restore the last checkpoint; without one the start is the best so far.

        Raises:
            ResumeError: it is damaged.
        """
        import tensorflow as tf

        try:
            checkpoint = self._manager.restore_or_initialize()
        except (tf.errors.OpError, ValueError) as error:
            raise ResumeError(
                f"the checkpoint in {self._folder} is damaged", "begin anew with --force"
            ) from error
        if checkpoint is not None:
            log.info("going on after %d of %d epochs", self.epoch, self._options.epochs)
            if self._bar is not None:
                self._bar.update(self.epoch * self._views.steps + self._read_count("step"))
            return
        loss, accuracy = self._validate()
        self._state["best_loss"].assign(loss)
        self._state["low_loss"].assign(math.inf)
        self._log("before training: validation loss %.3f, accuracy %.1f %%", loss, 100 * accuracy)

    def _run_epoch(self) -> None:
        for pixels, positions in self._views.read_epoch(self.epoch, self._read_count("step")):
            with signals.defer_stop():
                self._train(pixels, positions.numpy())
                if time.monotonic() - self._saved > _SAVE_SECONDS:
                    self.save()
        loss, accuracy = self._validate()
        with signals.defer_stop():
            self._end_epoch(loss, accuracy)

    def _train(self, pixels: Any, positions: Any) -> None:
        """Train on a batch, and count it."""
        state = self._state
        steps = self._views.steps
        done = self.epoch * steps + self._read_count("step")
        highest = self._options.learning_rate
        rate = compute_learning_rate(done, self._options.epochs * steps, highest)
        self._network.rate.assign(rate)
        loss, right = self._network.step(
            pixels, self._training.classes[positions], self._balance[positions]
        )
        self._unsaved = True
        for name, value in (("step", 1), ("loss", loss), ("right", right)):
            state[name].assign_add(float(value))
        if self._bar is not None:
            loss, accuracy = self._mean_of_batches()
            shown = {"loss": f"{loss:.3f}", "accuracy": f"{100 * accuracy:.1f} %"}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()

    def _mean_of_batches(self) -> tuple[float, float]:
        """Average loss and accuracy over the batches of this epoch."""
        step = self._read_count("step")
        loss, right = (float(self._state[name].numpy()) for name in ("loss", "right"))
        return loss / step, right / (step * self._views.batch_size)

    def _end_epoch(self, loss: float, accuracy: float) -> None:
        """Count an epoch with this validation loss and accuracy, and keep it if it is the best."""
        mean, right = self._mean_of_batches()
        self._log(
            "epoch %d of %d: loss %.3f, accuracy %.1f %%; validation loss %.3f, accuracy %.1f %%",
            self.epoch + 1, self._options.epochs, mean, 100 * right, loss, 100 * accuracy,
        )  # fmt: skip
        self._state["epoch"].assign_add(1)
        for name in ("step", "loss", "right"):
            self._state[name].assign(0)
        if self._note_lower("low", loss) and self._note_lower("best", loss):
            for name, value in self._best.items():
                value.assign(self._network.variables[name])
        self.save()

    def _note_lower(self, name: str, loss: float) -> bool:
        """Note this epoch as `name` if its loss is lower than the one noted; return whether."""
        if loss >= float(self._state[f"{name}_loss"].numpy()):
            return False
        self._state[f"{name}_loss"].assign(loss)
        self._state[f"{name}_epoch"].assign(self._state["epoch"])
        return True

    def _log(self, message: str, *values: Any) -> None:
        """Log a line, where there is no bar."""
        if self._bar is None:
            log.info(message, *values)

    def _validate(self) -> tuple[float, float]:
        """Measure loss, every class with the same weight, and accuracy on the validation part."""
        self._network.settle()
        refs = self._validation.refs
        batches = loader.load_batches(refs, self._spec, DEFAULT_BATCH, self._threads)
        logits = np.concatenate([self._network.compute_logits(batch.pixels) for batch in batches])
        classes = self._validation.classes
        shares = softmax(logits)[np.arange(len(classes)), classes]
        # An image whose class is called impossible costs much, but not infinitely much.
        losses = -np.log(np.maximum(shares, 1e-12)) * self._validation.balance()
        return float(losses.mean()), float((logits.argmax(axis=1) == classes).mean())
