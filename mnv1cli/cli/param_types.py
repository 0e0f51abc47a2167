"""The types of values that options take: files, locations, shards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from mnv1cli.errors import OptionError
from mnv1cli.inputs.shards import Shard
from mnv1cli.storage.location import Location
from mnv1cli.types import InputRange


def complete_files(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete file names where the type is not a click.Path."""
    return [CompletionItem(incomplete, type="file")]


class _FileType(click.Path):
    """The path of a local file; URIs are refused, or they would be taken for paths."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Return the value as a path."""
        if Location(os.fsdecode(value)).is_remote:
            self.fail(f"{value} is not a local file.", param, ctx)
        return super().convert(value, param, ctx)


if TYPE_CHECKING:
    _LocationParam = click.ParamType[Location]
    _ShardParam = click.ParamType[Shard]
    _RangeParam = click.ParamType[InputRange]
else:
    # Generic only from click 8.4 on, and only for type checkers.
    _LocationParam = _ShardParam = _RangeParam = click.ParamType


class _LocationType(_LocationParam):
    """A path or a URI, kept as it was given."""

    name = "path"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002 - click's signature
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Location:
        """Return the value as a location."""
        return value if isinstance(value, Location) else Location(str(value))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete file names."""
        return complete_files(ctx, param, incomplete)


class _ShardType(_ShardParam):
    """A shard as I/N: part I of N."""

    name = "shard"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """Return the value as a shard."""
        try:
            return value if isinstance(value, Shard) else Shard.parse(str(value))
        except OptionError as error:
            self.fail(str(error), param, ctx)


class _InputRangeType(_RangeParam):
    """The values for black and white as LOW,HIGH."""

    name = "range"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> InputRange:
        """Return the value as an input range."""
        if isinstance(value, InputRange):
            return value
        try:
            low, high = map(float, str(value).split(","))
        except ValueError:
            self.fail(f"{value} is not LOW,HIGH, such as -1,1 or 0,255.", param, ctx)
        chosen = InputRange(low, high)
        if not chosen.is_valid:
            self.fail(f"{value} is not two finite numbers, the lower one first.", param, ctx)
        return chosen


FILE = _FileType(path_type=Path)
# Text as it was given: a slash at its end, which a Path has not, makes it a folder.
FILE_OR_FOLDER = _FileType()
LOCATION = _LocationType()
SHARD = _ShardType()
INPUT_RANGE_TYPE = _InputRangeType()
