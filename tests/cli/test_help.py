"""Help in groups: options under headings, commands in sections."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import click
import pytest

from mnv1cli.cli.help import Group
from mnv1cli.cli.main import cli
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator


def walk(group: click.Group, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, (*prefix, name))
        else:
            yield (*prefix, name)


def find(words: tuple[str, ...]) -> click.Command:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


def sections(text: str) -> dict[str, list[str]]:
    """Return the headings of a help text, each with the first option or command of its lines."""
    headings: dict[str, list[str]] = {}
    entries: list[str] = []
    for line in text.splitlines():
        if heading := re.fullmatch(r"(\S.*):", line):
            entries = headings.setdefault(heading[1], [])
        elif entry := re.match(r"  (?:-\w, )?(-?[\w-]+)", line):
            entries.append(entry[1])
        elif not line:
            entries = []
    return headings


COMMANDS = sorted(walk(cli))
OWN_OPTIONS = [
    ("classify", "--top", "What is written"),
    ("classify", "--wide", "What is written"),
    ("classify", "--labels", "What is read"),
    ("classify", "--module", "The module"),
    ("classify", "--preprocess", "Pixels"),
    ("classify", "--threads", "How it runs"),
    ("evaluate", "--truth", "What is read"),
    ("finetune", "--epochs", "How it runs"),
    ("report", "--sort", "What is written"),
]


@pytest.mark.parametrize("command", ["classify", "logits", "embed", "evaluate"])
def test_options_stand_under_all_headings_with_help_last(command: str) -> None:
    headings = sections(mnv1(command, "--help").stdout)
    assert list(headings)[:6] == [*Group, "Other"]
    assert headings["Other"] == ["--help"]


@pytest.mark.parametrize(
    ("command", "headings"),
    [
        (("similar",), ["What is read", "The module", "How it runs", "What is written"]),
        (("merge",), ["How it runs", "What is written"]),
        (("report",), ["What is read", "The module", "How it runs", "What is written"]),
        (("bench",), list(Group)),
        (("finetune",), list(Group)),
        (("module", "quantize"), list(Group)),
    ],
)
def test_headings_without_options_are_left_out(
    command: tuple[str, ...], headings: list[str]
) -> None:
    assert list(sections(mnv1(*command, "--help").stdout)) == [*headings, "Other"]


@pytest.mark.parametrize(("command", "flag", "group"), OWN_OPTIONS)
def test_option_stands_in_its_group(command: str, flag: str, group: str) -> None:
    assert flag in sections(mnv1(command, "--help").stdout)[group]
    (option,) = [option for option in cli.commands[command].params if flag in option.opts]
    assert vars(option)["group"] == group


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_has_a_group_and_a_text(command: tuple[str, ...]) -> None:
    for option in find(command).params:
        if isinstance(option, click.Option):
            assert vars(option)["group"] in Group
            assert option.help
            assert option.help[-1] in ".]"


def test_commands_stand_in_sections() -> None:
    headings = sections(mnv1("--help").stdout)
    assert headings.pop("Options") == ["--version", "--help"]
    assert list(headings) == ["Results", "Analysis", "Modules", "Other"]
    assert sorted(itertools.chain.from_iterable(headings.values())) == sorted(cli.commands)


@pytest.mark.parametrize("group", [(), ("module",)])
def test_short_texts_of_commands_fit_a_narrow_terminal(group: tuple[str, ...]) -> None:
    assert "..." not in mnv1(*group, "--help").stdout.partition("-h, --help")[2]
