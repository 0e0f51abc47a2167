"""The part of an image that is used, its reduction, and its resize."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from math import floor
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.images import resize
from mnv1cli.types import PixelSpec, Preprocess
from tests.support.images import noise, rgbx

MODES: tuple[Preprocess, ...] = get_args(Preprocess)

steady = settings(derandomize=True, deadline=None, max_examples=200)
lengths = st.one_of(st.integers(1, 40), st.integers(1, 6000))
sizes = st.integers(1, 300)


any_spec = st.builds(PixelSpec, sizes, st.sampled_from(MODES))


# Reduction


def measure_used_side(height: int, width: int, spec: PixelSpec) -> int:
    """Return the shorter side of the part that is used."""
    if spec.preprocess == "slim":
        return min(n - 2 * floor(n / 16) for n in (height, width))
    if spec.preprocess == "square":
        return max(floor(Fraction(7, 8) * min(height, width)), 1)
    return min(height, width)


@steady
@given(lengths, lengths, any_spec)
def test_reduction_is_the_largest_that_leaves_twice_the_size(
    height: int, width: int, spec: PixelSpec
) -> None:
    side = measure_used_side(height, width, spec)
    allowed = [r for r in (2, 4, 8) if side >= 2 * spec.size * r]
    assert resize.choose_reduction(height, width, spec) == max([1, *allowed])


# Crop


@steady
@given(lengths, lengths, any_spec)
def test_crop_lies_in_the_image_and_its_place_in_the_result(
    height: int, width: int, spec: PixelSpec
) -> None:
    f = resize.plan_frame(height, width, spec)
    for start, length, whole in (
        (f.y, f.h, height),
        (f.x, f.w, width),
        (f.offset_y, f.target_h, spec.size),
        (f.offset_x, f.target_w, spec.size),
    ):
        assert start >= 0
        assert length >= 1
        assert start + length <= whole


def define_frame(height: int, width: int, spec: PixelSpec) -> resize.Frame:
    size = spec.size
    if spec.preprocess == "slim":
        y, x = floor(Fraction(height, 16)), floor(Fraction(width, 16))
        return resize.Frame(y, x, height - 2 * y, width - 2 * x, size, size, 0, 0)
    if spec.preprocess == "square":
        side = max(floor(Fraction(875, 1000) * min(height, width)), 1)
        y, x = floor(Fraction(height - side, 2)), floor(Fraction(width - side, 2))
        return resize.Frame(y, x, side, side, size, size, 0, 0)
    if spec.preprocess == "squash":
        return resize.Frame(0, 0, height, width, size, size, 0, 0)
    scale = Fraction(size, max(height, width))
    h, w = (max(floor(n * scale + Fraction(1, 2)), 1) for n in (height, width))
    return resize.Frame(0, 0, height, width, h, w, (size - h) // 2, (size - w) // 2)


@settings(steady, max_examples=800)
@given(lengths, lengths, any_spec)
def test_crop_is_that_of_its_definition(height: int, width: int, spec: PixelSpec) -> None:
    assert resize.plan_frame(height, width, spec) == define_frame(height, width, spec)


# Resize


short = st.one_of(st.just(1), st.integers(1, 12), st.integers(1, 150))


@settings(steady, max_examples=80)
@given(short, short, short, short, st.integers(0, 9))
def test_resize_gives_the_bits_of_tensorflow(
    height: int, width: int, target_h: int, target_w: int, seed: int
) -> None:
    image = noise(height, width, seed)
    expected = tf.raw_ops.ResizeBilinear(images=image[None], size=[target_h, target_w])[0]
    resized = np.empty((target_h, target_w, 3), np.float32)
    frame = resize.Frame(0, 0, height, width, target_h, target_w, 0, 0)
    resize.resize_bilinear(rgbx(image), frame, resized)
    np.testing.assert_array_equal(resized, expected.numpy() * resize.SCALE)


@settings(steady, max_examples=80)
@given(short, short, any_spec, st.booleans(), st.sampled_from([(), 0, 1, (0, 1)]))
def test_turned_images_give_the_bits_of_their_copies(
    height: int, width: int, spec: PixelSpec, is_turned: bool, mirrored: Any
) -> None:
    image = rgbx(noise(height, width, 0))
    image = np.flip(image.transpose(1, 0, 2) if is_turned else image, mirrored)
    expected = resize.crop_and_resize(np.ascontiguousarray(image), spec)
    np.testing.assert_array_equal(resize.crop_and_resize(image, spec), expected)


@settings(steady, max_examples=40)
@given(any_spec, st.lists(st.tuples(short, short), max_size=9), st.integers(1, 4))
def test_images_resized_in_groups_have_the_bits_of_each_alone(
    spec: PixelSpec, sides: list[tuple[int, int]], size: int
) -> None:
    images = [rgbx(noise(height, width, i)) for i, (height, width) in enumerate(sides)]
    pixels = np.empty((len(images), spec.size, spec.size, 3), np.float32)
    group = resize.GroupResize(pixels, spec, size)
    for image in images:
        buffer = image.copy()
        group.add(buffer)
        buffer.fill(0)
    for result, image in zip(group.finish(), images, strict=True):
        np.testing.assert_array_equal(result, resize.crop_and_resize(image, spec))


small_specs = st.builds(PixelSpec, st.integers(1, 40), st.sampled_from(MODES))


@settings(steady, max_examples=80)
@given(short, short, small_specs, st.integers(0, 9))
def test_pixels_lie_between_0_and_1(height: int, width: int, spec: PixelSpec, seed: int) -> None:
    result = resize.crop_and_resize(rgbx(noise(height, width, seed)), spec)
    assert result.shape == (spec.size, spec.size, 3)
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 1


@settings(steady, max_examples=80)
@given(short, short, small_specs, st.sampled_from([(0, 0.0), (255, 1.0)]))
def test_black_and_white_are_exact_and_the_rest_is_grey(
    height: int, width: int, spec: PixelSpec, shade: tuple[int, float]
) -> None:
    f = resize.plan_frame(height, width, spec)
    expected = np.full((spec.size, spec.size, 3), 0.5, np.float32)
    rows = slice(f.offset_y, f.offset_y + f.target_h)
    expected[rows, f.offset_x : f.offset_x + f.target_w] = shade[1]
    image = np.full((height, width, 3), shade[0], np.uint8)
    np.testing.assert_array_equal(resize.crop_and_resize(rgbx(image), spec), expected)


@settings(steady, max_examples=40)
@given(short, short, small_specs, st.integers(0, 9))
def test_the_fourth_byte_means_nothing(height: int, width: int, spec: PixelSpec, seed: int) -> None:
    image = noise(height, width, seed)
    one, other = (resize.crop_and_resize(rgbx(image, fourth), spec) for fourth in (0, 255))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("height", "width"), [(3, 20_000), (20_000, 3), (600, 9000), (9000, 600)])
@pytest.mark.parametrize("preprocess", MODES)
def test_oblong_images_have_the_bits_of_tensorflow(
    height: int, width: int, preprocess: Preprocess
) -> None:
    image = noise(height, width, 1)
    f = resize.plan_frame(height, width, PixelSpec(128, preprocess))
    crop = image[f.y : f.y + f.h, f.x : f.x + f.w]
    target = [f.target_h, f.target_w]
    expected = tf.raw_ops.ResizeBilinear(images=crop[None], size=target)[0].numpy()
    found = resize.crop_and_resize(rgbx(image), PixelSpec(128, preprocess))
    place = (
        slice(f.offset_y, f.offset_y + f.target_h),
        slice(f.offset_x, f.offset_x + f.target_w),
    )
    np.testing.assert_array_equal(found[place], expected * resize.SCALE)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 4_000_000), (4_000_000, 1), (50, 80_000), (80_000, 50), (2000, 2000)]
)
@pytest.mark.parametrize("preprocess", MODES)
def test_memory_does_not_grow_with_the_image(
    height: int, width: int, preprocess: Preprocess
) -> None:
    """Allow a few MB beside an image of 16 MB, whatever its shape."""
    image = np.zeros((height, width, 4), np.uint8)
    tracemalloc.start()
    try:
        resize.crop_and_resize(image, PixelSpec(128, preprocess))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6
