"""README and docs say what is so: every command and option, the links, the transcripts."""

from __future__ import annotations

import importlib
import json
import os
import re
from typing import TYPE_CHECKING

import click
import pytest

import mnv1cli
from mnv1cli.cli.main import cli
from tests.conftest import ROOT
from tests.support import reference, transcripts
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from pathlib import Path

PAGES = transcripts.pages()
TEXTS = {str(page.relative_to(ROOT)): page.read_text("utf-8") for page in PAGES}
README = TEXTS["README.md"]
OTHERS = [
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
    *(ROOT / "examples").rglob("*.md"),
    ROOT / "CHANGELOG.md",
]
COMMANDS = dict(reference.leaves(cli))
FLAGS = {
    flag
    for command in COMMANDS.values()
    for option in command.params
    if isinstance(option, click.Option)
    for flag in (*option.opts, *option.secondary_opts)
}
# Flags of other programs that the pages name.
FOREIGN = {"--array", "--check", "--sshlogin", "--write", "-W", "-b", "-d", "-m", "-print0"}


def page_ids(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"README.md"}))
def test_page_is_short(name: str) -> None:
    assert len(TEXTS[name].split()) <= 600


def test_reference_is_current() -> None:
    assert reference.stale() == [], "'python -m tests.support.reference --write' makes it so"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"`mnv1 {name}" in README
    assert f"docs/reference/{name}.md" in README


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_help_text_for_all_it_takes(name: str) -> None:
    result = mnv1(*name.split(), "--help")
    assert result.exit_code == 0
    command = COMMANDS[name]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.opts


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_option_on_a_page_exists(name: str) -> None:
    written = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", _code(TEXTS[name])))
    long = {flag for flag in written if flag.startswith("--")}
    assert long <= FLAGS | FOREIGN | {"--version", "--help"}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=page_ids([*PAGES, *OTHERS]))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in _anchors(linked.read_text("utf-8")), target


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_names_of_python_exist(name: str) -> None:
    for dotted in re.findall(r"`(mnv1cli(?:\.\w+)+)", TEXTS[name]):
        module, _, attribute = dotted.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), dotted


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_files_that_pages_name_exist(name: str) -> None:
    for path in re.findall(r"`((?:mnv1cli|tests|examples|docs)/[\w./]+)`(?!\])", TEXTS[name]):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", [name for name in TEXTS if transcripts.steps_of(TEXTS[name])])
def test_transcript_is_real(name: str) -> None:
    for shown, real in transcripts.drifted(transcripts.steps_of(TEXTS[name])):
        pytest.fail(
            f"$ {real.command}\nshown:\n{shown.printed}printed:\n{real.printed}"
            "'python -m tests.support.transcripts --write' mends it"
        )


def test_recipes_of_the_readme_run() -> None:
    recipes = re.findall(r"^(?!#).+", re.findall(r"```sh\n(.*?)```", README, re.S)[2], re.M)
    assert len(recipes) == 5
    # jq and a bucket are not at hand everywhere.
    steps = [transcripts.Step(recipe.partition(" | jq")[0], "") for recipe in recipes[:4]]
    for step in transcripts.run(steps):
        assert step.printed
        assert "error" not in step.printed, step.command


def test_what_is_left_out_of_the_transcripts_exists() -> None:
    for command in transcripts.LEFT_OUT:
        assert any(f"$ {command}\n" in text for text in TEXTS.values())


def test_tutorial_has_ten_commands_that_are_run() -> None:
    tutorial = TEXTS["docs/tutorial.md"]
    assert re.findall(r"^## (\d+)\. ", tutorial, re.M) == [str(n) for n in range(1, 11)]
    blocks = tutorial.count("```console")
    assert blocks == len(list(transcripts.transcripts(tutorial))) == 10


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


def test_mending_changes_the_right_one_of_equal_commands() -> None:
    step = transcripts.Step("date", "1\n")
    text = "```console\n$ date\n1\n```\n```console\n$ ls\na\n$ date\n1\n```\n"
    changes = [
        (transcripts.Step("ls", "a\n"), transcripts.Step("ls", "b\n")),
        (step, transcripts.Step("date", "2\n")),
    ]
    mended = transcripts.mended(text, changes)
    assert mended == "```console\n$ date\n1\n```\n```console\n$ ls\nb\n$ date\n2\n```\n"


def test_table_at_the_top_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run = ("classify", "examples/photos", "--top", 3, "-f", "table", "--module", "bundled")
    shown = re.search(r"```text\n(image.*?)```", README, re.S)
    assert shown
    real = [line.rstrip() for line in mnv1(*run).stdout.splitlines()]
    assert shown[1].splitlines() == real


def test_metadata_on_the_page_are_those_of_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.chdir(ROOT)
    shown = json.loads(re.findall(r"```json\n(.*?)```", TEXTS["docs/metadata.md"], re.S)[0])
    out = os.path.join(tmp_path, "feats.npy")
    mnv1("embed", "examples/photos", "-o", out, "--module", "bundled")
    with open(out + ".meta.json", encoding="utf-8") as file:
        real = json.load(file)
    del shown["seconds"], real["seconds"]
    assert shown == real


def test_changelog_has_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{mnv1cli.__version__}]" in changelog


def _code(text: str) -> str:
    """Return what a page shows as commands of mnv1 or names in the running text."""
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.S))
    commands = re.findall(r"^(?:\$ )?[^\n]*?\b(mnv1 [^\n|;]*)", text, re.M)
    return "\n".join([*(span for span in spans if span.startswith(("-", "mnv1 "))), *commands])


def _anchors(text: str) -> set[str]:
    """Return the anchors that GitHub and MyST make of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
