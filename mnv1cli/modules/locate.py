"""Where a module comes from: a directory, an archive, the cache, or the network."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError, UnreachableError
from mnv1cli.modules import cache, catalog, fetch, files, mobilenet, unpack, weights
from mnv1cli.types import FetchOptions, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

log = logging.getLogger(__name__)

BUNDLED = "bundled"
HUB = "hub"
# What the modules in archives go by in the cache, with a digest of the archive.
_ARCHIVE = "archive"
_BUNDLED_VARIANT = Variant(depth_multiplier=1.0, image_size=128)
_WEIGHTS = "weights/mobilenet_v1_1.0_224.fp16.npz"

# What the default module may cost before the bundled one takes its place.
_ALL_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class LocatedModule:
    """A module on disk, and the name it goes by."""

    handle: str
    path: Path


def locate(
    name: str | None = None,
    options: FetchOptions | None = None,
    sound: Callable[[Path], bool] = cache.is_complete,
) -> LocatedModule:
    """The module that `name` means, fetched if need be; None is the default.

    `name` is a directory, a `.tar.gz` file, a handle, a family name, `hub` or
    `bundled`. The default is the hub's module, else the bundled one with a
    warning; a module that was named is never replaced by another. One in the
    cache that is not `sound` is made or fetched anew.

    Raises:
        ModuleError: there is no such module, or no source serves it.
    """
    options = options or FetchOptions()
    if name is None:
        return _locate_default(options, sound)
    if name == BUNDLED:
        return _build_bundled(sound)
    handle = resolve_handle(name)
    if handle is not None:
        return LocatedModule(handle, find_or_fetch(handle, options, sound))
    if name.startswith((f"{BUNDLED}:", f"{_ARCHIVE}:")) and (cached := cache.find_cached(name)):
        return LocatedModule(name, _check_directory(cached, sound))
    path = Path(name)
    if name and path.is_dir():
        return LocatedModule(name, _check_directory(path, sound))
    if path.is_file():
        return LocatedModule(name, _unpack_archive(path, sound))
    raise ModuleError(
        f"no module {name!r}",
        "name a directory, a .tar.gz file, a handle, a family name such as "
        "mobilenet_v1_050_160, 'hub' or 'bundled'",
    )


def is_intact(directory: Path) -> bool:
    """Whether a module's files are all there, and as they came."""
    return not files.find_problems(directory)


def ensure_intact(
    located: LocatedModule, name: str | None, options: FetchOptions | None
) -> LocatedModule:
    """A module as it came, made or fetched anew where its files in the cache have changed since.

    What lies elsewhere is its owner's to change.

    Raises:
        ModuleError: they have, and nothing serves it.
    """
    ours = located.path.resolve().parent == cache.cache_root().resolve()
    if not ours or is_intact(located.path):
        return located
    return locate(name, options, is_intact)


def resolve_handle(name: str) -> str | None:
    """The handle that a name means: a URL, a family name or `hub`; None for anything else."""
    if name == HUB:
        return catalog.DEFAULT_HANDLE
    if name.startswith(("http://", "https://")):
        return catalog.shorten_kaggle_url(name) or name
    return catalog.expand_family_name(name)


def find_or_fetch(
    handle: str, options: FetchOptions, sound: Callable[[Path], bool] = cache.is_complete
) -> Path:
    """The directory of a handle's module, from the cache or the first source that serves it.

    Raises:
        UnreachableError: none does.
        ChecksumError: a source sent something else than was published.
    """
    place = cache.cache_directory(handle)
    if sound(place):
        return place
    state = _describe_state(place)
    if _is_offline(options):
        raise UnreachableError(
            f"module {handle} is not in the cache ({place} {state}), and mnv1 is offline",
            "lay it there, name its directory or its .tar.gz, or use --module bundled",
        )
    sources = catalog.list_sources(handle, _list_mirrors())

    def fill(directory: Path) -> None:
        fetch.fetch_module(handle, sources, directory, options, time_left=None)

    try:
        return cache.install(handle, fill, sound)
    except UnreachableError as error:
        if not place.is_dir():
            raise
        what = f"the module in {place} {state}, and no source serves {handle}"
        raise UnreachableError(what, error.remedy, error.failures) from error


def _describe_state(place: Path) -> str:
    """What keeps a directory from being a sound module."""
    if not place.is_dir():
        return "is not there"
    if lacking := files.find_missing_file(place):
        return f"lacks {lacking}"
    state = f"is damaged: {'; '.join(files.find_problems(place))}"
    log.info("the module in %s %s", place, state)
    return state


def _check_directory(path: Path, sound: Callable[[Path], bool]) -> Path:
    """A directory that nothing can be fetched for."""
    if lacking := files.find_missing_file(path):
        raise ModuleError(f"{path} is not a module: {lacking} is missing")
    if not sound(path):
        raise ModuleError(
            f"the module in {path} is damaged: {'; '.join(files.find_problems(path))}",
            f"lay it there anew, or remove its {files.CHECKSUMS} if that is on purpose",
        )
    return path


def is_cached(name: str) -> bool:
    """Whether a module is in the cache, with its files as they came."""
    handle = _make_bundled_handle() if name == BUNDLED else resolve_handle(name)
    found = cache.find_cached(handle) if handle else None
    return found is not None and is_intact(found)


def list_cached(names: Sequence[str] = ()) -> list[cache.CachedModule]:
    """Modules in the cache, complete or not: those that `names` mean, all without any.

    A name is a handle, a family name, `hub`, `bundled`, or a directory in the cache.

    Raises:
        ModuleError: one of them is not in the cache.
    """
    found = cache.list_modules(catalog.list_handles(), broken=True)
    if not names:
        return found
    chosen = []
    for name in names:
        wanted = {resolve_handle(name) or name, os.path.abspath(name)}
        matching = [
            module
            for module in found
            if {module.handle, os.path.abspath(module.path)} & wanted
            or (name == BUNDLED and module.handle.startswith(f"{BUNDLED}:"))
        ]
        if not matching:
            raise ModuleError(f"no module {name!r} in the cache", "'mnv1 module list' shows it")
        chosen += matching
    return chosen


def _locate_default(options: FetchOptions, sound: Callable[[Path], bool]) -> LocatedModule:
    """The hub's module, else the bundled one with a warning that says why."""
    handle = catalog.DEFAULT_HANDLE
    place = cache.cache_directory(handle)
    if sound(place):
        return LocatedModule(handle, place)
    sources = catalog.list_sources(handle, _list_mirrors())
    asked = [source.url for source in sources] + ["--insecure"] * options.insecure
    if _is_offline(options):
        where = (
            f"in the cache it {_describe_state(place)}"
            if place.is_dir()
            else "it is not in the cache"
        )
        why = f"{where}, and mnv1 is offline"
    elif fetch.is_unreachable(handle, asked):
        why = "no source served it within the last day; 'mnv1 module fetch' asks again"
    else:
        _describe_state(place)
        deadline = time.monotonic() + _ALL_SECONDS

        def fill(directory: Path) -> None:
            fetch.fetch_module(
                handle, sources, directory, options, lambda: deadline - time.monotonic()
            )

        try:
            return LocatedModule(handle, cache.install(handle, fill, sound))
        except UnreachableError as error:
            fetch.remember_unreachable(handle, asked)
            why = f"no source serves it ({'; '.join(error.failures)})"
    log.warning(
        "the module %s cannot be had: %s. Using the bundled weights instead, which were trained "
        "at 224x224 and are less accurate at 128x128 (--module bundled silences this)",
        handle,
        why,
    )
    return _build_bundled(sound)


def _is_offline(options: FetchOptions) -> bool:
    told = os.environ.get("MNV1_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")
    return options.offline or told


def _list_mirrors() -> list[str]:
    named = os.environ.get("MNV1_MIRRORS", "").split(",")
    return [mirror.strip().rstrip("/") for mirror in named if mirror.strip()]


def _unpack_archive(path: Path, sound: Callable[[Path], bool]) -> Path:
    """The module in an archive, unpacked once for each content."""

    def fill(directory: Path) -> None:
        log.info("preparing the module (once)")
        unpack.unpack_archive(path, directory)
        if lacking := files.find_missing_file(directory):
            raise ModuleError(f"{path} does not hold a module: {lacking} is missing")

    return cache.install(f"{_ARCHIVE}:{files.hash_file(path)[:32]}", fill, sound)


def _build_bundled(sound: Callable[[Path], bool]) -> LocatedModule:
    """The module built from the package's own weights, on first use."""

    def fill(directory: Path) -> None:
        log.info("preparing the module (once)")
        with _open_bundled_weights() as path:
            mobilenet.write_module(directory, weights.read_weights(path), _BUNDLED_VARIANT)

    return LocatedModule(BUNDLED, cache.install(_make_bundled_handle(), fill, sound))


def _make_bundled_handle() -> str:
    """What the bundled module goes by in the cache: other weights, or another graph, another."""
    with _open_bundled_weights() as path:
        return f"{BUNDLED}:{mobilenet.REVISION}:{files.hash_file(path)[:32]}"


def _open_bundled_weights() -> AbstractContextManager[Path]:
    return resources.as_file(resources.files("mnv1cli") / "data" / _WEIGHTS)
