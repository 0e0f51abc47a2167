"""Models on Kaggle: their handles, their newest version, and the cache of kagglehub.

A handle is `OWNER/MODEL/FRAMEWORK/VARIATION/VERSION`, as the library kagglehub
writes it, or the URL of a page. Without a version it means the newest one. What
kagglehub has in its cache is used where it is, and nothing is written there.
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from mnv1cli.errors import ModuleError, SourceError, UnreachableError
from mnv1cli.modules import cache
from mnv1cli.modules.cache import CachedModule
from mnv1cli.modules.files import find_missing_file, measure_size
from mnv1cli.modules.transfer.download import fetch_text
from mnv1cli.modules.transfer.kaggle_login import API_PATH, HOST, explain

if TYPE_CHECKING:
    from mnv1cli.modules.transfer.connections import DownloadPolicy

log = logging.getLogger(__name__)

_PAGES = f"https://{HOST}/models/"
_API = f"https://{HOST}{API_PATH}"

# The frameworks in the spelling of Kaggle's API.
_FRAMEWORKS = {
    name.lower(): name
    for name in (
        "tensorFlow1", "tensorFlow2", "tfLite", "tfJs", "keras", "pyTorch", "jax", "flax", "pax",
        "maxText", "gemmaCpp", "ggml", "gguf", "coral", "scikitLearn", "mxnet", "onnx",
        "transformers", "api", "other", "tensorRtLlm", "triton", "vllm",
    )
}  # fmt: skip
# No part can lead out of a directory.
_PART = r"([A-Za-z0-9][A-Za-z0-9._-]*)"
_MODEL = re.compile(
    rf"{_PART}/{_PART}/(?:frameworks/)?{_PART}/(?:variations/)?{_PART}(?:/(?:versions/)?(\d{{1,9}}))?"
)
_DOWNLOAD = re.compile(rf"/api/v1/models/({_PART}(?:/{_PART}){{3}}/\d+)/download")

# The most bytes of an answer that names the newest version.
_MAX_ANSWER = 1 << 20

_COMPLETE = ".complete"


class KaggleModel(NamedTuple):
    """A model on Kaggle; without a version it is the newest one."""

    owner: str
    model: str
    framework: str
    variation: str
    version: int | None = None

    @property
    def handle(self) -> str:
        """The URL of the model's page in its shortest spelling: its key in the cache."""
        return _PAGES + self.path

    @property
    def path(self) -> str:
        """The handle as kagglehub writes it."""
        return "/".join(str(part) for part in self if part is not None)

    @property
    def download_url(self) -> str:
        """The URL that serves the model's files as an archive."""
        return f"{_API}{self.path}/download"


def parse_handle(text: str) -> KaggleModel | None:
    """Parse the handle of a model on Kaggle in any spelling; return None for other texts.

    Raises:
        ModuleError: it is the URL of a page on Kaggle, but not that of a variation.
    """
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError:
        return None
    if parts.netloc.lower().removeprefix("www.") == "kaggle.com":
        download = _DOWNLOAD.fullmatch(parts.path)
        path = download[1] if download else parts.path.removeprefix("/models/").rstrip("/")
        if model := _parse_path(path):
            return model
        raise ModuleError(
            f"{text} is not the page of a model's variation on Kaggle",
            "name framework and variation too, as in "
            "google/mobilenet-v1/tensorFlow2/100-128-classification/2",
        )
    return None if "://" in text else _parse_path(text.rstrip("/"))


def _parse_path(path: str) -> KaggleModel | None:
    match = _MODEL.fullmatch(path)
    if match is None:
        return None
    owner, model, framework, variation, version = match.groups()
    # Any path may have four parts: only the framework shows that it is a handle.
    spelling = _FRAMEWORKS.get(re.sub("[-_]", "", framework).lower())
    if spelling is None:
        return None
    # As for kagglehub, version 0 is none.
    return KaggleModel(owner, model, spelling, variation, int(version or 0) or None)


def list_versions(model: KaggleModel) -> dict[int, Path]:
    """List the directories of a model's versions that kagglehub has completely in its cache.

    A directory is `models/OWNER/MODEL/FRAMEWORK/VARIATION/VERSION` in KAGGLEHUB_CACHE, else in
    `~/.cache/kagglehub`. It is complete with the mark `VERSION.complete` beside it.
    """
    root = os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub"
    versions = {}
    place = Path(root).expanduser().joinpath("models", model.owner, model.model)
    # kagglehub keeps the spelling of the framework that its user typed.
    for framework in _list_folder(place):
        parsed = _parse_path(f"{model.owner}/{model.model}/{framework.name}/{model.variation}")
        if parsed is None or parsed.framework != model.framework:
            continue
        for mark in _list_folder(framework / model.variation):
            name = mark.name.removesuffix(_COMPLETE)
            directory = mark.with_name(name)
            if mark.name != name and name.isdecimal() and find_missing_file(directory) is None:
                versions[int(name)] = directory
    return versions


def _list_folder(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def find_directory(model: KaggleModel | None) -> Path | None:
    """Return the directory of a model's version in kagglehub's cache, None if it is not there."""
    if model is None or model.version is None:
        return None
    return list_versions(model).get(model.version)


def find_newest(model: KaggleModel, policy: DownloadPolicy | None) -> KaggleModel:
    """Return the newest version of a model; where Kaggle cannot be asked, the newest in a cache.

    Without a policy of downloads Kaggle is not asked.

    Raises:
        UnreachableError: no version is known.
    """
    reason = "mnv1 is offline"
    if policy is not None:
        try:
            return model._replace(version=_ask_newest(model, policy))
        except SourceError as error:
            reason = explain(error)
    handles = [module.handle for module in list_cached(model) if module.complete]
    versions = [entry.version or 0 for handle in handles if (entry := parse_handle(handle))]
    if not versions:
        raise UnreachableError(
            f"the newest version of {model.path} is unknown",
            f"give the version, as in {model.path}/1",
            [f"{_API}{model.path}/get: {reason}"],
        )
    newest = model._replace(version=max(versions))
    log.info("using %s, which is the newest in the cache (Kaggle: %s)", newest.path, reason)
    return newest


def list_cached(model: KaggleModel) -> list[CachedModule]:
    """List a model in our cache and in that of kagglehub; without a version all of its versions."""
    modules = [
        module
        for module in cache.list_modules(broken=True)
        if module.handle == model.handle
        or (model.version is None and module.handle.startswith(f"{model.handle}/"))
    ]
    return modules + [
        CachedModule(model._replace(version=version).handle, directory, measure_size(directory))
        for version, directory in sorted(list_versions(model).items())
        if model.version in (version, None)
    ]


def _ask_newest(model: KaggleModel, policy: DownloadPolicy) -> int:
    """Ask Kaggle for the newest version of a model.

    Raises:
        SourceError: Kaggle cannot be reached, or does not name a version.
    """
    try:
        answer = json.loads(fetch_text(f"{_API}{model.path}/get", policy, _MAX_ANSWER))
        version = answer["versionNumber"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError("its answer does not name a version") from error
    if not isinstance(version, int) or version < 1:
        raise SourceError("its answer does not name a version")
    return version
