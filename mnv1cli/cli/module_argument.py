"""The module of the commands below `mnv1 module`: an argument, or an option as elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from mnv1cli.cli.help import Group, option
from mnv1cli.cli.options import AS_JSON, QUIET, VERBOSE, fetch_options
from mnv1cli.errors import OptionError

F = TypeVar("F", bound=Callable[..., Any])


def module_options(function: F) -> F:
    """Give a command a module by argument or by option, and the options of fetching it."""
    for decorate in (
        AS_JSON,
        VERBOSE,
        QUIET,
        fetch_options,
        option(
            Group.MODULE,
            "--module",
            "named",
            metavar="MODULE",
            envvar="MNV1_MODULE",
            help="The same as the argument MODULE. [env: MNV1_MODULE]",
        ),
        click.argument("name", metavar="[MODULE]", required=False),
    ):
        function = decorate(function)
    return function


def choose_module(name: str | None, named: str | None) -> str | None:
    """Return the module named as argument or as option; the argument overrides the environment."""
    origin = click.get_current_context().get_parameter_source("named")
    if name is not None and origin is ParameterSource.COMMANDLINE:
        raise OptionError(f"two modules are named: {name} and {named}", "name one")
    return named if name is None else name
