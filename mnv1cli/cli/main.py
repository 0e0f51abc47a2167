"""The commands. They fold options and call the library, nothing else."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, NoReturn

import click
from click.shell_completion import get_completion_class

from mnv1cli._version import __version__
from mnv1cli.cli import console
from mnv1cli.cli.commands.bench import bench
from mnv1cli.cli.commands.evaluate import evaluate
from mnv1cli.cli.commands.finetune import finetune
from mnv1cli.cli.commands.merge import merge
from mnv1cli.cli.commands.module import module
from mnv1cli.cli.commands.report import report
from mnv1cli.cli.commands.similar import similar
from mnv1cli.cli.options import LABELS
from mnv1cli.cli.param_types import FILE
from mnv1cli.cli.run import ImageRun, image_command
from mnv1cli.types import Task

if TYPE_CHECKING:
    from pathlib import Path

_EPILOG = """\b
Exit codes: 0 done; 1 nothing could be done; 2 wrong usage, a missing input;
3 done, but images failed; 130 and 143 interrupted."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="mnv1")
def cli() -> None:
    """Classify folders of images with MobileNet V1.

    \b
    mnv1 classify ./photos --top 5
    mnv1 embed ./photos -o feats.npy
    find . -name '*.jpg' -print0 | mnv1 classify -0 - -f jsonl
    """


@cli.command(epilog=_EPILOG)
@image_command
@click.option(
    "--top",
    metavar="K",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Labels an image.",
)
@click.option(
    "--min-probability",
    metavar="P",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Leave out labels less probable than P (0 to 1).",
)
@click.option("--wide", is_flag=True, help="CSV and TSV: one row an image.")
@LABELS
@click.option(
    "--with-meta", "meta", is_flag=True, help="Add width, height, mtime and exif_datetime."
)
def classify(
    run: ImageRun, top: int, min_probability: float, wide: bool, labels: Path | None, meta: bool
) -> None:
    """The most probable labels of every image.

    INPUT is a file, a folder, a quoted glob, a URI, or '-' for paths on stdin.
    """
    if math.isnan(min_probability):
        raise click.BadParameter("nan is no probability", param_hint="--min-probability")
    task = Task("classify", top=top, min_probability=min_probability, meta=meta)
    run.start(task, wide, labels)


@cli.command(epilog=_EPILOG)
@image_command
@click.option("--probabilities", is_flag=True, help="Write the softmax of the scores.")
def logits(run: ImageRun, probabilities: bool) -> None:
    """The scores of all classes for every image.

    INPUT is a file, a folder, a quoted glob, a URI, or '-' for paths on stdin.
    """
    run.start(Task("logits", probabilities=probabilities))


@cli.command(epilog=_EPILOG)
@image_command
@click.option(
    "--endpoint",
    metavar="NAME",
    default="",
    help="Another layer than the feature vector; 'mnv1 module show' names them.",
)
@click.option(
    "--pool/--no-pool",
    default=True,
    help="Average a layer over height and width (default), or keep [n, h, w, c] (npy, npz).",
)
def embed(run: ImageRun, endpoint: str, pool: bool) -> None:
    """The feature vector of every image, or another layer's values.

    INPUT is a file, a folder, a quoted glob, a URI, or '-' for paths on stdin.
    """
    run.start(Task("embed", endpoint=endpoint, pool=pool))


@cli.command()
@click.argument("pattern", required=False)
@click.option("--labels", "own", metavar="FILE", type=FILE, help="Search your own class names.")
@click.option(
    "-f",
    "--format",
    "format_",
    type=click.Choice(("table", "csv", "tsv", "jsonl")),
    help="Default: a table on a terminal, else csv.",
)
def labels(pattern: str | None, own: Path | None, format_: str | None) -> None:
    """The classes whose id, WordNet id, label or synonyms match PATTERN."""
    with console.session():
        from mnv1cli.cli import show

        show.print_labels(pattern, own, format_ or ("table" if sys.stdout.isatty() else "csv"))


@cli.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print what completes mnv1's commands and options in a SHELL.

    \b
    bash: mnv1 completion bash > ~/.local/share/bash-completion/completions/mnv1
    zsh:  mnv1 completion zsh > a file _mnv1 in a folder of $fpath
    fish: mnv1 completion fish > ~/.config/fish/completions/mnv1.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # click has all three
    click.echo(found(cli, {}, "mnv1", "_MNV1_COMPLETE").source())


cli.add_command(evaluate)
cli.add_command(merge)
cli.add_command(similar)
cli.add_command(report)
cli.add_command(bench)
cli.add_command(finetune)
cli.add_command(module)


def main() -> NoReturn:
    """The `mnv1` program."""
    try:
        cli(complete_var="_MNV1_COMPLETE")
    except SystemExit as end:
        stopped = end.code in (console.INTERRUPTED, console.TERMINATED)
        if not stopped and not console.threads_are_left():
            raise
        # Threads may be deep in a read that never ends, or in an import that nobody
        # needs any more: leave them.
        console.leave(int(end.code or 0))
    except OSError as error:
        # `--help` or `--version` into a full disk.
        sys.exit(f"mnv1: error: {error}")
    raise AssertionError("click returned")
