"""The options that the commands over images share, folded into one value."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import click

from mnv1cli import console
from mnv1cli.errors import OptionError
from mnv1cli.records import (
    DEFAULT_BATCH,
    MAX_BATCH,
    MAX_THREADS,
    OnError,
    OutputOptions,
    Task,
    display_path,
)

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
OFFLINE = click.option(
    "--offline", is_flag=True, help="Never open a connection. [env: MNV1_OFFLINE]"
)
MODULE = click.option(
    "--module",
    metavar="MODULE",
    envvar="MNV1_MODULE",
    help="A directory, a .tar.gz, a handle, a family name, 'hub' or 'bundled'. "
    "Default: the hub's module, else bundled. [env: MNV1_MODULE]",
)
IMAGE_SIZE = click.option(
    "--image-size",
    metavar="N",
    type=click.IntRange(min=1),
    help="For modules that do not tell theirs.",
)
PREPROCESS = click.option(
    "--preprocess",
    type=click.Choice(("slim", "squash", "square", "pad")),
    default="slim",
    show_default=True,
    help="Central 87.5 % of each side; the whole image; the central square; or the "
    "whole image with its proportions on grey.",
)
THREADS = click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, MAX_THREADS),
    help="Cores to use. Default: all that the process may use.",
)
BATCH_SIZE = click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1, MAX_BATCH),
    default=DEFAULT_BATCH,
    show_default=True,
    help="Images that go through the model at once.",
)
_FORMATS = ("csv", "tsv", "jsonl", "npy", "npz", "parquet", "table")


@dataclasses.dataclass(frozen=True)
class ImageRun:
    """The options that the commands over images share, by their names on the command line."""

    inputs: tuple[str, ...]
    files_from: tuple[str, ...]
    null: bool
    recursive: bool
    module: str | None
    offline: bool
    image_size: int | None
    preprocess: Any
    decode: Any
    exif: bool
    engine: Any
    precision: Any
    threads: int | None
    batch_size: int
    output: Path | None
    format: str | None
    force: bool
    resume: bool
    on_error: OnError
    errors: Path | None
    manifest: Path | None
    quiet: bool
    verbose: bool

    def start(self, task: Task, wide: bool = False, labels: Path | None = None) -> NoReturn:
        """Do the task; ends with the run's exit code."""
        with (
            console.session(self.quiet, self.verbose) as stream,
            contextlib.closing(self._listing()) as listing,
        ):
            from mnv1cli.api import Classifier
            from mnv1cli.tally import Tally
            from mnv1cli.target import Target

            progress = stream if stream.isatty() and not self.quiet else None
            # A process may be started without stdin or stdout: Python has None there.
            stdout = sys.stdout.buffer if sys.stdout else None
            terminal = bool(sys.stdout and sys.stdout.isatty())
            target = Target(task, self._output(wide), stdout, terminal)
            listing.require_images()
            classifier = Classifier(
                self.module,
                preprocess=self.preprocess,
                decode=self.decode,
                exif=self.exif,
                image_size=self.image_size,
                labels=labels,
                engine=self.engine,
                precision=self.precision,
                threads=self.threads,
                batch_size=self.batch_size,
                offline=self.offline,
                bar=progress,
            )
            job = classifier.job(task)
            if target.is_complete(job.settings(), job.metadata(Tally())):
                console.log.info("%s is complete: nothing is left to do", self.output)
                raise SystemExit(0)
            tally = classifier.export(listing, task, target, progress)
            for folder in listing.empty:
                console.log.warning("no images in %s", display_path(folder))
            place = f", in {self.output}" if target.options.file else ""
            console.log.info("%s%s%s", tally.summary(), listing.skipped_note(), place)
            raise SystemExit(tally.exit_code)

    def _listing(self) -> Any:
        from mnv1cli.inputs import InputOptions, Listing

        if not self.inputs and not self.files_from:
            raise OptionError("no input", "name files or folders, '-' or --files-from")
        if (*self.inputs, *self.files_from).count("-") > 1:
            raise OptionError("stdin can be read once only")
        stdin = sys.stdin.buffer if sys.stdin else None
        options = InputOptions(self.recursive, self.null, stdin)
        return Listing(
            [os.fsencode(name) for name in self.inputs],
            [os.fsencode(name) for name in self.files_from],
            options,
        )

    def _output(self, wide: bool) -> OutputOptions:
        if self.force and self.resume:
            raise OptionError("--force begins anew and --resume goes on", "say one of them")
        file = None if self.output == Path("-") else self.output
        return OutputOptions(
            file,
            self.format,
            wide,
            self.force,
            self.resume,
            self.on_error,
            self.errors,
            self.manifest,
        )


_IMAGE_OPTIONS = (
    click.argument("inputs", metavar="INPUT...", nargs=-1),
    click.option(
        "--files-from",
        metavar="FILE",
        multiple=True,
        help="Read paths from FILE, one a line; '-' is stdin.",
    ),
    click.option("-0", "--null", is_flag=True, help="Paths in lists end with NUL, not a new line."),
    click.option(
        "--recursive/--no-recursive", default=True, help="Walk folders below folders (default)."
    ),
    MODULE,
    OFFLINE,
    IMAGE_SIZE,
    PREPROCESS,
    click.option(
        "--decode",
        type=click.Choice(("scaled", "full")),
        default="scaled",
        show_default=True,
        help="Decode large JPEGs at 1/2, 1/4 or 1/8 where that suffices, or always in full.",
    ),
    click.option("--exif/--no-exif", default=True, help="Apply the EXIF orientation (default)."),
    click.option(
        "--engine",
        type=click.Choice(("litert", "tf")),
        help="The module compiled for LiteRT (default where it is installed), or as it is in "
        "TensorFlow.",
    ),
    click.option(
        "--precision",
        type=click.Choice(("float32", "int8")),
        default="float32",
        show_default=True,
        help="int8 is faster and less exact; 'mnv1 module quantize' prepares it.",
    ),
    THREADS,
    BATCH_SIZE,
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        type=FILE,
        help="Write to FILE, and its metadata to FILE.meta.json. Default: stdout.",
    ),
    click.option(
        "-f",
        "--format",
        type=click.Choice(_FORMATS),
        help="Default: FILE's suffix, else csv; classify shows a table on a terminal.",
    ),
    click.option("--force", is_flag=True, help="Replace files that exist."),
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with a run that was cut, where it stood; give the same command.",
    ),
    click.option(
        "--on-error",
        type=click.Choice(("skip", "row", "fail")),
        default="skip",
        show_default=True,
        help="A bad image is left out, keeps its row with the reason, or ends the run.",
    ),
    click.option(
        "--errors", metavar="FILE", type=FILE, help="Write the bad images to FILE: path,reason."
    ),
    click.option("--manifest", metavar="FILE", type=FILE, help="Write the run's metadata to FILE."),
    click.option("-q", "--quiet", is_flag=True, help="Show errors and bad images alone."),
    click.option(
        "-v", "--verbose", is_flag=True, help="Show what TensorFlow and other libraries say."
    ),
)


def image_command(function: F) -> F:
    """Give a command the shared options, folded into one `ImageRun`."""
    fields = [field.name for field in dataclasses.fields(ImageRun)]

    @functools.wraps(function)
    def folded(**values: Any) -> Any:
        run = ImageRun(**{name: values.pop(name) for name in fields})
        return function(run, **values)

    decorated = cast("F", folded)
    for option in reversed(_IMAGE_OPTIONS):
        decorated = option(decorated)
    return decorated
