"""All shards of a run, whose rows are merged in the order of the listing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mnv1cli.errors import ResultError
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
_SAME_IMAGES = "make all shards from the same images, listed in the same order"


class AllShards:
    """All shards of one listing, in whose order the rows come.

    Raises:
        ResultError: a shard or an image is missing or exists twice, or the shards
            are not of one listing.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        pairs = [(part.positions, part) for part in parts if part.positions is not None]
        pairs.sort(key=lambda pair: pair[0].shard)
        self.parts: Sequence[Part] = [part for _, part in pairs]
        self._positions = [positions for positions, _ in pairs]
        self._require_one_listing()
        self._require_each_shard_once()
        self._owners = self._find_owners()

    def tables(self, shape: tuple[int, ...]) -> Iterator[Table]:
        """Yield all rows, in the order of the listing."""
        # Of all parts together no more images are in memory than of one.
        ahead = max(_IMAGES // len(self.parts), _AHEAD)
        rows = [_rows(part.tables(shape, ahead)) for part in self.parts]
        for start in range(0, len(self._owners), _IMAGES):
            owners = self._owners[start : start + _IMAGES].tolist()
            # A part that has fewer rows than it should reports that itself.
            images = [
                row for owner in owners if owner for row in itertools.islice(rows[owner - 1], 1)
            ]
            if images:
                yield _table(images)
        for remaining in rows:
            # Each part checks its rows as a whole when it is asked for more.
            next(remaining, None)

    def failures(self) -> list[Fault]:
        """Return the images that failed, in the order of the listing."""
        pairs = (
            zip(positions.failures, part.failures, strict=True)
            for positions, part in zip(self._positions, self.parts, strict=True)
        )
        in_order = sorted(itertools.chain.from_iterable(pairs), key=lambda pair: pair[0])
        return [fault for _, fault in in_order]

    def _require_one_listing(self) -> None:
        first, name = self._positions[0], self.parts[0].name
        for positions, part in zip(self._positions[1:], self.parts[1:], strict=True):
            if positions.shard.count != first.shard.count:
                counts = first.shard.count, positions.shard.count
                raise ResultError(
                    f"{name} is one of {counts[0]:,} shards, {part.name} of {counts[1]:,}"
                )
            if positions.total != first.total:
                raise ResultError(
                    f"{name} is of a listing of {first.total:,} images, "
                    f"{part.name} of {positions.total:,}",
                    _SAME_IMAGES,
                )

    def _require_each_shard_once(self) -> None:
        count = self._positions[0].shard.count
        shards = [positions.shard for positions in self._positions]
        for (shard, following), (part, next_part) in zip(
            itertools.pairwise(shards), itertools.pairwise(self.parts), strict=True
        ):
            if shard == following:
                raise ResultError(
                    f"{part.name} and {next_part.name} are both shard {shard.index} of {count:,}",
                    "leave one of them out",
                )
        existing = {shard.index for shard in shards}
        if len(existing) < count:
            missing = (str(i) for i in range(count) if i not in existing)
            verb = "is" if len(existing) + 1 == count else "are"
            names = _list_first("shard", missing, count - len(existing))
            raise ResultError(f"{names} of {count:,} {verb} missing")

    def _find_owners(self) -> NDArray[np.uint32]:
        """Return which part, from 1, has the row of each image of the listing; 0 where none has."""
        images = [np.asarray(each.all_images(), np.uint64) for each in self._positions]
        total = self._positions[0].total
        if sum(map(len, images)) != total:
            self._refuse_misplaced(images, total)
        seen = np.zeros(total, bool)
        owners = np.zeros(total, np.uint32)
        pairs = zip(images, self._positions, strict=True)
        for number, (own_images, positions) in enumerate(pairs, start=1):
            seen[own_images] = True
            owners[np.asarray(positions.rows, np.uint64)] = number
        if not seen.all():
            self._refuse_misplaced(images, total)
        return owners

    def _refuse_misplaced(self, images: Sequence[NDArray[np.uint64]], total: int) -> None:
        """Report which image is in two parts, or in none.

        Raises:
            ResultError: always.
        """
        positions = np.sort(np.concatenate(images))
        twice = positions[1:][positions[1:] == positions[:-1]]
        if len(twice):
            owners = [
                part.name
                for part, own_images in zip(self.parts, images, strict=True)
                if twice[0] in own_images
            ]
            raise ResultError(
                f"{owners[0]} and {owners[1]} both have image {twice[0]:,}", _SAME_IMAGES
            )
        # No position comes twice, so that up to the first gap each is its own index.
        gaps = total - len(positions)
        missing = _find_gaps(positions)
        raise ResultError(
            f"no shard has {_list_first('image', (f'{i:,}' for i in missing), gaps)} of {total:,}",
            _SAME_IMAGES,
        )


class _Image(NamedTuple):
    path: bytes
    error: str
    values: Any
    predictions: tuple[Prediction, ...] | None
    info: ImageInfo | None
    warning: str | None


def _rows(tables: Iterable[Table]) -> Iterator[_Image]:
    for table in tables:
        for i, (path, error) in enumerate(zip(table.paths, table.errors, strict=True)):
            yield _Image(
                path,
                error,
                None if table.values is None else table.values[i],
                table.predictions[i] if table.predictions else None,
                table.image_info[i] if table.image_info else None,
                table.warnings[i] if table.warnings else None,
            )


def _table(images: Sequence[_Image]) -> Table:
    paths, errors, values, predictions, image_info, warnings = zip(*images, strict=True)
    return Table(
        paths,
        errors,
        None if values[0] is None else np.stack(values),
        () if predictions[0] is None else predictions,
        () if image_info[0] is None else image_info,
        () if warnings[0] is None else warnings,
    )


def _find_gaps(positions: NDArray[np.uint64]) -> Iterator[int]:
    """Yield the numbers from 0 on that are not among ascending positions."""
    expected = 0
    for position in positions.tolist():
        yield from range(expected, position)
        expected = position + 1
    yield from itertools.count(expected)


def _list_first(noun: str, names: Iterable[str], count: int) -> str:
    """Return the first few of `count` names as text."""
    shown = list(itertools.islice(names, min(count, _NAMED)))
    more = [f"{count - len(shown):,} more"] if count > len(shown) else []
    *most, last = [*shown, *more]
    text = f"{', '.join(most)} and {last}" if most else last
    return f"{noun}{'s' if count > 1 else ''} {text}"
