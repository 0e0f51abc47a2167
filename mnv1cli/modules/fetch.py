"""A module from the network: its sources are asked in turn until one serves it.

The checkpoint of the family is one of them: the module is built from it here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mnv1cli.errors import ChecksumError, ModuleError, UnreachableError
from mnv1cli.modules import cache, download, files, mobilenet, unpack, weights
from mnv1cli.modules.connections import DownloadPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mnv1cli.modules.catalog import ModuleSource
    from mnv1cli.types import FetchOptions

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
# The note beside a directory of the cache that no source served its module, and how long it holds.
_UNREACHABLE = ".unreachable"
_UNREACHABLE_SECONDS = 24 * 60 * 60


def fetch_module(
    handle: str,
    sources: Sequence[ModuleSource],
    directory: Path,
    options: FetchOptions,
    time_left: Callable[[], float] | None,
) -> None:
    """Fill `directory` from the first source that serves the module."""
    policy = DownloadPolicy(CONNECT_SECONDS, bar=options.bar, insecure=options.insecure)
    failures = []
    for source in sources:
        if time_left is not None:
            left = time_left()
            if left <= 0:
                failures.append(f"{source.url}: no time left to ask")
                continue
            policy = replace(policy, retries=2, answer=left)
        try:
            _fetch_from(source, directory, policy)
        except ChecksumError:
            raise
        except ModuleError as error:
            failures.append(f"{source.url}: {error}")
            _clear(directory)
        else:
            log.info("fetched %s from %s", handle, source.url)
            return
    raise UnreachableError(
        f"no source serves {handle}",
        "lay it into the cache, name a mirror in MNV1_MIRRORS, name its directory or its "
        ".tar.gz, or use --module bundled",
        failures,
    )


def _fetch_from(source: ModuleSource, directory: Path, policy: DownloadPolicy) -> None:
    """Fill `directory` from one source."""
    packed = directory / ".download"
    download.download(source.url, packed, policy, source.sha256)
    unpacked = directory / ".unpacked"
    unpacked.mkdir()
    try:
        unpack.unpack_archive(packed, unpacked)
    except ModuleError as error:
        raise ModuleError(str(error).replace(str(packed), "what it sent")) from error
    packed.unlink()
    if source.variant is not None:
        variables = weights.read_checkpoint(unpacked)
        if not source.classifies:
            variables = weights.remove_head(variables)
        mobilenet.write_module(directory, variables, source.variant)
    elif lacking := files.find_missing_file(unpacked):
        raise ModuleError(f"the archive does not hold a module: {lacking} is missing")
    else:
        for entry in unpacked.iterdir():
            entry.rename(directory / entry.name)
    shutil.rmtree(unpacked)


def _clear(directory: Path) -> None:
    """Take away what a source that failed left."""
    shutil.rmtree(directory)
    directory.mkdir()


def remember_unreachable(handle: str, sources: Sequence[str]) -> None:
    """Note that none of the sources served a module, so that the next run need not ask."""
    note = cache.cache_directory(handle)
    text = json.dumps({"time": time.time(), "sources": list(sources)})
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.with_name(note.name + _UNREACHABLE).write_text(text)


def is_unreachable(handle: str, sources: Sequence[str]) -> bool:
    """Whether these very sources failed within the last day."""
    note = cache.cache_directory(handle)
    try:
        told = json.loads(note.with_name(note.name + _UNREACHABLE).read_text())
        age = time.time() - told["time"]
        return bool(0 <= age < _UNREACHABLE_SECONDS and told["sources"] == list(sources))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def forget_unreachable(handle: str) -> None:
    """Let the sources be asked again."""
    note = cache.cache_directory(handle)
    with contextlib.suppress(OSError):
        note.with_name(note.name + _UNREACHABLE).unlink(missing_ok=True)
