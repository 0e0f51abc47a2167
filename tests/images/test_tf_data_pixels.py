"""JPEGs have the same bits, or reasons, through tf.data as through Pillow."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mnv1cli.images import decode, file, resize
from mnv1cli.images.tf_data import Stream
from mnv1cli.types import Decode, ImageRef, PixelSpec, Preprocess
from tests.support import images
from tests.support.images import SAMPLES, colours, encode, grey_jpeg, jpeg
from tests.support.reading import (
    Read,
    find_differences,
    unpack_batches,
    write_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


SPEC = PixelSpec(64)


def read_images(
    refs: Iterable[ImageRef], spec: PixelSpec = SPEC, batch_size: int = 8
) -> Iterator[Read]:
    return unpack_batches(Stream(spec, batch_size, workers=2).load_batches(refs), spec)


# The same bits


def make_jpegs() -> dict[str, bytes]:
    """Make JPEGs of many sizes and encodings; the largest are reduced by 2, 4 and 8."""
    sizes = [(1, 1), (1, 50), (50, 1), (8, 8), (17, 33), (333, 250), (901, 1200), (1799, 2399)]
    makings: dict[str, dict[str, Any]] = {
        "420": {"subsampling": "4:2:0"},
        "422": {"subsampling": "4:2:2"},
        "444": {"subsampling": "4:4:4"},
        "progressive": {"progressive": True},
        "coarse": {"quality": 5},
        "fine": {"quality": 100},
        "restarts": {"restart_marker_blocks": 3},
    }
    return {
        **{f"{h}x{w}": jpeg(h, w) for h, w in sizes},
        **{f"{h}x{w} grey": grey_jpeg(h, w) for h, w in sizes[:-1]},
        **{
            f"{h}x{w} {name}": jpeg(h, w, **options)
            for name, options in makings.items()
            for h, w in [(1, 3), (61, 83), (303, 401)]
        },
        **{
            f"{h}x{w} orientation {n}": jpeg(h, w, exif=images.orientation_exif(n))
            for n in range(1, 9)
            for h, w in [(61, 83), (303, 401)]
        },
        "grey, turned": grey_jpeg(201, 303, exif=images.orientation_exif(6)),
        "progressive, grey": grey_jpeg(303, 401, progressive=True),
        "CMYK, reduced": encode(Image.fromarray(colours(601, 743)).convert("CMYK"), "JPEG"),
    }


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> list[ImageRef]:
    """Write every kind of file, and the photos."""
    folder = tmp_path_factory.mktemp("files")
    refs = write_files(
        folder, {**{name: sample.data for name, sample in SAMPLES.items()}, **make_jpegs()}
    )
    # In one pass with the photos, because each pass traces a graph anew; where
    # there are none, the others are tested all the same.
    with contextlib.suppress(pytest.skip.Exception):
        photos = sorted(os.fsencode(path) for path in request.getfixturevalue("photos").iterdir())
        refs += [ImageRef(index, path) for index, path in enumerate(photos, len(refs))]
    return refs


@pytest.mark.parametrize("size", [128, 64])
@pytest.mark.parametrize("exif", [True, False], ids=["exif", "no exif"])
@pytest.mark.parametrize("decode", get_args(Decode))
@pytest.mark.parametrize("preprocess", get_args(Preprocess))
def test_files_have_the_bits_of_pixels_alone(
    files: list[ImageRef], preprocess: Preprocess, decode: Decode, exif: bool, size: int
) -> None:
    spec = PixelSpec(size, preprocess, decode, exif)
    assert find_differences(read_images(files, spec), files, spec) == []


def test_the_files_are_good_and_of_every_reduction(files: list[ImageRef]) -> None:
    reductions = set()
    for ref in files:
        header = decode.read_plain_jpeg(file.read_file(ref.path), SPEC)
        if header is not None:
            reductions.add(resize.choose_reduction(header.height, header.width, SPEC))
    assert reductions == {1, 2, 4, 8}
    assert [result.reason for result in read_images(files)] == [""] * len(files)


# Damage


def damage(data: bytes, random: np.random.Generator) -> bytes:
    """Change one or two bytes of a file, or cut its end."""
    damaged = bytearray(data)
    for _ in range(random.integers(1, 3)):
        damaged[random.integers(len(damaged))] = random.integers(256)
    if random.random() < 0.2:
        del damaged[random.integers(len(damaged) // 2, len(damaged)) :]
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize(
    "making",
    [
        {"subsampling": "4:2:0"},
        {"subsampling": "4:4:4"},
        {"progressive": True},
        {"restart_marker_rows": 1},
    ],
    ids=["420", "444", "progressive", "restarts"],
)
def test_damaged_jpeg_fares_as_with_pixels_alone(
    making: dict[str, Any], size: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(size)
    whole = jpeg(101, 143, **making)
    refs = write_files(tmp_path, {f"{i}.jpg": damage(whole, random) for i in range(150)})
    spec = PixelSpec(size)
    results = list(read_images(refs, spec))
    assert find_differences(results, refs, spec) == []
    assert {bool(result.reason) for result in results} == {True, False}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_photo_fares_as_with_pixels_alone(photos: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    whole = min(photos.iterdir()).read_bytes()
    refs = write_files(tmp_path, {f"{i}.jpg": damage(whole, random) for i in range(150)})
    assert find_differences(read_images(refs), refs, SPEC) == []


def test_jpeg_that_tensorflow_refuses_has_the_pixels_of_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg(61, 83)
    (ref,) = write_files(tmp_path, {"it.jpg": data})
    # Such files are too large to be made here.
    monkeypatch.setattr(
        decode, "read_plain_jpeg", lambda *_: decode.JpegHeader(data[:-200], 61, 83, 1)
    )
    (result,) = read_images([ref])
    np.testing.assert_array_equal(result.pixels, decode.load(data, SPEC))


@pytest.mark.parametrize("others", [0, 3, 8, 20])
def test_jpeg_that_both_refuse_is_a_reason(others: int, tmp_path: Path) -> None:
    data = images.jpeg_with_bad_tables()
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_jpeg(data)
    good = {f"{i}.jpg": jpeg(20 + i, 30) for i in range(others)}
    refs = write_files(tmp_path, {**good, "bad.jpg": data})
    results = list(read_images(refs))
    assert [result.reason for result in results[:-1]] == [""] * others
    assert "broken data stream" in results[-1].reason


# Order
