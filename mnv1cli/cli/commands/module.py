"""The commands over modules: what there is, what it can do, where it comes from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click
from click.core import ParameterSource

from mnv1cli.cli import console
from mnv1cli.cli.options import AS_JSON, IMAGE_SIZE, QUIET, VERBOSE, fetch_options
from mnv1cli.errors import ModuleError, OptionError

if TYPE_CHECKING:
    from mnv1cli.types import FetchOptions

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)


def _module_options(function: F) -> F:
    """A module by argument or by option, and what goes to stderr."""
    for option in (
        AS_JSON,
        VERBOSE,
        QUIET,
        fetch_options,
        click.option(
            "--module", "option", metavar="MODULE", envvar="MNV1_MODULE", help="As the argument."
        ),
        click.argument("name", metavar="[MODULE]", required=False),
    ):
        function = option(function)
    return function


@click.group()
def module() -> None:
    """What modules there are, what they can do, where they come from."""


@module.command()
@_module_options
@IMAGE_SIZE
def show(
    name: str | None,
    option: str | None,
    fetch: FetchOptions,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    image_size: int | None,
) -> None:
    """Signatures, endpoints, image size, classes and fingerprint of a module."""
    with console.session(quiet, verbose) as stream:
        from mnv1cli.cli import show as listings
        from mnv1cli.modules.inspection import inspect_module

        options = with_bar(fetch, stream, quiet)
        listings.print_module(inspect_module(_chosen(name, option), options, image_size), as_json)


@module.command("list")
@AS_JSON
def list_(as_json: bool) -> None:
    """The modules in the cache, and what was compiled of them."""
    with console.session():
        from mnv1cli.cli import show as listings

        listings.print_cache(as_json)


@module.command()
@_module_options
def path(
    name: str | None,
    option: str | None,
    fetch: FetchOptions,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """The directory of a module, made ready if need be."""
    with console.session(quiet, verbose) as stream:
        from mnv1cli.cli import show as listings
        from mnv1cli.modules.cache import cache_root
        from mnv1cli.modules.locate import locate
        from mnv1cli.system.tempdirs import is_kept

        found = locate(_chosen(name, option), with_bar(fetch, stream, quiet))
        if not is_kept(found.path):
            raise ModuleError(
                f"the cache {cache_root()} cannot be written, so the module lies nowhere",
                "name another in MNV1_CACHE_DIR",
            )
        facts = {"handle": found.handle, "path": str(found.path)}
        listings.print_facts(facts, as_json, str(found.path))


@module.command()
@_module_options
def fetch(
    name: str | None,
    option: str | None,
    fetch: FetchOptions,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Download a module into the cache: a handle, a family name, or the default one.

    Asks also where the sources failed before, and mends what is damaged.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.cli import show as listings
        from mnv1cli.modules import files, locate
        from mnv1cli.modules.fetch import forget_unreachable

        start = time.monotonic()
        wanted = _chosen(name, option) or locate.HUB
        options = with_bar(fetch, stream, quiet)
        if Path(wanted).is_dir():
            raise ModuleError(f"{wanted} is a directory, which nothing is fetched to")
        if handle := locate.resolve_handle(wanted):
            forget_unreachable(handle)
        cached = locate.is_cached(wanted)
        found = locate.locate(wanted, options, locate.is_intact)
        seconds = time.monotonic() - start
        facts: dict[str, Any] = {
            "handle": found.handle,
            "path": str(found.path),
            "size": files.measure_size(found.path),
            "fingerprint": files.compute_fingerprint(found.path),
            "cached": cached,
            "seconds": round(seconds, 3),
        }
        how = "was in the cache" if cached else f"came in {seconds:.1f} s"
        said = f"{found.handle}: {listings.megabytes(facts['size'])}, {how}, in {found.path}"
        listings.print_facts(facts, as_json, said)


@module.command()
@click.argument("names", metavar="[MODULE]...", nargs=-1)
@AS_JSON
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Hold the files of modules against what came; all in the cache without MODULE.

    MODULE is a handle, a family name, 'bundled' or a directory. Exit code 1:
    something is wrong.
    """
    with console.session():
        from mnv1cli.cli import show as listings
        from mnv1cli.modules import locate

        folders = [(name, Path(name)) for name in names if Path(name).is_dir()]
        others = [name for name in names if not Path(name).is_dir()]
        if others or not names:
            folders += [(m.handle, m.path) for m in locate.list_cached(others)]
        if not listings.print_verification(folders, as_json):
            raise SystemExit(ModuleError.exit_code)


@module.command()
@click.option(
    "--checkpoint", metavar="PATH", type=_PATH, help="A TF-Slim checkpoint, or its .tgz archive."
)
@click.option("--weights", metavar="NPZ", type=_PATH, help="Variables by their TF-Slim names.")
@click.option(
    "--depth-multiplier",
    metavar="M",
    type=click.FloatRange(min=0, min_open=True),
    help="Default: told by the variables.",
)
@click.option(
    "--image-size",
    metavar="N",
    type=click.IntRange(min=32),
    help="Default: told by the name, else 128.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=_PATH,
    required=True,
    help="The module's directory, or its archive with --tar.",
)
@click.option("--tar", "as_tar", is_flag=True, help="Write a .tar.gz, as the hub serves it.")
@QUIET
@VERBOSE
@AS_JSON
def build(
    checkpoint: Path | None,
    weights: Path | None,
    depth_multiplier: float | None,
    image_size: int | None,
    output: Path,
    as_tar: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Write a TF1 Hub module from a checkpoint or from weights."""
    with console.session(quiet, verbose):
        from mnv1cli.cli import show as listings
        from mnv1cli.modules import build as builder

        if (checkpoint is None) == (weights is None):
            raise OptionError("--checkpoint or --weights is needed, one of them")
        built = builder.build_module(
            checkpoint, weights, depth_multiplier, image_size, output, as_tar
        )
        facts = {"path": str(output), "fingerprint": built}
        listings.print_facts(facts, as_json, f"{output}: fingerprint {built}")


@module.command()
@click.argument("names", metavar="[MODULE]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All modules in the cache.")
@AS_JSON
def remove(names: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Take modules out of the cache: by handle, family name, 'bundled' or directory.

    What was compiled of them goes along.
    """
    with console.session():
        from mnv1cli.cli import show as listings
        from mnv1cli.modules import artifacts, cache, files, locate

        if bool(names) == every:
            raise OptionError("name modules, or say --all")
        found = locate.list_cached(names)
        for entry in found:
            artifacts.remove(files.compute_fingerprint(entry.path))
            cache.remove(entry.path)
        if every:
            # Also what was compiled of modules that lie elsewhere.
            artifacts.remove_all()
        cache.remove_leftovers()
        listings.print_removed(found, as_json)


def _chosen(name: str | None, option: str | None) -> str | None:
    """The module named as an argument or as an option; the environment yields to the argument."""
    told = click.get_current_context().get_parameter_source("option")
    if name is not None and told is ParameterSource.COMMANDLINE:
        raise OptionError(f"two modules are named: {name} and {option}")
    return option if name is None else name


def with_bar(fetch: FetchOptions, stream: TextIO, quiet: bool) -> FetchOptions:
    """How a command's module is fetched, with a bar on a terminal."""
    return dataclasses.replace(fetch, bar=console.progress(stream, quiet))
