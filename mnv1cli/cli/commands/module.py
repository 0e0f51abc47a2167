"""`mnv1 module`: fetch, inspect, build, export and remove modules."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnv1cli.cli import console
from mnv1cli.cli.commands.build import build
from mnv1cli.cli.commands.export import export
from mnv1cli.cli.commands.quantize import quantize
from mnv1cli.cli.help import CommandGroup, Group, option
from mnv1cli.cli.module_argument import choose_module, module_options
from mnv1cli.cli.options import AS_JSON, IMAGE_SIZE, with_progress
from mnv1cli.errors import ModuleError, OptionError

if TYPE_CHECKING:
    from mnv1cli.types import FetchOptions


@click.group(cls=CommandGroup)
def module() -> None:
    """Fetch, inspect, build, export and remove modules."""


module.add_command(build)
module.add_command(quantize)
module.add_command(export)


@module.command()
@module_options
@IMAGE_SIZE
def show(
    name: str | None,
    named: str | None,
    fetch: FetchOptions,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    image_size: int | None,
) -> None:
    """Show the signatures, endpoints and sizes of a module."""
    with console.session(quiet, verbose) as stream:
        from mnv1cli.cli.commands.module_listings import print_module
        from mnv1cli.modules.inspection import inspect_module

        options = with_progress(fetch, stream, quiet)
        print_module(inspect_module(choose_module(name, named), options, image_size), as_json)


@module.command("list")
@AS_JSON
def list_(as_json: bool) -> None:
    """List the modules and their compiled models in the cache."""
    with console.session():
        from mnv1cli.cli.commands.module_listings import print_cache

        print_cache(as_json)


@module.command()
@module_options
@IMAGE_SIZE
def path(
    name: str | None,
    named: str | None,
    fetch: FetchOptions,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    image_size: int | None,
) -> None:
    """Print the directory of a module.

    The module is fetched, unpacked or built first if necessary.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.cli.show import print_facts
        from mnv1cli.modules.cache import cache_root
        from mnv1cli.modules.locate import locate
        from mnv1cli.system.tempdirs import is_permanent

        options = with_progress(fetch, stream, quiet)
        located = locate(choose_module(name, named), options, image_size=image_size)
        if not is_permanent(located.path):
            raise ModuleError(
                f"the cache {cache_root()} cannot be written, so the module is kept nowhere",
                "name another directory in MNV1_CACHE_DIR",
            )
        facts = {"handle": located.handle, "path": str(located.path)}
        print_facts(facts, as_json, str(located.path))


@module.command()
@module_options
def fetch(
    name: str | None,
    named: str | None,
    fetch: FetchOptions,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Download a module into the cache.

    MODULE is a handle or a family name. Default: the module of the hub. Sources that could
    not be reached before are asked again, and damaged files are replaced.
    """
    with console.session(quiet, verbose) as stream:
        from mnv1cli.cli.show import format_megabytes, print_facts
        from mnv1cli.modules.files import compute_fingerprint, measure_size
        from mnv1cli.modules.locate import HUB
        from mnv1cli.modules.manage import fetch_module

        start = time.monotonic()
        options = with_progress(fetch, stream, quiet)
        located, cached = fetch_module(choose_module(name, named) or HUB, options)
        seconds = time.monotonic() - start
        facts: dict[str, Any] = {
            "handle": located.handle,
            "path": str(located.path),
            "size": measure_size(located.path),
            "fingerprint": compute_fingerprint(located.path),
            "cached": cached,
            "seconds": round(seconds, 3),
        }
        origin = "was in the cache" if cached else f"fetched in {seconds:.1f} s"
        size = format_megabytes(facts["size"])
        print_facts(facts, as_json, f"{located.handle}: {size}, {origin}, in {located.path}")


@module.command()
@click.argument("names", metavar="[MODULE]...", nargs=-1)
@AS_JSON
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Compare the files of modules with their checksums.

    The checksums were noted when the modules were fetched.
    MODULE is a handle, a family name, 'bundled' or a directory. Default: all modules in the
    cache. Exit code 1: a module is damaged.
    """
    with console.session():
        from mnv1cli.cli.commands.module_listings import print_verification
        from mnv1cli.modules import manage

        folders = [(name, Path(name)) for name in names if Path(name).is_dir()]
        others = [name for name in names if not Path(name).is_dir()]
        if others or not names:
            folders += [(m.handle, m.path) for m in manage.list_cached(others)]
        if not print_verification(folders, as_json):
            raise SystemExit(ModuleError.exit_code)


@module.command()
@click.argument("names", metavar="[MODULE]...", nargs=-1)
@option(Group.MODULE, "--all", "every", is_flag=True, help="Remove all modules in the cache.")
@AS_JSON
def remove(names: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Remove modules and their compiled models from the cache.

    MODULE is a handle, a family name, 'bundled' or a directory in the cache.
    """
    with console.session():
        from mnv1cli.cli.commands.module_listings import print_removed
        from mnv1cli.modules.manage import remove_modules

        if bool(names) == every:
            raise OptionError("give either modules or --all")
        print_removed(remove_modules(names), as_json)
