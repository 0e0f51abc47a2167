"""What the options of the command line take: files, places, shards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from mnv1cli.errors import OptionError
from mnv1cli.inputs.shards import Shard
from mnv1cli.storage.location import Location


def complete_files(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete the names of files, for what is no click.Path."""
    return [CompletionItem(incomplete, type="file")]


class _FileType(click.Path):
    """The path of a file on this machine; a URI would be taken for one."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """What was given, as a path."""
        if Location(os.fsdecode(value)).is_remote:
            self.fail(f"{value} is no file on this machine.", param, ctx)
        return super().convert(value, param, ctx)


if TYPE_CHECKING:
    _PlaceParam = click.ParamType[Location]
    _ShardParam = click.ParamType[Shard]
else:
    # Generic from click 8.4 on, and for type checkers alone.
    _PlaceParam = _ShardParam = click.ParamType


class _PlaceType(_PlaceParam):
    """A path or a URI, kept as it was given."""

    name = "path"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Location:
        """What was given, as a place."""
        return value if isinstance(value, Location) else Location(str(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete the names of files."""
        return complete_files(ctx, param, incomplete)


class _ShardType(_ShardParam):
    """One of several parts, as I/N."""

    name = "shard"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """The part that was named."""
        try:
            return value if isinstance(value, Shard) else Shard.parse(str(value))
        except OptionError as error:
            self.fail(str(error), param, ctx)


FILE = _FileType(path_type=Path)
PLACE = _PlaceType()
SHARD = _ShardType()
