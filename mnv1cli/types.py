"""The frozen data types that travel between the stages.

numpy is named for type checkers only, so that `--help` does not pay for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TextIO

    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    ByteArray = NDArray[np.uint8]

Preprocess = Literal["slim", "squash", "square", "pad"]
Decode = Literal["scaled", "full"]
OnError = Literal["skip", "row", "fail"]
Engine = Literal["litert", "tf"]
Precision = Literal["float32", "int8"]
Command = Literal["classify", "logits", "embed"]
Runner = Literal["local", "ray"]


# More images at once gain nothing and take gigabytes.
MAX_BATCH = 4096
# Enough to keep a core busy between two calls; larger ones leave the core's cache.
DEFAULT_BATCH = 16
MAX_THREADS = 1024
# No camera makes larger images or files; a bomb claims to.
MAX_PIXELS = 200_000_000
MAX_BYTES = 1 << 30
MAX_LIMIT = 1 << 62
# Taken while folders are walked, in any case of letters.
IMAGE_SUFFIXES = frozenset(b"jpg jpeg jpe jfif png bmp gif webp tif tiff avif heic heif".split())
# How the reason begins where the bytes of an image could not be got, which says
# nothing of the image.
UNREAD = "cannot be read"


@dataclass(frozen=True, slots=True)
class Variant:
    """One size of the MobileNet V1 family."""

    depth_multiplier: float
    image_size: int


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image to read.

    `path` is reported as it was given or found. `source` is an image that is
    already in memory (a PIL image or a uint8 array) and needs no reading;
    `problem` is a fault known before reading, such as a folder that cannot be
    listed. `member` reads an image that lies in an archive, given the number of
    bytes that are allowed.
    """

    index: int
    path: bytes
    source: Any = None
    problem: str = ""
    member: Callable[[int], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """An image that could not be used, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """How files become pixels of `size` x `size`.

    Images that claim more than `max_pixels` in one frame, and files of more
    than `max_bytes`, are refused before memory is taken for them.
    """

    size: int
    preprocess: Preprocess = "slim"
    decode: Decode = "scaled"
    exif: bool = True
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive images, in the order of the input.

    `reasons` has one entry an image, empty where it could be read. `pixels` is
    float32 [m, size, size, 3] in [0, 1] for the m readable ones, in order.
    """

    paths: tuple[bytes, ...]
    reasons: tuple[str, ...]
    pixels: FloatArray


class Prediction(NamedTuple):
    """One label of one image; `rank` counts from 1."""

    rank: int
    class_id: int
    wnid: str
    label: str
    probability: float


class ImageInfo(NamedTuple):
    """An image's size in pixels, and when it was changed and taken, as ISO 8601 or empty."""

    width: int | None = None
    height: int | None = None
    mtime: str = ""
    exif_datetime: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """What is wanted of each image.

    `endpoint` names another output than the feature vector for `embed`;
    `pool` averages a spatial endpoint over height and width. With `meta` the
    rows tell of the image, too.
    """

    command: Command
    top: int = 5
    min_probability: float = 0.0
    probabilities: bool = False
    endpoint: str = ""
    pool: bool = True
    meta: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Results of consecutive images, in the order of the input.

    `errors` has one entry an image, empty where good. Either `predictions` has
    one entry an image (empty where it failed), or `values` is float32 [n, ...]
    with NaN where an image failed. `image_info` has one entry per image where it
    is wanted.
    """

    paths: tuple[bytes, ...]
    errors: tuple[str, ...]
    values: FloatArray | None = None
    predictions: tuple[tuple[Prediction, ...], ...] = ()
    image_info: tuple[ImageInfo, ...] = ()

    def without_faults(self) -> Table:
        """The table without the images that failed."""
        return self._chosen([not error for error in self.errors]) if any(self.errors) else self

    def without_unread(self) -> Table:
        """The table without the images whose bytes could not be got: another try may do it."""
        unread = [error.startswith(UNREAD) for error in self.errors]
        return self._chosen([not each for each in unread]) if any(unread) else self

    def without(self, paths: Collection[bytes]) -> Table:
        """The table without these images."""
        return self._chosen([path not in paths for path in self.paths])

    def until_fault(self) -> Table:
        """The table up to its first image that failed, which stays."""
        first = next((i for i, error in enumerate(self.errors) if error), len(self.errors))
        return self._chosen([i <= first for i in range(len(self.errors))])

    def _chosen(self, chosen: list[bool]) -> Table:
        return Table(
            paths=tuple(compress(self.paths, chosen)),
            errors=tuple(compress(self.errors, chosen)),
            values=None if self.values is None else self.values[chosen],
            predictions=tuple(compress(self.predictions, chosen)),
            image_info=tuple(compress(self.image_info, chosen)),
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """What a writer has to know before the first row.

    `shape` is that of one image's values: (k,) for the k ranks of `classify`
    (`labels` is true then), (d,) for vectors, (h, w, c) for endpoints that are
    not pooled. With `every` an image without labels has a row, too.
    """

    shape: tuple[int, ...]
    labels: bool = False
    errors: bool = False
    wide: bool = False
    meta: bool = False
    every: bool = False


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """How modules are fetched and taken.

    Never from the network when `offline`; from plain `http` without a known
    checksum only when `insecure`; with operations that a classifier has no use
    for only when `trust`; with a bar on the stream `bar`.
    """

    offline: bool = False
    bar: TextIO | None = None
    insecure: bool = False
    trust: bool = False


@dataclass(frozen=True, slots=True)
class Classified(Sequence[Prediction]):
    """The labels of one image, best first; a sequence of them.

    `error` says why there are none; `path` is empty for images from memory.
    """

    path: str
    predictions: tuple[Prediction, ...]
    error: str = ""

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.predictions[index]

    def __len__(self) -> int:
        return len(self.predictions)


@dataclass(frozen=True, slots=True)
class Vector:
    """The values of one image, float32, NaN with an `error` that says why."""

    path: str
    values: FloatArray
    error: str = ""
