"""The reference of the commands in docs/reference, generated from the program.

python -m tests.support.reference            names pages that are not current, and ends with 1
python -m tests.support.reference --write    writes them
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mnv1cli.cli.help import Group
from mnv1cli.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "reference"
_INTRODUCTION = """\
# Commands

Every command with every option, as `--help` shows them. The pages are generated from the program.
"""


def leaves(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Give the commands below a group with their full names, such as "module show"."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from leaves(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    listing = [_INTRODUCTION]
    texts = {}
    for name, command in sorted(cli.commands.items()):
        listing.append(f"- [mnv1 {name}]({name}.md): {_summary(command)}")
        texts[f"{name}.md"] = _page(name, command)
    return {"index.md": "\n".join(listing) + "\n", **texts}


def stale() -> list[str]:
    """Return the names of pages that differ from what the program has now."""
    current = pages()
    existing = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")}
    return sorted(name for name in {*current, *existing} if current.get(name) != existing.get(name))


def write() -> None:
    """Write all pages, and remove those of commands that no longer exist."""
    FOLDER.mkdir(exist_ok=True)
    current = pages()
    for path in FOLDER.glob("*.md"):
        if path.name not in current:
            path.unlink()
    for name, text in current.items():
        (FOLDER / name).write_text(text, "utf-8")


def _page(name: str, command: click.Command) -> str:
    if not isinstance(command, click.Group):
        return f"# mnv1 {name}\n\n{_body(name, command, '##')}"
    parts = [f"# mnv1 {name}\n\n{_text(command.help)}\n"]
    parts += [
        f"## mnv1 {full}\n\n{_body(full, leaf, '###')}"
        for full, leaf in leaves(command, f"{name} ")
    ]
    return "\n".join(parts)


def _body(name: str, command: click.Command, level: str) -> str:
    """Write usage, help text and options of one command."""
    context = click.Context(command, info_name=f"mnv1 {name}", **cli.context_settings)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"```text\n{usage}\n```\n", f"{_text(command.help)}\n"]
    for heading, options in _groups(command.get_params(context)).items():
        rows = "".join(_row(option, context) for option in options)
        parts.append(f"{level} {heading}\n\n| option | |\n| --- | --- |\n{rows}")
    if command.epilog:
        parts.append(f"{_text(command.epilog)}\n")
    return "\n".join(parts)


def _groups(parameters: Sequence[click.Parameter]) -> dict[str, list[click.Option]]:
    """Sort options under the headings of the help, in its order; those without one come last."""
    sections: dict[str, list[click.Option]] = {name: [] for name in (*Group, "Other")}
    for option in parameters:
        if isinstance(option, click.Option) and not option.hidden:
            sections[getattr(option, "group", "Other")].append(option)
    groups = {name: options for name, options in sections.items() if options}
    return groups if len(groups) > 1 else {"Options": sections["Other"]}


def _row(option: click.Option, context: click.Context) -> str:
    names = "`, `".join(option.opts)
    if not option.is_flag:
        names += f" {option.make_metavar(context)}"
    if option.secondary_opts:
        names += "` / `" + "`, `".join(option.secondary_opts)
    record = option.get_help_record(context)
    text = record[1] if record else ""
    return f"| `{_cell(names)}` | {_cell(text)} |\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _summary(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\n\n")[0].replace("\n", " ")


def _text(help_text: str | None) -> str:
    """Turn a help text into Markdown: paragraphs that keep their lines become blocks."""
    paragraphs = inspect.cleandoc(help_text or "").split("\n\n")
    return "\n\n".join(
        f"```text\n{paragraph[2:]}\n```" if paragraph.startswith("\b\n") else paragraph
        for paragraph in paragraphs
    )


def main() -> int:
    """Check the pages, or write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="name what is not current (default)")
    action.add_argument("--write", action="store_true", help="write the pages")
    if parser.parse_args().write:
        write()
    names = stale()
    for name in names:
        sys.stdout.write(f"docs/reference/{name} is not current\n")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
