"""The options of the command line that more than one command has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from mnv1cli.cli.param_types import FILE, PLACE, SHARD, complete_files
from mnv1cli.types import (
    DEFAULT_BATCH,
    MAX_BATCH,
    MAX_BYTES,
    MAX_LIMIT,
    MAX_PIXELS,
    MAX_THREADS,
    FetchOptions,
)

F = TypeVar("F", bound=Callable[..., Any])

_FETCH_OPTIONS = (
    click.option(
        "--offline", is_flag=True, help="Never open a connection for a module. [env: MNV1_OFFLINE]"
    ),
    click.option(
        "--insecure",
        is_flag=True,
        help="Take a module over plain http though no checksum of it is known.",
    ),
    click.option(
        "--trust-module",
        is_flag=True,
        help="Take a module that does more than compute: it runs like any program.",
    ),
)
MODULE = click.option(
    "--module",
    metavar="MODULE",
    envvar="MNV1_MODULE",
    shell_complete=complete_files,
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


def fetch_options(function: F) -> F:
    """Give a command the options of fetching a module, folded into `fetch`, a FetchOptions."""

    @functools.wraps(function)
    def folded(offline: bool, insecure: bool, trust_module: bool, **values: Any) -> Any:
        fetch = FetchOptions(offline=offline, insecure=insecure, trust=trust_module)
        return function(fetch=fetch, **values)

    decorated = cast("F", folded)
    for option in reversed(_FETCH_OPTIONS):
        decorated = option(decorated)
    return decorated


READING_OPTIONS = (
    click.argument("inputs", metavar="INPUT...", nargs=-1, shell_complete=complete_files),
    click.option(
        "--files-from",
        metavar="FILE",
        multiple=True,
        shell_complete=complete_files,
        help="Read paths from FILE, one a line; '-' is stdin.",
    ),
    click.option("-0", "--null", is_flag=True, help="Paths in lists end with NUL, not a new line."),
    click.option(
        "--shard",
        metavar="I/N",
        type=SHARD,
        help="Take part I of N (from 0) of the images, by their paths; 'mnv1 merge' joins "
        "the results.",
    ),
    click.option(
        "--recursive/--no-recursive", default=True, help="Walk folders below folders (default)."
    ),
    MODULE,
    fetch_options,
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
        "--max-pixels",
        metavar="N",
        type=click.IntRange(1, MAX_LIMIT),
        default=MAX_PIXELS,
        show_default=True,
        help="Refuse images that claim more pixels.",
    ),
    click.option(
        "--max-bytes",
        metavar="N",
        type=click.IntRange(1, MAX_LIMIT),
        default=MAX_BYTES,
        show_default=True,
        help="Refuse files that are larger.",
    ),
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
)

LABELS = click.option(
    "--labels",
    metavar="FILE",
    type=FILE,
    help="Your own class names: one a line, or CSV with a column 'label'.",
)
FORCE = click.option("--force", is_flag=True, help="Replace files that exist.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Show errors and bad images alone.")
VERBOSE = click.option(
    "-v", "--verbose", is_flag=True, help="Show what TensorFlow and other libraries say."
)
RUNNER = click.option(
    "--runner",
    type=click.Choice(("local", "ray")),
    default="local",
    show_default=True,
    help="This process, or a Ray cluster, which writes a dataset.",
)
RAY_ADDRESS = click.option(
    "--ray-address",
    metavar="ADDRESS",
    envvar="RAY_ADDRESS",
    help="The cluster of --runner ray, as host:port or 'auto'. Default: one of this "
    "machine's cores, for the run. [env: RAY_ADDRESS]",
)
WRITING_OPTIONS = (
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        type=PLACE,
        help="Write to FILE, which may be s3:// or gs://, and its metadata to FILE.meta.json; a "
        "name that ends with / is a dataset, which goes on where it stands. Default: stdout.",
    ),
    click.option(
        "-f",
        "--format",
        type=click.Choice(_FORMATS),
        help="Default: FILE's suffix, else csv; classify shows a table on a terminal.",
    ),
    FORCE,
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with a run that was cut, where it stood; give the same command.",
    ),
    click.option(
        "--skip-existing",
        metavar="FILE",
        type=PLACE,
        help="Leave out the images that have a row in FILE, an earlier result or a dataset.",
    ),
    click.option(
        "--append",
        is_flag=True,
        help="Add the rows to the result that is there, by default that of --skip-existing.",
    ),
    click.option(
        "--retry-failed",
        "retry",
        is_flag=True,
        help="A dataset: do the images once more that failed in earlier runs.",
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
    RUNNER,
    RAY_ADDRESS,
    QUIET,
    VERBOSE,
)
