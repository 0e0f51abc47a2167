"""Training all layers: what it moves, where it stops, and how it goes on."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mnv1cli.errors import ImageError, ResumeError
from mnv1cli.modules import inspection, mobilenet
from mnv1cli.modules.locate import LocatedModule
from mnv1cli.training import full
from mnv1cli.training.augment import Views
from mnv1cli.training.examples import Examples
from mnv1cli.training.options import FinetuneOptions
from mnv1cli.training.step import Network, compute_learning_rate
from mnv1cli.types import ImageRef, PixelSpec, Variant
from tests.modules.test_mobilenet import make_random_variables
from tests.support.digits import write_digits, write_small_module
from tests.support.shell import command, mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.modules.hub_module import HubModule

SPEC = PixelSpec(32)
OPTIONS = FinetuneOptions(full=True, epochs=2, batch_size=8, seed=3)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Examples, Examples]:
    """Two digits, to train with and to validate with."""
    folder = write_digits(tmp_path_factory.mktemp("two"), 2, 15)
    paths = sorted(folder.rglob("*.png"))
    refs = [ImageRef(i, bytes(path)) for i, path in enumerate(paths)]
    classes = np.repeat([0, 1], 15)
    parts = [np.flatnonzero(np.arange(30) % 3 != 2), np.flatnonzero(np.arange(30) % 3 == 2)]
    first, second = (Examples(tuple(refs[i] for i in p), classes[p]) for p in parts)
    return first, second


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> HubModule:
    """A module that knows nothing."""
    directory = tmp_path_factory.mktemp("start")
    mobilenet.write_module(directory, make_random_variables(0.25, 2), Variant(0.25, SPEC.size))
    return inspection.read_module(LocatedModule("start", directory))


@pytest.fixture(scope="module")
def uninterrupted(
    start: HubModule, images: tuple[Examples, Examples], tmp_path_factory: pytest.TempPathFactory
) -> full.Trained:
    """A training that nothing stopped."""
    return full.train(start, images, SPEC, OPTIONS, tmp_path_factory.mktemp("uninterrupted"), 2)


def are_equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(value, second[name]) for name, value in first.items()
    )


def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_is_not(
    start: HubModule,
    images: tuple[Examples, Examples],
    uninterrupted: full.Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read_epoch, batches = Views.read_epoch, itertools.count(1)

    def interrupt(self: Views, *arguments: int) -> Iterator[Any]:
        for batch in read_epoch(self, *arguments):
            if next(batches) == 4:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(Views, "read_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        full.train(start, images, SPEC, OPTIONS, tmp_path, 1)
    assert "done so far: 1 of 2 epochs" in caplog.text
    monkeypatch.undo()
    resumed = full.train(start, images, SPEC, OPTIONS, tmp_path, 1)
    assert (resumed.epoch, resumed.loss) == (uninterrupted.epoch, uninterrupted.loss)
    assert are_equal(resumed.variables, uninterrupted.variables)


def test_a_damaged_checkpoint_is_refused(
    start: HubModule, images: tuple[Examples, Examples], tmp_path: Path
) -> None:
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-1"\n')
    for suffix in (".index", ".data-00000-of-00001"):
        (tmp_path / f"ckpt-1{suffix}").write_bytes(b"cut off")
    with pytest.raises(ResumeError, match="is damaged"):
        full.train(start, images, SPEC, OPTIONS, tmp_path)


def test_it_stops_when_validation_gets_no_better(
    start: HubModule,
    images: tuple[Examples, Examples],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([5.0, 9.0, 4.0, 4.5, 4.1, 4.2, 1.0])

    class Untrained(Network):
        """Stays as it is, and has the next of `losses` on every image for validation."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.step = lambda *_: (0.0, 0)

        def settle(self) -> None:
            # The cross-entropy of two classes is log(1 + exp(-difference)).
            difference = -np.log(np.expm1(next(losses)))
            self.logits = [[0.0, difference * (2 * c - 1)] for c in images[1].classes]

        def compute_logits(self, pixels: Any) -> Any:
            batch, self.logits = self.logits[: len(pixels)], self.logits[len(pixels) :]
            return np.array(batch)

    monkeypatch.setattr(full, "Network", Untrained)
    options = dataclasses.replace(OPTIONS, epochs=9)
    trained = full.train(start, images, SPEC, options, tmp_path)
    assert trained.epoch == 2
    assert trained.loss == pytest.approx(4.0)
    assert next(losses) == 1.0


def test_an_image_that_has_gone_is_named(images: tuple[Examples, Examples], tmp_path: Path) -> None:
    refs = (*images[0].refs, ImageRef(99, bytes(tmp_path / "gone.png")))
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        list(Views(refs, SPEC, 7, 0, 2).read_epoch(0))


def test_rare_classes_weigh_as_much_as_frequent_ones() -> None:
    weights = Examples((), np.array([0, 0, 0, 2])).balance()
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2])


def test_learning_rate_rises_and_falls_as_a_cosine() -> None:
    rates = [compute_learning_rate(i, 101, 0.5) for i in range(101)]
    assert rates[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    assert rates[53] == pytest.approx(0.25)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert compute_learning_rate(0, 1, 0.5) == 0.5


@pytest.mark.parametrize("preprocess", ["slim", "square", "pad"])
def test_views_are_crops_and_mirror_images_set_by_the_seed(
    images: tuple[Examples, Examples], preprocess: Any
) -> None:
    refs = images[0].refs

    def read(seed: int, epoch: int, steps_done: int = 0) -> Any:
        views = Views(refs, PixelSpec(32, preprocess), 4, seed, 2)
        batches = [(p.numpy(), i.numpy()) for p, i in views.read_epoch(epoch, steps_done)]
        return [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]

    pixels, places = read(1, 0)
    assert pixels.shape == (20, 32, 32, 3)
    assert 0 <= pixels.min() <= pixels.max() <= 1
    assert sorted(places) == list(range(20))
    again, same_places = read(1, 0)
    assert np.array_equal(pixels, again)
    assert np.array_equal(places, same_places)
    later, later_places = read(1, 0, steps_done=2)
    assert np.array_equal(later, pixels[8:])
    assert np.array_equal(later_places, places[8:])
    for seed, epoch in ((1, 1), (2, 0)):
        others, other_places = read(seed, epoch)
        assert not np.array_equal(others[other_places == 0], pixels[places == 0])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_module(tmp_path_factory.mktemp("small") / "base")


def test_all_layers_are_trained_to_a_lower_loss(small: Path, tmp_path: Path, cache: Path) -> None:
    folder, out = write_digits(tmp_path / "digits", 3, 40), tmp_path / "tuned"
    run = mnv1("finetune", folder, "-o", out, "--module", small, "--full", "--epochs", 5,
               "--batch-size", 6, "--json")  # fmt: skip
    assert run.exit_code == 0, run.stderr
    summary = json.loads(run.stdout)
    lines = [line for line in run.stderr.splitlines() if "validation loss" in line]
    losses = [float(line.split("validation loss ")[1].split(",")[0]) for line in lines]
    assert summary["epochs"] == int(np.argmin(losses)) > 0
    assert min(losses[1:]) < losses[0]
    before, after = map(read_checkpoint, (small, out))
    moved = [n for n in before if not np.allclose(before[n], after[n], atol=1e-6)]
    assert {n.rpartition("/")[2] for n in moved} >= {"moving_mean", "moving_variance", "weights"}
    assert not (tmp_path / "tuned.part").exists()
    # The other engines and precisions take it as any other.
    name = next(folder.rglob("*.png"))
    assert "digit" in mnv1("classify", name, "--module", out, "-f", "csv").stdout
    price = mnv1("module", "quantize", folder, "--module", out, "--samples", 8, "--json")
    assert json.loads(price.stdout)["agreement"] > 0.5
    integers = mnv1("classify", name, "--module", out, "--precision", "int8", "-f", "csv")
    assert "digit" in integers.stdout


def read_checkpoint(directory: Path) -> dict[str, Any]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(directory / "variables" / "variables"))
    return {
        n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map() if "Logits" not in n
    }


def test_a_killed_process_is_resumed(small: Path, tmp_path: Path) -> None:
    folder, out = write_digits(tmp_path / "digits", 2, 12), tmp_path / "tuned"
    part = tmp_path / "tuned.part"
    line = ["finetune", folder, "-o", out, "--module", small, "--full", "--batch-size", 4]
    with subprocess.Popen(
        command(*line, "--epochs", 400, "-q"), env={**os.environ}, stderr=subprocess.PIPE
    ) as process:
        end = time.monotonic() + 300
        while not list(part.glob("*.index")) and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "tuned.part"]
    refused = mnv1(*line, "--epochs", 400)
    assert refused.exit_code == 1
    assert "is left from a run that was stopped; add --resume to go on with it" in refused.stderr
    other = mnv1(*line, "--epochs", 2, "--resume")
    assert other.exit_code == 1
    assert "was begun with --epochs 400, not 2" in other.stderr
