"""The options that several commands share, each in a group of the help."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TextIO, TypeVar, cast

import click

from mnv1cli.cli import console
from mnv1cli.cli.help import Group, option
from mnv1cli.cli.param_types import FILE, INPUT_RANGE_TYPE, LOCATION, complete_files
from mnv1cli.types import (
    DEFAULT_BATCH,
    MAX_BATCH,
    MAX_THREADS,
    UNIT_RANGE,
    FetchOptions,
)

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("csv", "tsv", "jsonl", "npy", "npz", "parquet", "table")

_FETCH_OPTIONS = (
    option(
        Group.MODULE,
        "--offline",
        is_flag=True,
        help="Never connect to the network for a module. [env: MNV1_OFFLINE]",
    ),
    option(
        Group.MODULE,
        "--insecure",
        is_flag=True,
        help="Accept a module over plain http even if its checksum is unknown.",
    ),
    option(
        Group.MODULE,
        "--trust-module",
        is_flag=True,
        help="Accept a module that does more than compute. It can do what any program can.",
    ),
)
MODULE = option(
    Group.MODULE,
    "--module",
    metavar="MODULE",
    envvar="MNV1_MODULE",
    shell_complete=complete_files,
    help="A directory, a .tar.gz, .tar or .zip, a handle of the hub or of Kaggle, a family name, "
    "'hub' or 'bundled'. "
    "Default: hub, or bundled where the hub cannot be reached. [env: MNV1_MODULE]",
)
IMAGE_SIZE = option(
    Group.MODULE,
    "--image-size",
    metavar="N",
    type=click.IntRange(min=1),
    help="Image size in pixels: 128, 160, 192 or 224 for 'bundled', any for modules that do not "
    "state theirs.",
)
INPUT_RANGE = option(
    Group.MODULE,
    "--input-range",
    metavar="LOW,HIGH",
    type=INPUT_RANGE_TYPE,
    default=str(UNIT_RANGE),
    show_default=True,
    help="Values that the module wants for black and white, such as -1,1 or 0,255.",
)
PREPROCESS = option(
    Group.PIXELS,
    "--preprocess",
    type=click.Choice(("slim", "squash", "square", "pad")),
    default="slim",
    show_default=True,
    help="slim: the central 87.5 % of each side. squash: the whole image. square: the central "
    "square. pad: the whole image with its proportions, on grey.",
)
EXIF = option(
    Group.PIXELS,
    "--exif/--no-exif",
    default=True,
    help="Rotate images as their EXIF orientation says (default).",
)
DAMAGED = option(
    Group.PIXELS,
    "--damaged",
    type=click.Choice(("refuse", "accept")),
    default="refuse",
    show_default=True,
    help="For JPEGs that are damaged or cut short: refuse them, or accept what can be decoded of "
    "them, with the reason as a warning. Other formats are refused.",
)
THREADS = option(
    Group.RUN,
    "--threads",
    metavar="N",
    type=click.IntRange(1, MAX_THREADS),
    help="CPU cores to use. Default: all that the process may use.",
)
BATCH_SIZE = option(
    Group.RUN,
    "--batch-size",
    metavar="N",
    type=click.IntRange(1, MAX_BATCH),
    default=DEFAULT_BATCH,
    show_default=True,
    help="Images that go through the model at once.",
)


def fetch_options(function: F) -> F:
    """Give a command the options of fetching a module, folded into `fetch`, a FetchOptions."""

    @functools.wraps(function)
    def folded(offline: bool, insecure: bool, trust_module: bool, **values: Any) -> Any:
        fetch = FetchOptions(offline=offline, insecure=insecure, trust=trust_module)
        return function(fetch=fetch, **values)

    decorated = cast("F", folded)
    for decorate in reversed(_FETCH_OPTIONS):
        decorated = decorate(decorated)
    return decorated


def with_progress(fetch: FetchOptions, stream: TextIO, quiet: bool) -> FetchOptions:
    """Return the options of fetching a module, with a bar where `stream` is a terminal."""
    return dataclasses.replace(fetch, bar=console.progress(stream, quiet))


LABELS = option(
    Group.INPUT,
    "--labels",
    metavar="FILE",
    type=FILE,
    help="Your own class names: one per line, or CSV with a column 'label'.",
)
FORCE = option(Group.OUTPUT, "--force", is_flag=True, help="Replace existing files.")
AS_JSON = option(Group.OUTPUT, "--json", "as_json", is_flag=True, help="Print JSON.")
QUIET = option(Group.RUN, "-q", "--quiet", is_flag=True, help="Show only errors and bad images.")
VERBOSE = option(
    Group.RUN,
    "-v",
    "--verbose",
    is_flag=True,
    help="Show the messages of TensorFlow and other libraries.",
)
WRITING_OPTIONS = (
    option(
        Group.OUTPUT,
        "-o",
        "--output",
        metavar="FILE",
        type=LOCATION,
        help="Write to FILE, a path or an s3:// or gs:// URI, and its metadata to FILE.meta.json. "
        "A name that ends with / is a dataset: a run adds the images that it lacks. "
        "Default: stdout.",
    ),
    option(
        Group.OUTPUT,
        "-f",
        "--format",
        type=click.Choice(FORMATS),
        help="Default: by FILE's suffix, else csv; classify prints a table on a terminal.",
    ),
    FORCE,
    option(
        Group.OUTPUT,
        "--resume",
        is_flag=True,
        help="Continue an interrupted run; repeat its other options.",
    ),
    option(
        Group.INPUT,
        "--skip-existing",
        metavar="FILE",
        type=LOCATION,
        help="Skip images that already have a row in FILE, a result or a dataset.",
    ),
    option(
        Group.INPUT,
        "--retry-failed",
        "retry",
        is_flag=True,
        help="For a dataset: try again the images that failed in earlier runs.",
    ),
    option(
        Group.OUTPUT,
        "--append",
        is_flag=True,
        help="Add rows to the existing FILE; without -o, to the result of --skip-existing.",
    ),
    option(
        Group.OUTPUT,
        "--on-error",
        type=click.Choice(("skip", "row", "fail")),
        default="skip",
        show_default=True,
        help="For an image that fails, skip writes no row, row writes one with the reason, "
        "and fail ends the run.",
    ),
    option(
        Group.OUTPUT,
        "--errors",
        metavar="FILE",
        type=FILE,
        help="Write the images that failed to FILE, as CSV with path and reason.",
    ),
    option(
        Group.OUTPUT,
        "--manifest",
        metavar="FILE",
        type=FILE,
        help="Write the run's metadata to FILE.",
    ),
    option(
        Group.RUN,
        "--runner",
        type=click.Choice(("local", "ray")),
        default="local",
        show_default=True,
        help="local: this process. ray: a Ray cluster, which writes a dataset.",
    ),
    option(
        Group.RUN,
        "--ray-address",
        metavar="ADDRESS",
        envvar="RAY_ADDRESS",
        help="The cluster of --runner ray: host:port or 'auto'. Default: one on this machine, "
        "started for the run. [env: RAY_ADDRESS]",
    ),
    QUIET,
    VERBOSE,
)
