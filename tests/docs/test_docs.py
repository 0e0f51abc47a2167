"""The README says what is so: every command, every option, and its transcripts."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import click
import pytest

import mnv1cli
from mnv1cli.cli.main import cli
from tests.conftest import ROOT
from tests.support import transcripts
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator

README = (ROOT / "README.md").read_text("utf-8")


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, found in group.commands.items():
        if isinstance(found, click.Group):
            yield from commands(found, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", found


COMMANDS = dict(commands(cli))
OPTIONS = sorted(
    {
        (name, flag)
        for name, found in COMMANDS.items()
        for option in found.params
        if isinstance(option, click.Option)
        for flag in (*option.opts, *option.secondary_opts)
    }
)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_documented(name: str) -> None:
    words = r"\s+".join(name.split())
    assert re.search(rf"mnv1 {words}\b", README)


@pytest.mark.parametrize(("name", "flag"), OPTIONS)
def test_every_option_is_documented(name: str, flag: str) -> None:
    assert re.search(rf"`{re.escape(flag)}[` =]", README), f"{flag} of {name}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_help_text_for_all_it_takes(name: str) -> None:
    result = mnv1(*name.split(), "--help")
    assert result.exit_code == 0
    found = COMMANDS[name]
    assert found.help
    for option in found.params:
        if isinstance(option, click.Option):
            assert option.help, option.opts


def test_every_option_of_the_readme_exists() -> None:
    known = {flag for _, flag in OPTIONS} | {"--version", "--help", "-h"}
    written = set(re.findall(r"`(--?[a-z0-9][a-z-]*)", README))
    assert written <= known


@pytest.mark.parametrize(
    "steps",
    list(transcripts.transcripts(README)),
    ids=lambda steps: steps[0].command.replace("/", " "),
)
def test_transcript_is_real(steps: list[transcripts.Step]) -> None:
    for shown, real in transcripts.drifted(steps):
        pytest.fail(
            f"$ {real.command}\n{real.printed}\n'python -m tests.support.transcripts' {shown}"
        )


def test_what_is_left_out_of_the_transcripts_is_there() -> None:
    for command in transcripts.LEFT_OUT:
        assert f"$ {command}\n" in README


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("3 images in 0.1 s (36/s)\n", "3 images in 12.5 s (1,036/s)\n", True),
        ("cat,0.886361\n", "cat,0.886362\n", True),
        ("cat,0.886361\n", "cat,0.896362\n", False),
        ("cat,0.886361\n", "dog,0.886361\n", False),
        ("cat,0.8\n", "cat,0.8\ncat,0.1\n", False),
        ("3 images\n", "4 images\n", False),
    ],
)
def test_drift_is_seen(shown: str, printed: str, same: bool) -> None:
    assert transcripts.same(shown, printed) == same


def test_table_at_the_top_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run = ("classify", "examples/photos", "--top", 3, "-f", "table", "--module", "bundled")
    shown = re.search(r"```text\n(image.*?)```", README, re.S)
    assert shown
    real = [line.rstrip() for line in mnv1(*run).stdout.splitlines()]
    assert shown[1].splitlines() == real


def test_metadata_in_the_readme_is_that_of_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.chdir(ROOT)
    shown = json.loads(re.findall(r"```json\n(.*?)```", README, re.S)[0])
    out = os.path.join(tmp_path, "feats.npy")
    mnv1("embed", "examples/photos", "-o", out, "--module", "bundled")
    with open(out + ".meta.json", encoding="utf-8") as file:
        real = json.load(file)
    del shown["seconds"], real["seconds"]
    assert shown == real


def test_changelog_has_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{mnv1cli.__version__}]" in changelog
