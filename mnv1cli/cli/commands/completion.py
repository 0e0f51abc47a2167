"""`mnv1 completion`: scripts that let a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mnv1cli.cli.help import GroupedCommand

# The variable in which the script asks the program for completions.
COMPLETION_VARIABLE = "_MNV1_COMPLETE"


@click.command(cls=GroupedCommand)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that lets a shell complete mnv1's commands.

    \b
    bash: mnv1 completion bash > ~/.local/share/bash-completion/completions/mnv1
    zsh:  mnv1 completion zsh > a file _mnv1 in a folder of $fpath
    fish: mnv1 completion fish > ~/.config/fish/completions/mnv1.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None  # click has all three
    program = context.find_root().command
    click.echo(completer(program, {}, "mnv1", COMPLETION_VARIABLE).source())
