"""The module that an existing result was made with, located again by the metadata of the result."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mnv1cli.errors import ModuleError, ResultError, UnreachableError
from mnv1cli.labels.names import compute_digest, read_labels
from mnv1cli.modules import bundled, cache, catalog, files, kaggle, locate
from mnv1cli.modules.bundled import BUNDLED
from mnv1cli.modules.files import LABELS_ASSET
from mnv1cli.modules.locate import ARCHIVE
from mnv1cli.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mnv1cli.labels.names import ClassName
    from mnv1cli.storage.location import ResultSource

log = logging.getLogger(__name__)

_GONE = "put it there, or name its directory or .tar.gz with --module"
_REMEDY = "name it with --module where it is now"


@dataclass(frozen=True, slots=True)
class ResultModule:
    """The module that an existing result was made with.

    Attributes:
        result: the name of the result in messages.
        handle: the name of the module; empty in the journals of earlier versions.
        fingerprint: the sha256 of its files.
        image_size: the side of its images in pixels.
        folder: the folder of the result, where a relative path of the module may begin, too.
    """

    result: str
    handle: str
    fingerprint: str
    image_size: int
    folder: Path | None = None

    @classmethod
    def from_metadata(cls, module: Mapping[str, Any], result: ResultSource | None = None) -> Self:
        """Read the module in the metadata of `result`, which are those of any result without it.

        Raises:
            ResultError: the metadata lack one of the facts.
        """
        for name, kind in (("handle", str), ("fingerprint", str), ("image_size", int)):
            if not isinstance(module.get(name), kind):
                raise ResultError(f"the metadata lack the module's {name}")
        return cls(
            "the result" if result is None else str(result),
            module["handle"],
            module["fingerprint"],
            module["image_size"],
            None if result is None else _find_folder(result),
        )

    @property
    def is_of_the_hub(self) -> bool:
        """True for the module that is the default where the hub can be reached."""
        return self.handle == catalog.DEFAULT_HANDLE

    def list_names(self) -> Iterator[str]:
        """Yield the names that the module may have now, to be tried in turn.

        The version that the result was made with may be in the cache under another name: that of
        the bundled module changes with the program that builds it.
        """
        if self.handle:
            yield self._resolve_path()
        if cached := self._find_in_cache():
            yield cached
        if not self.handle:
            yield BUNDLED

    @property
    def has_built_in_names(self) -> bool:
        """True for the modules of ImageNet's classes that mnv1 knows by name."""
        return self.handle == BUNDLED or catalog.parse_family_name(self.handle) is not None

    def find_class_names(
        self, digest: str | None, module: str | None = None
    ) -> tuple[ClassName, ...] | None:
        """Return the names of its own classes that the module brings, None where it cannot say.

        They have the digest of `compute_digest`; without one the module must have the fingerprint.
        The module is looked for as `module`, and where the metadata say; nothing is fetched.

        Raises:
            LabelsError: a file of class names is damaged.
        """
        for name in filter(None, (module, *self.list_names())):
            path = _find_local(name, self.image_size)
            if path is None or (digest is None and not self._is_at(path)):
                continue
            # The hub's library numbers a file whose name another one has.
            for file in sorted((path / LABELS_ASSET).parent.glob(f"{Path(LABELS_ASSET).name}*")):
                names = read_labels(file)
                if digest in (None, compute_digest(names)):
                    return names
        return None

    def is_on_disk(self, module: str | None = None) -> bool:
        """Return whether the module is on this machine, as `module` or where the metadata say."""
        names = filter(None, (module, *self.list_names()))
        paths = (_find_local(name, self.image_size) for name in names)
        return any(path is not None and self._is_at(path) for path in paths)

    def _is_at(self, path: Path) -> bool:
        return files.compute_fingerprint(path) == self.fingerprint

    def explain_failure(self, error: ModuleError) -> ModuleError:
        """Return the error of a run that needs the module, where `error` is why it has none."""
        what = f"{self.result} was made with module {self.handle}, which"
        if isinstance(error, UnreachableError):
            reason = "no source serves it" if error.failures else "mnv1 is offline"
            log.debug("%s", error)
            return ModuleError(f"{what} is not in the cache, and {reason}", _GONE)
        if _has_cache_name(self.handle):
            is_gone = cache.find_cached(self.handle) is None
        else:
            is_gone = not _is_handle(self.handle) and not os.path.exists(self._resolve_path())
        if is_gone:
            return ModuleError(f"{what} does not exist any more", _REMEDY)
        return ModuleError(f"{what} cannot be used: {error.what}", error.remedy or _REMEDY)

    def refuse_version(self) -> ResultError:
        """Return the error of a run that has only another version of the module."""
        return ResultError(
            f"{self.result} was made with another version of module {self.handle}",
            f"{_REMEDY}, or write another result",
        )

    def _find_in_cache(self) -> str | None:
        """Return a name of the module in the cache that has the same files, if there is one."""
        for module in cache.list_modules(catalog.list_handles()):
            if files.compute_fingerprint(module.path) == self.fingerprint:
                own = cache.cache_directory(bundled.make_cache_name(self.image_size))
                return BUNDLED if module.path == own else module.handle or str(module.path)
        return None

    def _resolve_path(self) -> str:
        """Return the handle; a relative path from where it leads to the module.

        That is the working directory, as it was when the result was made, or the result's folder.
        """
        handle = self.handle
        if self.folder is None or os.path.isabs(handle) or _is_handle(handle):
            return handle
        # Absolute, as it may be noted in the metadata of another run.
        beside = os.path.abspath(os.path.join(self.folder, handle))
        if not os.path.exists(beside):
            return handle
        here = os.path.isdir(handle) and files.compute_fingerprint(Path(handle))
        return handle if here == self.fingerprint or os.path.isfile(handle) else beside


def _find_folder(result: ResultSource) -> Path | None:
    """Return the folder that a result is in, None where it is in a store."""
    if isinstance(result, Location):
        return None if result.is_remote else result.path.parent
    return result.parent


def _is_handle(name: str) -> bool:
    """Return whether a name is no path: a handle, a family name, or one that mnv1 gives."""
    return name == BUNDLED or _has_cache_name(name) or locate.resolve_handle(name) is not None


def _has_cache_name(name: str) -> bool:
    """Return whether mnv1 has made up this name for a module in the cache."""
    return name.startswith((f"{BUNDLED}:", f"{ARCHIVE}:"))


def _find_local(name: str, image_size: int) -> Path | None:
    """Return the directory of the module that `name` means; None where this machine has none.

    An archive is unpacked for it.
    """
    if name == BUNDLED:
        return cache.find_cached(bundled.make_cache_name(image_size))
    if _is_handle(name):
        handle = locate.resolve_handle(name) or name
        return cache.find_cached(handle) or kaggle.find_directory(kaggle.parse_handle(handle))
    path = Path(name)
    if path.is_file():
        with contextlib.suppress(ModuleError):
            return locate.locate(name).path
        return None
    return path if cache.is_complete(path) else None
