"""A module from the network: its sources are asked in turn until one serves it.

The checkpoint of the family is one of them: the module is built from it here.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from mnv1cli.errors import ChecksumError, ModuleError, UnreachableError
from mnv1cli.modules import download, files, mobilenet, unpack, weights
from mnv1cli.modules.connections import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mnv1cli.modules.catalog import Source
    from mnv1cli.types import FetchOptions

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0


def ask(
    handle: str,
    sources: Sequence[Source],
    directory: Path,
    options: FetchOptions,
    time_left: Callable[[], float] | None,
) -> None:
    """Fill `directory` from the first source that serves the module."""
    policy = Policy(CONNECT_SECONDS, bar=options.bar, insecure=options.insecure)
    failures = []
    for source in sources:
        if time_left is not None:
            left = time_left()
            if left <= 0:
                failures.append(f"{source.url}: no time left to ask")
                continue
            policy = replace(policy, retries=2, answer=left)
        try:
            _serve(source, directory, policy)
        except ChecksumError:
            raise
        except ModuleError as error:
            failures.append(f"{source.url}: {error}")
            _empty(directory)
        else:
            log.info("fetched %s from %s", handle, source.url)
            return
    raise UnreachableError(
        f"no source serves {handle}",
        "lay it into the cache, name a mirror in MNV1_MIRRORS, name its directory or its "
        ".tar.gz, or use --module bundled",
        failures,
    )


def _serve(source: Source, directory: Path, policy: Policy) -> None:
    """Fill `directory` from one source."""
    packed = directory / ".download"
    download.fetch(source.url, packed, policy, source.sha256)
    unpacked = directory / ".unpacked"
    unpacked.mkdir()
    try:
        unpack.unpack(packed, unpacked)
    except ModuleError as error:
        raise ModuleError(str(error).replace(str(packed), "what it sent")) from error
    packed.unlink()
    if source.variant is not None:
        variables = weights.read_checkpoint(unpacked)
        if not source.classifies:
            variables = weights.without_head(variables)
        mobilenet.write_module(directory, variables, source.variant)
    elif lacking := files.missing_file(unpacked):
        raise ModuleError(f"the archive does not hold a module: {lacking} is missing")
    else:
        for entry in unpacked.iterdir():
            entry.rename(directory / entry.name)
    shutil.rmtree(unpacked)


def _empty(directory: Path) -> None:
    """Take away what a source that failed left."""
    shutil.rmtree(directory)
    directory.mkdir()
