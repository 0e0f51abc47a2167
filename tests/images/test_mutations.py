"""Mutated files: no crash, nothing slow, no effect on others, whichever feeder reads them."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mnv1cli.errors import ImageError
from mnv1cli.types import ImageRef, PixelSpec
from tests.fuzz import mutated_photos
from tests.fuzz.mutations import encode_forms, mutate
from tests.support.images import SAMPLES, colours, encode
from tests.support.pixels import load_pixels
from tests.support.reading import (
    FEEDERS,
    find_differences,
    read_alone,
    unpack_batches,
    write_files,
)

if TYPE_CHECKING:
    from pathlib import Path

SPEC = PixelSpec(64, max_pixels=2_000_000)
MOST_SECONDS = 2.0
SEEDS = st.integers(0, 1 << 30)
FORMS = encode_forms(Image.fromarray(colours(72, 96)))
SOURCES = {**{name: sample.data for name, sample in SAMPLES.items()}, **FORMS}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def load_or_explain(data: bytes) -> str | bytes:
    """Return the reason, or the pixels."""
    try:
        return load_pixels(data, SPEC).tobytes()
    except ImageError as error:
        return str(error)


@settings(derandomize=True, deadline=None, max_examples=800)
@given(st.sampled_from(sorted(SOURCES)), SEEDS)
def test_mutated_file_is_a_reason_or_a_picture_and_soon(name: str, seed: int) -> None:
    started = time.process_time()
    found = load_or_explain(mutate(SOURCES[name], seed))
    assert time.process_time() - started < MOST_SECONDS
    assert isinstance(found, bytes) or found.isprintable()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRef]:
    names = ("baseline.jpg", "grey.jpg", "progressive.jpg", "rgb.png", "lossy.webp", "fine.jpg")
    return write_files(tmp_path_factory.mktemp("good"), {name: FORMS[name] for name in names})


@pytest.mark.parametrize("feeder", FEEDERS)
@settings(
    derandomize=True,
    deadline=None,
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(FORMS)), SEEDS), min_size=1, max_size=12),
    st.integers(1, 7),
)
def test_mutated_image_leaves_its_neighbours_alone(
    feeder: str, good: list[ImageRef], tmp_path: Path, harmed: list[tuple[str, int]], size: int
) -> None:
    files = {f"{i}-{name}": mutate(FORMS[name], seed) for i, (name, seed) in enumerate(harmed)}
    bad = write_files(tmp_path, files)
    refs = [ref for i, one in enumerate(bad) for ref in (good[i % len(good)], one)]
    results = list(unpack_batches(FEEDERS[feeder](refs, SPEC, size, 2), SPEC))
    assert find_differences(results, refs, SPEC) == []
    for result, ref in zip(results[::2], refs[::2], strict=True):
        assert result.equals(read_alone(ref, SPEC))
        assert result.pixels is not None


def test_folder_of_mutated_photos_has_a_right_row_for_each(photos: Path, tmp_path: Path) -> None:
    first, second, wrong = mutated_photos.compare(photos, tmp_path, 60)
    assert wrong == []
    assert (first.code, second.code) == (3, 3)
    assert len(first.rows) + len(first.reasons) == 60
    assert all(len(rows) == 5 for rows in first.rows.values())
    assert max(first.most_bytes, second.most_bytes) < mutated_photos.MOST_BYTES


# What was found so


FOUND = {
    "BigTIFF whose directory is beyond all memory": (
        base64.b64decode("SUkrAAAAAAAAAOAC/+AC/+A="),
        "damaged, or not an image: Unable to seek to frame",
    ),
    "progressive JPEG smoothed otherwise by another libjpeg": (
        encode(Image.fromarray(colours(72, 96)), "JPEG", progressive=True)
        .rsplit(b"\xff\xda", 3)[0]
        .rsplit(b"\xff\xc4", 1)[0]
        + b"\xff\xd9",
        "damaged JPEG: some of its scans are missing",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(name: str) -> None:
    data, reason = FOUND[name]
    assert load_or_explain(data) == reason
