"""The frozen data types that the stages pass to each other.

numpy is imported only for type checkers, so that `--help` starts fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TextIO

    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    ByteArray = NDArray[np.uint8]

Preprocess = Literal["slim", "squash", "square", "pad"]
Decode = Literal["scaled", "full"]
Damaged = Literal["refuse", "accept"]
OnError = Literal["skip", "row", "fail"]
Engine = Literal["litert", "openvino", "tf"]
Loader = Literal["threads", "tf.data"]
Precision = Literal["float32", "bf16", "int8"]
Command = Literal["classify", "logits", "embed"]
Runner = Literal["local", "ray"]


# The device of every engine but openvino, and of that one where no other is named.
DEFAULT_DEVICE = "CPU"
# Larger batches gain nothing and take gigabytes.
MAX_BATCH = 4096
# Enough to keep a core busy between two calls; larger batches do not fit its cache.
DEFAULT_BATCH = 16
MAX_THREADS = 1024
# No camera makes larger images or files; a decompression bomb claims to.
MAX_PIXELS = 200_000_000
MAX_BYTES = 1 << 30
MAX_LIMIT = 1 << 62
# Values of pixels beyond it would overflow in float32.
_FAR = 1e30
# The suffixes of the files that are read from folders, in upper or lower case.
JPEG_SUFFIXES = frozenset(b"jpg jpeg jpe jfif".split())
RAW_SUFFIXES = frozenset(b"cr2 cr3 nef arw dng orf raf rw2".split())
_OTHER_SUFFIXES = frozenset(b"png bmp gif webp tif tiff avif heic heif".split())
IMAGE_SUFFIXES = JPEG_SUFFIXES | RAW_SUFFIXES | _OTHER_SUFFIXES
# The beginning of a reason that concerns the storage and not the image: its bytes could not
# be read.
UNREAD = "cannot be read"


class InputRange(NamedTuple):
    """The values that a module wants for black and for white."""

    low: float = 0.0
    high: float = 1.0

    def __str__(self) -> str:
        """Return the text that `--input-range` takes, as in "-1,1"."""
        return ",".join(f"{x:g}" if float(f"{x:g}") == x else repr(x) for x in self)

    @property
    def setting(self) -> str | None:
        """The text, or None for the default, which runs begun before there was a choice have."""
        return None if self == InputRange() else str(self)

    @property
    def is_valid(self) -> bool:
        """True if both values are finite, and apart in float32."""
        return -_FAR < self.low < self.high < _FAR and self.high - self.low > 1 / _FAR


# The contract for pixels, which most modules of the hub want.
UNIT_RANGE = InputRange()


@dataclass(frozen=True, slots=True)
class Variant:
    """A size of the MobileNet V1 family."""

    depth_multiplier: float
    image_size: int


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image to read.

    Attributes:
        index: the position in the input, from 0.
        path: the path as it is reported: as given, or below a folder that was given.
        source: an image in memory, which needs no reading: a PIL image or a uint8 array.
        problem: a fault known before reading, such as a folder that cannot be listed.
        member: a function that reads an image from an archive or a store, given the number
            of bytes that are allowed.
    """

    index: int
    path: bytes
    source: Any = None
    problem: str = ""
    member: Callable[[int], bytes] | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """An image that could not be used, or is damaged, with the reason."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """The way in which files become pixels of `size` x `size`.

    Images with more than `max_pixels` in one frame, by their header, and files of more than
    `max_bytes` are refused before memory is allocated for them. Damaged JPEGs are refused, or
    accepted with a warning and decoded as far as they can be.
    """

    size: int
    preprocess: Preprocess = "slim"
    decode: Decode = "scaled"
    exif: bool = True
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    damaged: Damaged = "refuse"

    @property
    def accepts_damaged(self) -> bool:
        """True where each image has a warning, which is empty for those that are not damaged."""
        return self.damaged == "accept"


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive images, in the order of the input.

    `reasons` has an entry per image, empty where it could be read. `pixels` is float32
    [m, size, size, 3] in [0, 1] for the m readable images, in order. `image_info` has an entry
    per image where it is wanted, and `warnings` where damaged images are accepted.
    """

    paths: tuple[bytes, ...]
    reasons: tuple[str, ...]
    pixels: FloatArray
    image_info: tuple[ImageInfo, ...] = ()
    warnings: tuple[str, ...] = ()


class Prediction(NamedTuple):
    """A label of an image; `rank` counts from 1."""

    rank: int
    class_id: int
    wnid: str
    label: str
    probability: float


class ImageInfo(NamedTuple):
    """The size of an image in pixels, and the times of change and capture, ISO 8601 or empty."""

    width: int | None = None
    height: int | None = None
    mtime: str = ""
    exif_datetime: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """The results that are wanted of each image.

    Attributes:
        command: the command, which decides the kind of results.
        top: the number of labels per image for `classify`.
        min_probability: the probability below which labels are left out.
        probabilities: return the softmax of the logits for `logits`.
        endpoint: a layer of the module for `embed`, instead of the feature vector.
        pool: average an endpoint over height and width.
        meta: add the columns of `ImageInfo` to the rows.
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

    `errors` has an entry per image, empty where it did not fail. Either `predictions` has an
    entry per image (empty where it failed), or `values` is float32 [n, ...] with NaN where an
    image failed. `image_info` has an entry per image where it is wanted. `warnings` has one where
    damaged images are accepted: the damage, empty for others.
    """

    paths: tuple[bytes, ...]
    errors: tuple[str, ...]
    values: FloatArray | None = None
    predictions: tuple[tuple[Prediction, ...], ...] = ()
    image_info: tuple[ImageInfo, ...] = ()
    warnings: tuple[str, ...] = ()

    def get_warnings(self) -> tuple[str, ...]:
        """Return a warning per image, also where damaged images are not accepted."""
        return self.warnings or ("",) * len(self.paths)

    def without_faults(self) -> Table:
        """Return the table without the images that failed."""
        return self._choose([not error for error in self.errors]) if any(self.errors) else self

    def without_unread(self) -> Table:
        """Return the table without the images whose bytes could not be read; another run may."""
        unread = [error.startswith(UNREAD) for error in self.errors]
        return self._choose([not is_unread for is_unread in unread]) if any(unread) else self

    def without(self, paths: Collection[bytes]) -> Table:
        """Return the table without these images."""
        return self._choose([path not in paths for path in self.paths])

    def until_fault(self) -> Table:
        """Return the table up to the first image that failed, with that image."""
        first = next((i for i, error in enumerate(self.errors) if error), len(self.errors))
        return self._choose([i <= first for i in range(len(self.errors))])

    def _choose(self, chosen: list[bool]) -> Table:
        return Table(
            paths=tuple(compress(self.paths, chosen)),
            errors=tuple(compress(self.errors, chosen)),
            values=None if self.values is None else self.values[chosen],
            predictions=tuple(compress(self.predictions, chosen)),
            image_info=tuple(compress(self.image_info, chosen)),
            warnings=tuple(compress(self.warnings, chosen)),
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a result, which a writer needs before the first row.

    Attributes:
        shape: the shape of an image's values: (k,) for the k labels of `classify`, (d,) for
            vectors, (h, w, c) for endpoints that are not pooled.
        labels: the rows are labels.
        errors: images that failed have rows, too.
        wide: the labels of an image are in one row.
        meta: the rows have the columns of `ImageInfo`.
        warnings: the rows have a column for the damage of images that were accepted.
        every: images without labels have rows, too.
    """

    shape: tuple[int, ...]
    labels: bool = False
    errors: bool = False
    wide: bool = False
    meta: bool = False
    warnings: bool = False
    every: bool = False


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """Options of fetching modules.

    Attributes:
        offline: never open a connection.
        bar: a stream for a progress bar.
        insecure: accept a module over plain http even if its checksum is unknown.
        trust: accept a module whose graph does more than compute.
    """

    offline: bool = False
    bar: TextIO | None = None
    insecure: bool = False
    trust: bool = False
