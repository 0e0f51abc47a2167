"""Fetch modules into the cache and remove them, with the models compiled from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError
from mnv1cli.modules import artifacts, cache, files, locate
from mnv1cli.modules.fetch import forget_unreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnv1cli.modules.cache import CachedModule
    from mnv1cli.modules.locate import LocatedModule
    from mnv1cli.types import FetchOptions


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
    if handle := locate.resolve_handle(name):
        forget_unreachable(handle)
    cached = locate.is_cached(name)
    return locate.locate(name, options, locate.is_intact), cached


def remove_modules(names: Sequence[str] = ()) -> list[CachedModule]:
    """Remove modules from the cache with their compiled models; all modules without `names`.

    A name is a handle, a family name, `hub`, `bundled`, or a directory in the cache.

    Raises:
        ModuleError: one of them is not in the cache.
    """
    modules = locate.list_cached(names)
    for module in modules:
        artifacts.remove(files.compute_fingerprint(module.path))
        cache.remove(module.path)
    if not names:
        # Also the models compiled from modules outside the cache.
        artifacts.remove_all()
    cache.remove_leftovers()
    return modules
