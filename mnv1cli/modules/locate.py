"""A module located by its name, in a directory, an archive, the cache, or on the network."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError, UnreachableError
from mnv1cli.modules import bundled, cache, catalog, fetch, files, kaggle
from mnv1cli.modules.bundled import BUNDLED
from mnv1cli.modules.formats import recognise, unpack
from mnv1cli.system.offline import is_offline
from mnv1cli.types import FetchOptions

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

HUB = "hub"
# In the cache an archive's module is named by this and a digest of the archive.
ARCHIVE = "archive"

# The seconds spent to fetch the default module before the bundled one takes its place.
DEFAULT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class LocatedModule:
    """A module on disk, and the name that it is known by."""

    handle: str
    path: Path


def locate(
    name: str | None = None,
    options: FetchOptions | None = None,
    is_sound: Callable[[Path], bool] = cache.is_complete,
    image_size: int | None = None,
) -> LocatedModule:
    """Locate the module that `name` means, and fetch or build it if necessary.

    `name` is a directory, an archive, a handle, a family name, `hub` or
    `bundled`. None means the hub's module, else the bundled one with a warning;
    a module that was named is never replaced by another. A module in the cache
    that is not sound, by `is_sound` of its directory, is built or fetched anew.
    The bundled module is built for images of `image_size` pixels, else of 128.

    Raises:
        ModuleError: there is no such module, or no source serves it.
        OptionError: the bundled module cannot be built for this size.
    """
    options = options or FetchOptions()
    if name is None:
        return _locate_default(options, is_sound, image_size)
    if name == BUNDLED:
        return LocatedModule(BUNDLED, bundled.build_once(image_size, is_sound))
    handle = settle_handle(name, options)
    if handle is not None:
        return LocatedModule(handle, find_or_fetch(handle, options, is_sound))
    if name.startswith((f"{BUNDLED}:", f"{ARCHIVE}:")) and (cached := cache.find_cached(name)):
        return LocatedModule(name, _check_directory(cached, is_sound))
    path = Path(name)
    if name and path.is_dir():
        return LocatedModule(name, _check_directory(path, is_sound))
    if path.is_file():
        return LocatedModule(name, _unpack_archive(path, is_sound))
    raise ModuleError(
        f"no module {name!r}",
        "name a directory, an archive (.tar.gz, .tar, .zip), a handle, a family name such as "
        "mobilenet_v1_050_160, 'hub' or 'bundled'",
    )


def is_intact(directory: Path) -> bool:
    """Return whether a module has all its files, unchanged since it was installed."""
    return not files.find_problems(directory)


def ensure_intact(
    located: LocatedModule,
    name: str | None,
    options: FetchOptions | None,
    image_size: int | None = None,
) -> LocatedModule:
    """Return a module, built or fetched anew if its files in the cache have been changed.

    The owner of a module that is elsewhere may change it.

    Raises:
        ModuleError: the files have been changed, and no source serves the module.
    """
    cached = located.path.resolve().parent == cache.cache_root().resolve()
    if not cached or is_intact(located.path):
        return located
    return locate(name, options, is_intact, image_size)


def resolve_handle(name: str) -> str | None:
    """Return the handle that a URL, a family name or `hub` means; None for any other name.

    Every spelling of a model on Kaggle gives the same handle. A path that exists is none.

    Raises:
        ModuleError: it is the URL of a page on Kaggle, but not that of a module.
    """
    if name == HUB:
        return catalog.DEFAULT_HANDLE
    is_url = name.startswith(("http://", "https://"))
    if not is_url and (family := catalog.expand_family_name(name)):
        return family
    model = None if not is_url and os.path.exists(name) else kaggle.parse_handle(name)
    if model:
        return model.handle
    return name if is_url else None


def settle_handle(name: str, options: FetchOptions) -> str | None:
    """Return the handle that a name means, for a model on Kaggle with its newest version.

    Raises:
        UnreachableError: no version of the model is known.
    """
    handle = resolve_handle(name)
    model = kaggle.parse_handle(handle) if handle else None
    if model is None or model.version is not None:
        return handle
    policy = None if _is_offline(options) else fetch.make_policy(options)
    return kaggle.find_newest(model, policy).handle


def find_or_fetch(
    handle: str, options: FetchOptions, is_sound: Callable[[Path], bool] = cache.is_complete
) -> Path:
    """Return the directory of a handle's module, fetched from a source if it is not cached.

    The directory may be in the cache of kagglehub.

    Raises:
        UnreachableError: no source serves the module, or mnv1 is offline.
        ChecksumError: a source sent something other than what was published.
    """
    place = cache.cache_directory(handle)
    if is_sound(place):
        return place
    if local := kaggle.find_directory(kaggle.parse_handle(handle)):
        return local
    state = _describe_state(place)
    sources = _list_sources(handle, options)
    if not sources:
        raise UnreachableError(
            f"module {handle} is not in the cache ({place} {state}), and mnv1 is offline",
            "put it there, name its directory or its archive, or use --module bundled",
        )

    def fill(directory: Path) -> None:
        fetch.fetch_from_sources(handle, sources, directory, options, time_left=None)

    try:
        return cache.install(handle, fill, is_sound)
    except UnreachableError as error:
        if not place.is_dir():
            raise
        problem = f"the module in {place} {state}, and no source serves {handle}"
        raise UnreachableError(problem, error.remedy, error.failures) from error


def _describe_state(place: Path) -> str:
    """Describe what is missing or wrong in a module's directory."""
    if not place.is_dir():
        return "does not exist"
    if missing := files.find_missing_file(place):
        return f"lacks {missing}"
    state = f"is damaged: {'; '.join(files.find_problems(place))}"
    log.info("the module in %s %s", place, state)
    return state


def _check_directory(path: Path, is_sound: Callable[[Path], bool]) -> Path:
    """Return a directory if it is a sound module, else refuse it: nothing can be fetched for it."""
    if missing := files.find_missing_file(path):
        advice = recognise.advise_folder(path)
        raise ModuleError(f"{path} is not a module: {missing} is missing", advice)
    if not is_sound(path):
        raise ModuleError(
            f"the module in {path} is damaged: {'; '.join(files.find_problems(path))}",
            f"put it there again, or remove its {files.CHECKSUMS} if the change is on purpose",
        )
    return path


def _locate_default(
    options: FetchOptions, is_sound: Callable[[Path], bool], image_size: int | None
) -> LocatedModule:
    """Return the hub's module, else the bundled one with a warning that says why."""
    handle = catalog.DEFAULT_HANDLE
    place = cache.cache_directory(handle)
    if is_sound(place):
        return LocatedModule(handle, place)
    sources = _list_sources(handle, options)
    asked = list(map(fetch.describe_source, sources)) + ["--insecure"] * options.insecure
    if not sources:
        state = (
            f"in the cache it {_describe_state(place)}"
            if place.is_dir()
            else "it is not in the cache"
        )
        reason = f"{state}, and mnv1 is offline"
    elif fetch.is_unreachable(handle, asked):
        reason = "no source served it within the last day; 'mnv1 module fetch' asks again"
    else:
        # For the log: a damaged module is fetched again.
        _describe_state(place)
        deadline = time.monotonic() + DEFAULT_SECONDS

        def fill(directory: Path) -> None:
            fetch.fetch_from_sources(
                handle, sources, directory, options, lambda: deadline - time.monotonic()
            )

        try:
            return LocatedModule(handle, cache.install(handle, fill, is_sound))
        except UnreachableError as error:
            fetch.remember_unreachable(handle, asked)
            reason = f"no source serves it ({'; '.join(error.failures)})"
    path = bundled.build_once(image_size, is_sound)
    log.warning(
        "the module %s is not available: %s. Using the bundled weights instead, which were trained "
        "at 224x224%s (--module bundled silences this)",
        handle,
        reason,
        bundled.describe_loss(image_size),
    )
    return LocatedModule(BUNDLED, path)


def _is_offline(options: FetchOptions) -> bool:
    return options.offline or is_offline()


def _list_sources(handle: str, options: FetchOptions) -> list[catalog.ModuleSource]:
    """List the sources that may be asked: offline only those that are on this machine already."""
    sources = catalog.list_sources(handle, _list_mirrors())
    if not _is_offline(options):
        return sources
    return [source for source in sources if kaggle.find_directory(source.kaggle)]


def _list_mirrors() -> list[str]:
    mirrors = os.environ.get("MNV1_MIRRORS", "").split(",")
    return [mirror.strip().rstrip("/") for mirror in mirrors if mirror.strip()]


def _unpack_archive(path: Path, is_sound: Callable[[Path], bool]) -> Path:
    """Return the directory of an archive's module, which is unpacked once for each content."""

    def fill(directory: Path) -> None:
        log.info("preparing the module (once)")
        unpack.unpack_archive(path, directory)
        if missing := files.find_missing_file(directory):
            raise ModuleError(f"{path} does not hold a module: {missing} is missing")

    try:
        unpack.check_form(path)
        name = f"{ARCHIVE}:{files.hash_file(path)[:32]}"
    except OSError as error:
        raise ModuleError(f"cannot read {path}: {error.strerror}") from error
    return cache.install(name, fill, is_sound)
