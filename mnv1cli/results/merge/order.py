"""Parts in the order of the whole: shards by position, other results one behind the other."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from mnv1cli.errors import ResultError
from mnv1cli.path_text import display_path
from mnv1cli.types import ImageInfo, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from mnv1cli.results.merge.part import Part
    from mnv1cli.types import Fault, Prediction


# Images of a table.
_IMAGES = 1024
_AHEAD = 8
_NAMED = 3
_SAME_IMAGES = "all shards are to be made of the same images, listed alike"


class Whole(Protocol):
    """Parts that fit together."""

    parts: Sequence[Part]

    def tables(self, shape: tuple[int, ...]) -> Iterator[Table]:
        """All rows, in the order of the whole, where values are of this shape."""
        ...

    def failures(self) -> list[Fault]:
        """The images that failed, in the order of the whole, with the reasons."""
        ...


def whole_of(parts: Sequence[Part]) -> Whole:
    """What the parts make up.

    Raises:
        ResultError: some of it is missing, or there twice.
    """
    shards = [part for part in parts if part.places is not None]
    if not shards:
        return Chain(parts)
    if len(shards) < len(parts):
        other = next(part for part in parts if part.places is None)
        raise ResultError(
            f"{shards[0].name} is a shard and {other.name} is none",
            "merge shards alone, and their result with others",
        )
    return Reunion(shards)


class Reunion:
    """All shards of one listing.

    Raises:
        ResultError: a shard or an image is missing or there twice, or the shards
            are not of one listing.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        pairs = [(part.places, part) for part in parts if part.places is not None]
        pairs.sort(key=lambda pair: pair[0].shard)
        self.parts: Sequence[Part] = [part for _, part in pairs]
        self._places = [places for places, _ in pairs]
        self._check_shards()
        self._owners = self._owners_of_rows()

    def tables(self, shape: tuple[int, ...]) -> Iterator[Table]:
        """All rows, in the order of the listing."""
        # Of all parts together no more images are in memory than of one.
        ahead = max(_IMAGES // len(self.parts), _AHEAD)
        rows = [_rows(part.tables(shape, ahead)) for part in self.parts]
        for start in range(0, len(self._owners), _IMAGES):
            owners = self._owners[start : start + _IMAGES].tolist()
            # A part that has fewer rows than it should says so itself.
            found = [
                row for owner in owners if owner for row in itertools.islice(rows[owner - 1], 1)
            ]
            if found:
                yield _table(found)
        for rest in rows:
            # Each part holds its rows against what it knows when it is asked for more.
            next(rest, None)

    def failures(self) -> list[Fault]:
        """The images that failed, in the order of the listing."""
        found = (
            zip(places.failures, part.failures, strict=True)
            for places, part in zip(self._places, self.parts, strict=True)
        )
        in_order = sorted(itertools.chain.from_iterable(found), key=lambda pair: pair[0])
        return [fault for _, fault in in_order]

    def _check_shards(self) -> None:
        first, one = self._places[0], self.parts[0]
        for places, part in zip(self._places[1:], self.parts[1:], strict=True):
            if places.shard.count != first.shard.count:
                counts = first.shard.count, places.shard.count
                raise ResultError(
                    f"{one.name} is one of {counts[0]:,} shards, {part.name} of {counts[1]:,}"
                )
            if places.total != first.total:
                raise ResultError(
                    f"{one.name} is of a listing of {first.total:,} images, "
                    f"{part.name} of {places.total:,}",
                    _SAME_IMAGES,
                )
        count = first.shard.count
        for (a, b), (x, y) in zip(
            itertools.pairwise(self._places), itertools.pairwise(self.parts), strict=True
        ):
            if a.shard == b.shard:
                raise ResultError(
                    f"{x.name} and {y.name} are both shard {a.shard.index} of {count:,}",
                    "leave one of them out",
                )
        there = {places.shard.index for places in self._places}
        if len(there) < count:
            missing = (str(i) for i in range(count) if i not in there)
            verb = "is" if len(there) + 1 == count else "are"
            names = _listed("shard", missing, count - len(there))
            raise ResultError(f"{names} of {count:,} {verb} missing")

    def _owners_of_rows(self) -> NDArray[np.uint32]:
        """Which part, from 1, has the row of each image of the listing; 0 where none has."""
        images = [np.asarray(places.images(), np.uint64) for places in self._places]
        total = self._places[0].total
        if sum(map(len, images)) != total:
            self._refuse_misplaced(images, total)
        seen = np.zeros(total, bool)
        owners = np.zeros(total, np.uint32)
        for number, (found, places) in enumerate(zip(images, self._places, strict=True), start=1):
            seen[found] = True
            owners[np.asarray(places.rows, np.uint64)] = number
        if not seen.all():
            self._refuse_misplaced(images, total)
        return owners

    def _refuse_misplaced(self, images: Sequence[NDArray[np.uint64]], total: int) -> None:
        """Say which image is there twice, or in no part."""
        every = np.sort(np.concatenate(images))
        twice = every[1:][every[1:] == every[:-1]]
        if len(twice):
            one, other = [
                part.name
                for part, found in zip(self.parts, images, strict=True)
                if twice[0] in found
            ][:2]
            raise ResultError(f"{one} and {other} both have image {twice[0]:,}", _SAME_IMAGES)
        # Nothing is there twice, so that up to the first gap each image is its own number.
        gaps = total - len(every)
        missing = _gaps(every)
        raise ResultError(
            f"no shard has {_listed('image', (f'{i:,}' for i in missing), gaps)} of {total:,}",
            _SAME_IMAGES,
        )


class Chain:
    """Results of different images, one behind the other.

    What failed in one of them and is in a later one is what it became there.

    Raises:
        ResultError: two of them have the same image.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        # Of each image that failed and has no row: the last part where it did.
        self._failed = {
            fault.path: number
            for number, part in enumerate(parts)
            if not part.has_faults
            for fault in part.failures
        }
        self._mended: set[tuple[int, bytes]] = set()
        self._check_paths()

    def tables(self, shape: tuple[int, ...]) -> Iterator[Table]:
        """All rows, in the order of the parts."""
        return itertools.chain.from_iterable(part.tables(shape) for part in self.parts)

    def failures(self) -> list[Fault]:
        """The images that failed and are in no later part."""
        return [
            fault
            for number, part in enumerate(self.parts)
            for fault in part.failures
            if part.has_faults
            or (self._failed[fault.path] == number and (number, fault.path) not in self._mended)
        ]

    def _check_paths(self) -> None:
        marks = [self._marks(number, part) for number, part in enumerate(self.parts)]
        every = np.sort(np.concatenate(marks))
        for mark in every[1:][every[1:] == every[:-1]]:
            self._refuse_twice(int(mark))

    def _marks(self, number: int, part: Part) -> NDArray[np.uint64]:
        """A number for each image with a row in a part, once."""
        found = np.fromiter(map(_mark, self._watched(number, part)), np.uint64)
        return np.unique(found)

    def _watched(self, number: int, part: Part) -> Iterator[bytes]:
        """The images with rows in a part, held against those that failed in others."""
        for path in part.paths():
            failed = self._failed.get(path)
            if failed is not None and failed > number:
                raise _twice(path, part, self.parts[failed])
            if failed is not None and failed < number:
                self._mended.add((failed, path))
            yield path

    def _refuse_twice(self, mark: int) -> None:
        """Refuse an image that two parts have, if it is one and not two with one number."""
        first: dict[bytes, Part] = {}
        for part in self.parts:
            for path in part.paths():
                if _mark(path) == mark and first.setdefault(path, part) is not part:
                    raise _twice(path, first[path], part)


class _Image(NamedTuple):
    path: bytes
    error: str
    values: Any
    predictions: tuple[Prediction, ...] | None
    info: ImageInfo | None


def _rows(tables: Iterable[Table]) -> Iterator[_Image]:
    for table in tables:
        for i, (path, error) in enumerate(zip(table.paths, table.errors, strict=True)):
            yield _Image(
                path,
                error,
                None if table.values is None else table.values[i],
                table.predictions[i] if table.predictions else None,
                table.image_info[i] if table.image_info else None,
            )


def _table(images: Sequence[_Image]) -> Table:
    paths, errors, values, predictions, image_info = zip(*images, strict=True)
    return Table(
        paths,
        errors,
        None if values[0] is None else np.stack(values),
        () if predictions[0] is None else predictions,
        () if image_info[0] is None else image_info,
    )


def _mark(path: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "big")


def _twice(path: bytes, one: Part, other: Part) -> ResultError:
    return ResultError(
        f"{display_path(path)} is in {one.name} and in {other.name}",
        "merge results of different images",
    )


def _gaps(every: NDArray[np.uint64]) -> Iterator[int]:
    """The numbers from 0 on that are not among some that count up."""
    expected = 0
    for found in every.tolist():
        yield from range(expected, found)
        expected = found + 1
    yield from itertools.count(expected)


def _listed(what: str, names: Iterable[str], count: int) -> str:
    """The first few of `count` names."""
    shown = list(itertools.islice(names, min(count, _NAMED)))
    rest = [f"{count - len(shown):,} more"] if count > len(shown) else []
    *most, last = [*shown, *rest]
    together = f"{', '.join(most)} and {last}" if most else last
    return f"{what}{'s' if count > 1 else ''} {together}"
