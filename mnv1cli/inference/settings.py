"""The settings of a predictor: how images are read, and how the module is run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import get_args

from mnv1cli.errors import OptionError
from mnv1cli.inference.arguments import (
    check_choice,
    check_type,
    take_flag,
    take_integer,
    take_path,
)
from mnv1cli.system import cpu
from mnv1cli.types import (
    DEFAULT_BATCH,
    DEFAULT_DEVICE,
    MAX_BATCH,
    MAX_BYTES,
    MAX_LIMIT,
    MAX_PIXELS,
    MAX_THREADS,
    UNIT_RANGE,
    Damaged,
    Decode,
    Engine,
    FetchOptions,
    InputRange,
    Loader,
    PixelSpec,
    Precision,
    Preprocess,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a predictor is made with, beside the module.

    Attributes:
        preprocess: "slim", "squash", "square" or "pad".
        decode: "scaled" decodes large JPEGs at a fraction of their size, "full" does not.
        exif: apply the EXIF orientation.
        damaged: "refuse" JPEGs that are damaged, or "accept" them with a warning.
        image_size: the side of the module's images in pixels, for the bundled module and those
            that do not state it.
        input_range: the values that the module wants for black and for white, low and high.
        labels: a file of class names, for modules with other classes than ImageNet's.
        engine: "litert" (the module compiled), "openvino" (the same, run by OpenVINO) or "tf" (the
            module as it is); None for "openvino" with the precision "bf16", for int8 that of the
            model that was calibrated last, else "litert" where it is installed.
        precision: "float32", "bf16" with the engine "openvino", or "int8".
        device: the device of the engine "openvino", such as "CPU" or "GPU.1".
        loader: "threads" or "tf.data" decode, with the same bits; None for tf.data with the
            engine "tf", else threads.
        threads: the number of cores to use; None for all that the process may use.
        batch_size: the number of images that go through the model at once.
        max_pixels: the size in pixels above which an image is refused, by its header.
        max_bytes: the size above which a file is refused.
        fetch: how modules are fetched.

    Raises:
        OptionError: a setting has no such value.
    """

    preprocess: Preprocess = "slim"
    decode: Decode = "scaled"
    exif: bool = True
    damaged: Damaged = "refuse"
    image_size: int | None = None
    input_range: InputRange = UNIT_RANGE
    labels: Path | None = None
    engine: Engine | None = None
    precision: Precision = "float32"
    device: str = DEFAULT_DEVICE
    loader: Loader | None = None
    threads: int | None = None
    batch_size: int = DEFAULT_BATCH
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    fetch: FetchOptions = field(default_factory=FetchOptions)

    def __post_init__(self) -> None:
        check_choice("preprocess", self.preprocess, get_args(Preprocess))
        check_choice("decode", self.decode, get_args(Decode))
        check_choice("damaged", self.damaged, get_args(Damaged))
        if self.engine is not None:
            check_choice("engine", self.engine, get_args(Engine))
        if self.loader is not None:
            check_choice("loader", self.loader, get_args(Loader))
        check_choice("precision", self.precision, get_args(Precision))
        check_type("device", self.device, str, "use one such as 'CPU' or 'GPU'")
        self._set("device", self.device.upper())
        check_type("fetch", self.fetch, FetchOptions, "pass a FetchOptions")
        self._set("exif", take_flag("exif", self.exif))
        for name, high in (("threads", MAX_THREADS), ("image_size", MAX_LIMIT)):
            if (value := getattr(self, name)) is not None:
                self._set(name, take_integer(name, value, 1, high))
        for name, high in (
            ("batch_size", MAX_BATCH), ("max_pixels", MAX_LIMIT), ("max_bytes", MAX_LIMIT),
        ):  # fmt: skip
            self._set(name, take_integer(name, getattr(self, name), 1, high))
        if self.labels is not None:
            self._set("labels", Path(take_path("labels", self.labels)))
        self._set("input_range", make_input_range(self.input_range))

    def _set(self, name: str, value: object) -> None:
        """Set a field to the plain type of its value, such as int for an integer of numpy's."""
        object.__setattr__(self, name, value)

    @property
    def cores(self) -> int:
        """The number of cores to use."""
        return cpu.count_cores() if self.threads is None else self.threads

    def pixel_spec(self, size: int) -> PixelSpec:
        """Return how files become the pixels of a module whose images are `size` x `size`."""
        return PixelSpec(
            size,
            self.preprocess,
            self.decode,
            self.exif,
            self.max_pixels,
            self.max_bytes,
            self.damaged,
        )


def make_input_range(value: object) -> InputRange:
    """Make an input range of a pair of numbers, as programs in Python and metadata have it.

    Raises:
        OptionError: it is no pair of finite numbers, the lower one first.
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        # A bool is a number to Python, and a mistake here.
        numbers = [x for x in value if isinstance(x, Real) and not isinstance(x, bool)]
        with contextlib.suppress(OverflowError):
            if len(numbers) == 2 and (chosen := InputRange(*map(float, numbers))).is_valid:
                return chosen
    raise OptionError(
        f"input_range={value!r} is not valid", "use two finite numbers, the lower one first"
    )
