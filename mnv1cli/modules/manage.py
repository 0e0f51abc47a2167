"""Fetch modules into the cache and remove them, with the models compiled from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError
from mnv1cli.modules import artifacts, bundled, cache, catalog, files, kaggle, locate
from mnv1cli.modules.bundled import BUNDLED
from mnv1cli.modules.fetch import forget_unreachable
from mnv1cli.types import FetchOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnv1cli.modules.cache import CachedModule
    from mnv1cli.modules.locate import LocatedModule


def fetch_module(
    name: str = locate.HUB, options: FetchOptions | None = None
) -> tuple[LocatedModule, bool]:
    """Fetch a module into the cache; return it, and whether it was in the cache already.

    Sources that could not be reached before are asked again, and a damaged module is replaced.

    Raises:
        ModuleError: `name` is a directory or no module, or no source serves the module.
    """
    if Path(name).is_dir():
        raise ModuleError(f"{name} is a directory: there is nothing to download")
    if handle := locate.settle_handle(name, options or FetchOptions()):
        forget_unreachable(handle)
        name = handle
    cached = _is_cached(name)
    return locate.locate(name, options, locate.is_intact), cached


def list_cached(names: Sequence[str] = ()) -> list[CachedModule]:
    """List modules in the cache, complete or not: those that `names` mean, or all without names.

    A name is a handle, a family name, `hub`, `bundled` for every size of it, or a
    directory in the cache. What is named on Kaggle may be in the cache of kagglehub, too.

    Raises:
        ModuleError: one of them is not in the cache.
    """
    modules = cache.list_modules(catalog.list_handles(), broken=True)
    if not names:
        return modules
    chosen = []
    for name in names:
        handle = locate.resolve_handle(name) or name
        wanted = {handle, os.path.abspath(name)}
        matching = [
            module
            for module in modules
            if {module.handle, os.path.abspath(module.path)} & wanted
            or (name == BUNDLED and module.handle.startswith(f"{BUNDLED}:"))
        ]
        if model := kaggle.parse_handle(handle):
            matching = kaggle.list_cached(model)
        if not matching:
            raise ModuleError(f"no module {name!r} in the cache", "'mnv1 module list' shows it")
        chosen += matching
    return chosen


def remove_modules(names: Sequence[str] = ()) -> list[CachedModule]:
    """Remove modules from the cache with their compiled models; all modules without `names`.

    A name is a handle, a family name, `hub`, `bundled`, or a directory in the cache.

    Raises:
        ModuleError: one of them is not in the cache, or in that of another program.
    """
    modules = list_cached(names)
    for module in modules:
        if module.path.parent != cache.cache_root():
            raise ModuleError(
                f"{module.path} is in the cache of kagglehub, which mnv1 does not change",
                "remove the folder there",
            )
    for module in modules:
        artifacts.remove(files.compute_fingerprint(module.path))
        cache.remove(module.path)
    if not names:
        # Also the models compiled from modules outside the cache.
        artifacts.remove_all()
    cache.remove_leftovers()
    return modules


def _is_cached(name: str) -> bool:
    """Return whether a module is in the cache, with all its files unchanged."""
    handle = bundled.make_cache_name() if name == BUNDLED else locate.resolve_handle(name)
    directory = cache.find_cached(handle) if handle else None
    if directory is None and handle:
        directory = kaggle.find_directory(kaggle.parse_handle(handle))
    return directory is not None and locate.is_intact(directory)
