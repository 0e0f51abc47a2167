"""A module fetched from the network: its sources are asked in turn until one serves it.

From the checkpoint of the family, or from a TF2 export of it, the TF1 module is built here.
That no source served a module is remembered for a day, so that the next run
need not ask again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ChecksumError, ModuleError, UnreachableError, WeightsError
from mnv1cli.modules import catalog, files, kaggle, mobilenet, weights
from mnv1cli.modules.cache import cache_directory
from mnv1cli.modules.formats.unpack import unpack_archive
from mnv1cli.modules.transfer import kaggle_login
from mnv1cli.modules.transfer.connections import DownloadPolicy
from mnv1cli.modules.transfer.download import download

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mnv1cli.modules.catalog import FamilyModule, ModuleSource
    from mnv1cli.types import FetchOptions

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
_UNPACKED = ".unpacked"
# The suffix of the note, beside a module's directory, that no source served it; and its life.
_UNREACHABLE = ".unreachable"
_UNREACHABLE_SECONDS = 24 * 60 * 60


def make_policy(options: FetchOptions) -> DownloadPolicy:
    """Make the policy of downloads: a login is sent to Kaggle, and to nobody else."""
    return DownloadPolicy(
        CONNECT_SECONDS,
        bar=options.bar,
        insecure=options.insecure,
        authorize=kaggle_login.authorize,
    )


def describe_source(source: ModuleSource) -> str:
    """Return the directory that has a source's module already, else its URL."""
    return str(kaggle.find_directory(source.kaggle) or source.url)


def fetch_from_sources(
    handle: str,
    sources: Sequence[ModuleSource],
    directory: Path,
    options: FetchOptions,
    time_left: Callable[[], float] | None,
) -> None:
    """Fill the empty `directory` from the first source that serves the module.

    `time_left` returns the seconds that are left for all sources together.

    Raises:
        UnreachableError: no source serves the module.
        ChecksumError: a source sent something other than what was published.
    """
    policy = make_policy(options)
    wanted = catalog.parse_tf1_handle(handle)
    failures = []
    for source in sources:
        if time_left is not None:
            left = time_left()
            if left <= 0:
                failures.append(f"{source.url}: no time left to ask")
                continue
            policy = replace(policy, retries=2, answer=left)
        try:
            _fetch_from(source, directory, policy, wanted)
        except ChecksumError:
            raise
        except ModuleError as error:
            reason = kaggle_login.explain(error).replace(f"{directory / _UNPACKED}", "what it sent")
            failures.append(f"{source.url}: {reason}")
            _clear(directory)
        else:
            log.info("fetched %s from %s", handle, describe_source(source))
            return
    raise UnreachableError(
        f"no source serves {handle}",
        "put it into the cache, set MNV1_MIRRORS to a mirror, name its directory or its "
        "archive, or use --module bundled",
        failures,
    )


def _fetch_from(
    source: ModuleSource, directory: Path, policy: DownloadPolicy, wanted: FamilyModule | None
) -> None:
    """Fill `directory` with the module that a source serves, or that is built from what it serves.

    Raises:
        ModuleError: the source serves neither.
    """
    unpacked = directory / _UNPACKED
    if local := kaggle.find_directory(source.kaggle):
        shutil.copytree(local, unpacked)
    else:
        _download(source, unpacked, policy)
    if source.is_checkpoint and wanted:
        _build_module(directory, weights.read_checkpoint(unpacked), wanted)
    elif missing := files.find_missing_file(unpacked):
        raise ModuleError(f"the archive does not hold a module: {missing} is missing")
    elif wanted and files.is_tf2_export(unpacked):
        _build_from_export(directory, unpacked, wanted)
    else:
        for entry in unpacked.iterdir():
            entry.rename(directory / entry.name)
    shutil.rmtree(unpacked)


def _download(source: ModuleSource, unpacked: Path, policy: DownloadPolicy) -> None:
    packed = unpacked.with_name(".download")
    download(source.url, packed, policy, source.sha256)
    unpacked.mkdir()
    try:
        unpack_archive(packed, unpacked)
    except ModuleError as error:
        raise ModuleError(str(error).replace(str(packed), "what it sent")) from error
    packed.unlink()


def _build_from_export(directory: Path, export: Path, wanted: FamilyModule) -> None:
    """Build a TF1 module from the variables of a TF2 export, whose graph is not used.

    Raises:
        WeightsError: the variables are not those of the module.
    """
    try:
        variables = weights.read_checkpoint(export / "variables" / "variables")
        _build_module(directory, variables, wanted)
    except WeightsError as error:
        raise WeightsError(
            f"it serves a TF2 SavedModel, from which the TF1 module cannot be built: {error.what}"
        ) from error


def _build_module(directory: Path, variables: Mapping[str, Any], wanted: FamilyModule) -> None:
    """Build a module from the family's variables.

    Raises:
        WeightsError: some are missing, or of another shape.
    """
    if not wanted.classifies:
        variables = weights.remove_head(variables)
    elif weights.count_classes(variables) is None:
        raise WeightsError("the variables of the classification are missing")
    mobilenet.write_module(directory, variables, wanted.variant)


def _clear(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


def remember_unreachable(handle: str, sources: Sequence[str]) -> None:
    """Note that none of these sources served a module, if the cache can be written."""
    place = cache_directory(handle)
    text = json.dumps({"time": time.time(), "sources": list(sources)})
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_name(place.name + _UNREACHABLE).write_text(text)


def is_unreachable(handle: str, sources: Sequence[str]) -> bool:
    """Return whether exactly these sources failed to serve a module within the last day."""
    place = cache_directory(handle)
    try:
        note = json.loads(place.with_name(place.name + _UNREACHABLE).read_text())
        age = time.time() - note["time"]
        return bool(0 <= age < _UNREACHABLE_SECONDS and note["sources"] == list(sources))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def forget_unreachable(handle: str) -> None:
    """Remove the note, so that the sources are asked again."""
    place = cache_directory(handle)
    with contextlib.suppress(OSError):
        place.with_name(place.name + _UNREACHABLE).unlink(missing_ok=True)
