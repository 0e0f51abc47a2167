"""What makes two results of one kind: the settings that decide them, in their metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mnv1cli.errors import ResultError
from mnv1cli.types import Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mnv1cli.types import Fault

REMEDY = "give the same settings, or write another result"
# What is said of one run, and not of others with the same settings.
OF_ONE_RUN = ("counts", "seconds", "failures", "run")
# In a part of a dataset: which run wrote it.
RUN = "run"
# What decides a result, by its key in the metadata, and what it is where it does not
# stand there.
_DECISIVE = {
    **dict.fromkeys(("command", "engine", "precision", "preprocess", "exif", "decode", "output")),
    **{
        name: getattr(Task("classify"), name) for name in ("top", "min_probability", "pool", "meta")
    },
    **dict.fromkeys(("calibrated", "labels")),
}
_OPTIONS = {
    "engine": "--engine", "precision": "--precision", "preprocess": "--preprocess",
    "exif": "--exif", "decode": "--decode", "top": "--top", "pool": "--pool",
    "min_probability": "--min-probability", "meta": "--with-meta",
}  # fmt: skip


class RunCounts(Protocol):
    """Counts, time and faults of a run, as its metadata state them."""

    done: int

    @property
    def faults(self) -> Sequence[Fault]:
        """The images that failed, and why."""
        ...

    @property
    def failed(self) -> int:
        """Images that could not be used."""
        ...

    @property
    def seconds(self) -> float:
        """Time that the run took."""
        ...


class Difference(NamedTuple):
    """A setting in which two results differ, by the name that people know."""

    name: str
    one: Any
    other: Any


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> Difference | None:
    """The first setting that decides results in which two runs' metadata differ."""
    for name, begun, now in (
        ("module", one["module"].get("fingerprint"), other["module"].get("fingerprint")),
        ("--image-size", one["module"].get("image_size"), other["module"].get("image_size")),
        *((key, one.get(key, usual), other.get(key, usual)) for key, usual in _DECISIVE.items()),
    ):
        if begun != now:
            return Difference(_OPTIONS.get(name, name), begun, now)
    return None


def compare(file: object, told: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Hold what the metadata of `file` tell against those of another run.

    Raises:
        ResultError: they differ in what decides the results; names the first such.
    """
    found = difference(told, metadata)
    if found is not None:
        raise ResultError(
            f"{file} was made with {found.name} {found.one}, not {found.other}", REMEDY
        )


def settings(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's metadata tell that is so from its beginning."""
    return {key: value for key, value in metadata.items() if key not in OF_ONE_RUN}
