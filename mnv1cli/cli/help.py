"""Help under headings: the groups of options, and the sections of commands."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Group(StrEnum):
    """The headings of options, in the order of help."""

    INPUT = "What is read"
    MODULE = "The module"
    PIXELS = "Pixels"
    RUN = "How it runs"
    OUTPUT = "What is written"


# The heading of options without a group, such as --help, which come last.
_OTHER = "Other"

EXIT_CODES = """\b
Exit codes: 0 done; 1 nothing could be done; 2 wrong usage or a missing input;
3 done, but some images failed; 130 and 143 interrupted."""

# Longer names have their text on the next line.
_NAME_WIDTH = 28


class GroupedOption(click.Option):
    """An option that help shows under the heading `group`."""

    def __init__(self, *args: Any, group: Group, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Return what help shows in brackets: the default, but no range such as [x>=1]."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


def option(group: Group, *names: str, **attributes: Any) -> Callable[[F], F]:
    """Return a decorator as click's, for an option that help shows under the heading `group`."""
    decorate: Callable[[F], F] = click.option(*names, cls=GroupedOption, group=group, **attributes)
    return decorate


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under the headings of their groups, `--help` last."""
        sections: dict[str, list[tuple[str, str]]] = {name: [] for name in (*Group, _OTHER)}
        for parameter in self.get_params(ctx):
            # Arguments have a record, too, from click 8.2 on.
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                sections[getattr(parameter, "group", _OTHER)].append(record)
        if not any(sections[name] for name in Group):
            sections = {"Options": sections[_OTHER]}
        _write_sections(formatter, sections)


class CommandGroup(click.Group):
    """A group whose commands have grouped options; its help can show commands in sections."""

    command_class = GroupedCommand

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._sections: dict[str, list[str]] = {}

    def add_section(self, heading: str, *commands: click.Command) -> None:
        """Add commands that help shows under a heading."""
        for command in commands:
            self.add_command(command)
            self._sections.setdefault(heading, []).append(str(command.name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under the headings of their sections."""
        if not self._sections:
            super().format_commands(ctx, formatter)
            return
        # As much of a command's text as fits beside its name.
        limit = formatter.width - 6 - max(map(len, self.commands))
        _write_sections(
            formatter,
            {
                heading: [(name, self.commands[name].get_short_help_str(limit)) for name in names]
                for heading, names in self._sections.items()
            },
        )


def _write_sections(
    formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]
) -> None:
    """Write definition lists under headings, all with one width of the first column."""
    names = [name for records in sections.values() for name, _ in records]
    width = min(max(map(len, names), default=0), _NAME_WIDTH)
    for heading, records in sections.items():
        if records:
            with formatter.section(heading):
                rows = [(name.ljust(width), text) for name, text in records]
                formatter.write_dl(rows, col_max=_NAME_WIDTH)
