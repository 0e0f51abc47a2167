"""The options of reading images, as one value."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, cast

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, option
from mnv1cli.cli.options import (
    BATCH_SIZE,
    DAMAGED,
    EXIF,
    IMAGE_SIZE,
    INPUT_RANGE,
    MODULE,
    PREPROCESS,
    THREADS,
    fetch_options,
)
from mnv1cli.cli.param_types import SHARD, complete_files
from mnv1cli.errors import OptionError
from mnv1cli.path_text import display_path
from mnv1cli.types import DEFAULT_DEVICE, MAX_BYTES, MAX_LIMIT, MAX_PIXELS

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.inference.result_module import ResultModule
    from mnv1cli.inputs.listing import Listing
    from mnv1cli.inputs.shards import Shard
    from mnv1cli.types import Engine, FetchOptions, InputRange

F = TypeVar("F", bound=Callable[..., Any])


_READING_OPTIONS = (
    click.argument("inputs", metavar="INPUT...", nargs=-1, shell_complete=complete_files),
    option(
        Group.INPUT,
        "--files-from",
        metavar="FILE",
        multiple=True,
        shell_complete=complete_files,
        help="Read paths from FILE, one per line; '-' is stdin.",
    ),
    option(
        Group.INPUT,
        "-0",
        "--null",
        is_flag=True,
        help="Paths in lists end with NUL, not with a new line.",
    ),
    option(
        Group.INPUT,
        "--shard",
        metavar="I/N",
        type=SHARD,
        help="Read only part I of N of the images, counted from 0; 'mnv1 merge' joins the results.",
    ),
    option(
        Group.INPUT,
        "--recursive/--no-recursive",
        default=True,
        help="Read the folders inside folders, too (default).",
    ),
    option(
        Group.INPUT,
        "--max-bytes",
        metavar="N",
        type=click.IntRange(1, MAX_LIMIT),
        default=MAX_BYTES,
        show_default=True,
        help="Refuse files of more than N bytes.",
    ),
    MODULE,
    fetch_options,
    IMAGE_SIZE,
    INPUT_RANGE,
    PREPROCESS,
    option(
        Group.PIXELS,
        "--decode",
        type=click.Choice(("scaled", "full")),
        default="scaled",
        show_default=True,
        help="scaled: decode large JPEGs at 1/2, 1/4 or 1/8 where that is enough. "
        "full: always at full size.",
    ),
    EXIF,
    DAMAGED,
    option(
        Group.PIXELS,
        "--max-pixels",
        metavar="N",
        type=click.IntRange(1, MAX_LIMIT),
        default=MAX_PIXELS,
        show_default=True,
        help="Refuse images of more than N pixels.",
    ),
    option(
        Group.RUN,
        "--engine",
        type=click.Choice(("litert", "openvino", "tf")),
        help="litert: the module compiled for LiteRT (default where it is installed). "
        "openvino: the same, run by OpenVINO (an extra). tf: the module itself in TensorFlow.",
    ),
    option(
        Group.RUN,
        "--precision",
        type=click.Choice(("float32", "bf16", "int8")),
        default="float32",
        show_default=True,
        help="bf16 and int8 are faster and less exact. bf16 needs OpenVINO and a processor that "
        "has it; 'mnv1 module quantize' makes int8 agree better.",
    ),
    option(
        Group.RUN,
        "--device",
        metavar="NAME",
        default=DEFAULT_DEVICE,
        show_default=True,
        help="With --engine openvino: CPU, GPU, NPU or whatever OpenVINO has here.",
    ),
    option(
        Group.RUN,
        "--loader",
        type=click.Choice(("threads", "tf.data")),
        help="What decodes the images, with the same bits: threads of this program, or tf.data "
        "(default with --engine tf), which takes longer to start.",
    ),
    THREADS,
    BATCH_SIZE,
)


@dataclasses.dataclass(frozen=True)
class Reading:
    """The values of the options of reading images, under the names of the options."""

    inputs: tuple[str, ...]
    files_from: tuple[str, ...]
    null: bool
    shard: Shard | None
    recursive: bool
    module: str | None
    fetch: FetchOptions
    image_size: int | None
    input_range: InputRange
    preprocess: Any
    decode: Any
    exif: bool
    damaged: Any
    max_pixels: int
    max_bytes: int
    engine: Any
    precision: Any
    device: str
    loader: Any
    threads: int | None
    batch_size: int

    @property
    def is_empty(self) -> bool:
        """Return whether no input is named."""
        return not self.inputs and not self.files_from

    def listing(self) -> Listing:
        """Return the images; the caller closes the listing.

        Raises:
            OptionError: no input is named, or stdin is named twice.
            MissingInputError: an input does not exist.
        """
        from mnv1cli.inputs.listing import InputOptions, Listing

        if self.is_empty:
            raise OptionError(
                "no input", "name files or folders, '-' for stdin, or --files-from FILE"
            )
        if (*self.inputs, *self.files_from).count("-") > 1:
            raise OptionError("stdin can be read only once")
        stdin = sys.stdin.buffer if sys.stdin else None
        options = InputOptions(self.recursive, self.null, stdin, self.shard)
        return Listing(
            [os.fsencode(name) for name in self.inputs],
            [os.fsencode(name) for name in self.files_from],
            options,
        )

    def predictor(
        self,
        labels: Path | None = None,
        bar: TextIO | None = None,
        engine: Engine | None = None,
        made_with: ResultModule | None = None,
    ) -> Predictor:
        """Return the module with its settings.

        `engine` and the module that a result was `made_with` are used where no option names one.
        """
        from mnv1cli.inference.reopen import open_predictor
        from mnv1cli.inference.settings import Settings

        settings = Settings(
            preprocess=self.preprocess,
            decode=self.decode,
            exif=self.exif,
            damaged=self.damaged,
            max_pixels=self.max_pixels,
            max_bytes=self.max_bytes,
            image_size=self.image_size,
            input_range=self.input_range,
            labels=labels,
            engine=self.engine or engine,
            precision=self.precision,
            device=self.device,
            loader=self.loader,
            threads=self.threads,
            batch_size=self.batch_size,
            fetch=dataclasses.replace(self.fetch, bar=bar),
        )
        return open_predictor(self.module, settings, made_with)


def warn_of_empty(listing: Listing) -> None:
    """Warn of each folder that has no images."""
    for folder in listing.empty_inputs:
        console.log.warning("no images in %s", display_path(folder))


def reading_command(function: F) -> F:
    """Give a command the options of reading images, folded into `reading`."""
    return folding(function, Reading, "reading", _READING_OPTIONS)


def folding(function: F, kind: Any, argument: str, options: Iterable[Any]) -> F:
    """Give a command options, folded into a value of the dataclass `kind` as `argument`."""
    fields = [field.name for field in dataclasses.fields(kind)]

    @functools.wraps(function)
    def folded(**values: Any) -> Any:
        value = kind(**{name: values.pop(name) for name in fields})
        return function(**{argument: value}, **values)

    decorated = cast("F", folded)
    for decorate in reversed(tuple(options)):
        decorated = decorate(decorated)
    return decorated
