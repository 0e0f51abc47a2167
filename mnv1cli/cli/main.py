"""The group of all commands, and the program that runs it."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from mnv1cli._version import __version__
from mnv1cli.cli import console
from mnv1cli.cli.commands.bench import bench
from mnv1cli.cli.commands.classify import classify
from mnv1cli.cli.commands.completion import COMPLETION_VARIABLE, completion
from mnv1cli.cli.commands.embed import embed
from mnv1cli.cli.commands.evaluate import evaluate
from mnv1cli.cli.commands.finetune import finetune
from mnv1cli.cli.commands.labels import labels
from mnv1cli.cli.commands.logits import logits
from mnv1cli.cli.commands.merge import merge
from mnv1cli.cli.commands.module import module
from mnv1cli.cli.commands.report import report
from mnv1cli.cli.commands.similar import similar
from mnv1cli.cli.help import EXIT_CODES, CommandGroup


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="mnv1")
def cli() -> None:
    """Classify folders of images with MobileNet V1.

    \b
    mnv1 classify ./photos --top 5
    mnv1 embed ./photos -o feats.npy
    find . -name '*.jpg' -print0 | mnv1 classify -0 - -f jsonl
    """


cli.add_section("Results", classify, logits, embed, merge)
cli.add_section("Analysis", evaluate, similar, report)
cli.add_section("Modules", module, finetune, bench)
cli.add_section("Other", labels, completion)


def main() -> NoReturn:
    """Run the `mnv1` program."""
    try:
        cli(complete_var=COMPLETION_VARIABLE)
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
