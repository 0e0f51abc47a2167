"""The metadata of a run: the settings that decide its rows, and what became of its images."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from mnv1cli.errors import ResultError
from mnv1cli.path_text import make_path_fields, parse_path
from mnv1cli.types import DEFAULT_DEVICE, UNIT_RANGE, Fault, InputRange, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

_MODULE = "module"
REMEDY = "give the same settings, or write another result"
_USUAL = Task("classify")
# What decides the rows, with the names that people know it by.
_DECISIVE = {
    "command": "command", "engine": "--engine", "precision": "--precision",
    "device": "--device",
    "preprocess": "--preprocess", "exif": "--exif", "decode": "--decode",
    "damaged": "--damaged", "output": "output",
    "top": "--top", "min_probability": "--min-probability", "pool": "--pool",
    "meta": "--with-meta", "calibrated": "calibrated", "recipe": "recipe", "labels": "labels",
    "input_range": "--input-range",
}  # fmt: skip


class Counts(NamedTuple):
    """Numbers of images: those that were used, and those that could not be.

    `damaged` is how many of those that were used are damaged, None where such are refused.
    """

    done: int
    failed: int
    damaged: int | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the counts out of a JSON object.

        Raises:
            KeyError, TypeError, ValueError: they are damaged.
        """
        damaged = document.get("damaged")
        return cls(
            int(document["done"]),
            int(document["failed"]),
            None if damaged is None else int(damaged),
        )

    def to_json(self) -> dict[str, int]:
        """Return the JSON object."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Difference(NamedTuple):
    """A setting in which two runs differ, by the name that people know it by.

    Modules are named by handle; where both have the same, they are two versions of it.
    """

    name: str
    one: Any
    other: Any

    def describe(self, one: object, other: object = None) -> str:
        """Say what the result `one` was made with, and `other`, or a run without a name, not."""
        if self.name == _MODULE and self.one == self.other:
            than = "" if other is None else f" than {other}"
            return f"{one} was made with another version of module {self.one}{than}"
        against = f"not {self.other}" if other is None else f"{other} with {self.other}"
        return f"{one} was made with {self.name} {self.one}, {against}"

    def refuse(self, file: object) -> ResultError:
        """Return the error of a run that cannot go on with the result `file`."""
        remedy = REMEDY
        if self.name == _MODULE and self.one != self.other:
            remedy = f"give --module {self.one}, or write another result"
        return ResultError(self.describe(file), remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetadata:
    """The metadata of a run, its fields in the order in which JSON has them.

    `module` has `handle`, `fingerprint` and `image_size`. A setting that is None is not known;
    `top`, `min_probability`, `pool` and `meta` are in the JSON only where they differ from the
    defaults of `Task`, `device` only where it is not the CPU, `damaged` only where it is "accept",
    `input_range` only where it is not [0, 1], and `labels`, a digest of the class names, only
    where these are not ImageNet's. `more` keeps what another version has written.

    `run` names the run in the parts of a dataset. `counts`, `seconds` and `failures` are None
    as long as the run has not ended; `shard` is what `ShardPositions` notes.
    """

    version: str | None = None
    command: str | None = None
    module: Mapping[str, Any]
    engine: Any = None
    precision: Any = None
    device: str = DEFAULT_DEVICE
    calibrated: Any = None
    recipe: Any = None
    preprocess: Any = None
    exif: bool | None = None
    decode: Any = None
    damaged: Any = "refuse"
    output: str | None = None
    top: int = _USUAL.top
    min_probability: float = _USUAL.min_probability
    pool: bool = _USUAL.pool
    meta: bool = _USUAL.meta
    input_range: InputRange = UNIT_RANGE
    labels: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None
    counts: Counts | None = None
    seconds: float | None = None
    failures: tuple[Fault, ...] | None = None
    shard: Any = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any], file: object) -> Self:
        """Read metadata out of a JSON object whose `module` is one, too.

        Raises:
            ResultError: they are damaged; names `file`, the result that they belong to.
        """
        values = {name: document[name] for name in _KEYS if name in document}
        more = {name: value for name, value in document.items() if name not in _KEYS}
        try:
            if "counts" in values:
                values["counts"] = Counts.from_json(values["counts"])
            if "input_range" in values:
                low, high = values["input_range"]
                values["input_range"] = InputRange(float(low), float(high))
            if "seconds" in values:
                values["seconds"] = float(values["seconds"])
            if "failures" in values:
                values["failures"] = tuple(
                    Fault(parse_path(record), str(record["reason"]))
                    for record in values["failures"]
                )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ResultError(f"the metadata of {file} are damaged") from error
        return cls(**values, more=more)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object: what is not known, or is so by default, is left out."""
        document: dict[str, Any] = {}
        for name, usual in _DEFAULTS.items():
            value = getattr(self, name)
            if name == "more":
                document |= value
            elif value != usual:
                document[name] = value
        if self.counts is not None:
            document["counts"] = self.counts.to_json()
        if self.failures is not None:
            document["failures"] = [
                {**make_path_fields(fault.path), "reason": fault.reason} for fault in self.failures
            ]
        return document

    @property
    def accepts_damaged(self) -> bool:
        """True where each image has a warning, which is empty for those that are not damaged."""
        return bool(self.damaged == "accept")

    def ended(self, done: int, failures: Sequence[Fault], seconds: float, damaged: int = 0) -> Self:
        """Return the metadata of the run at its end: images used, images that failed, its time.

        `damaged` images are among those that were used.
        """
        return replace(
            self,
            counts=Counts(done, len(failures), damaged if self.accepts_damaged else None),
            seconds=round(seconds, 3),
            failures=tuple(failures),
        )

    def settings(self) -> Self:
        """Return what is so from the beginning of the run."""
        return replace(self, run=None, counts=None, seconds=None, failures=None)

    def difference(self, other: RunMetadata) -> Difference | None:
        """Return the first setting that decides rows in which two runs differ."""
        if (difference := compare_modules(self.module, other.module)) is not None:
            return difference
        for name, option in _DECISIVE.items():
            if getattr(self, name) != getattr(other, name):
                return Difference(option, getattr(self, name), getattr(other, name))
        return None

    def require_same(self, file: object, other: RunMetadata) -> None:
        """Compare the settings of `file`, which these are, with those of another run.

        Raises:
            ResultError: they differ in what decides rows; names the first such setting.
        """
        difference = self.difference(other)
        if difference is not None:
            raise difference.refuse(file)


def compare_modules(one: Mapping[str, Any], other: Mapping[str, Any]) -> Difference | None:
    """Return the difference between the modules of two runs, as their metadata have them.

    The fingerprints decide; people are told the handles, and the fingerprints with -v.
    """
    sizes = Difference("--image-size", one.get("image_size"), other.get("image_size"))
    is_same_size = sizes.one == sizes.other
    fingerprints = one.get("fingerprint"), other.get("fingerprint")
    if fingerprints[0] == fingerprints[1]:
        return None if is_same_size else sizes
    log.debug("the fingerprints of the two modules are %s and %s", *fingerprints)
    handles = [module.get("handle") or module.get("fingerprint") for module in (one, other)]
    # The bundled module of another size is another module with the same handle.
    return Difference(_MODULE, *handles) if is_same_size or handles[0] != handles[1] else sizes


# The keys of the JSON, each with the value that it has where it is left out.
_DEFAULTS = {
    each.name: None if each.name == "module" else each.default for each in fields(RunMetadata)
}
_KEYS = frozenset(_DEFAULTS) - {"more"}
