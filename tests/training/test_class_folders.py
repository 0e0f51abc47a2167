"""Class folders, copies, and which images are held out."""

from __future__ import annotations

import csv
import io
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.errors import MissingInputError, NoImagesError, OptionError
from mnv1cli.labels.names import read_labels
from mnv1cli.training.class_folders import (
    HELD_OUT,
    TRAINING,
    check_classes,
    encode_label_table,
    encode_split_table,
    find_conflicts,
    hold_out,
    read_class_folders,
)

if TYPE_CHECKING:
    from pathlib import Path

# An image is its class and its group.
PHOTOS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), min_size=1, max_size=80)


def make_folders(top: Path, *names: str) -> Path:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"x")
    return top


@given(PHOTOS, st.floats(0.05, 0.95), st.integers(0, 5))
def test_groups_stay_together_and_every_class_is_on_both_sides(
    photos: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    # Groups of one class each; copies in two classes are another test's.
    classes = np.unique([c for c, _ in photos], return_inverse=True)[1]
    groups = np.array([100 * c + g for c, g in photos])
    held = hold_out(groups, classes, fraction, seed)
    assert np.array_equal(held, hold_out(groups, classes, fraction, seed))
    assert not set(groups[held]) & set(groups[~held])
    for number in np.unique(classes):
        mine = classes == number
        assert (~held & mine).any()
        assert (held & mine).any() == (len(set(groups[mine])) > 1)


def test_a_fifth_of_each_class_is_held_out_and_the_seed_decides_which() -> None:
    classes = np.repeat([0, 1, 2], [100, 50, 10])
    groups = np.arange(160)
    drawn = [hold_out(groups, classes, 0.2, seed) for seed in (1, 2)]
    assert [np.bincount(classes[held]).tolist() for held in drawn] == [[20, 10, 2]] * 2
    assert not np.array_equal(drawn[0], drawn[1])


@given(PHOTOS, st.integers(0, 5))
def test_copies_in_two_classes_stay_together_too(photos: list[tuple[int, int]], seed: int) -> None:
    classes = np.unique([c for c, _ in photos], return_inverse=True)[1]
    groups = np.array([g for _, g in photos])
    held = hold_out(groups, classes, 0.2, seed)
    assert not set(groups[held]) & set(groups[~held])
    assert set(classes[~held]) == set(classes)


def test_classes_are_the_folders_by_their_bytes(tmp_path: Path) -> None:
    make_folders(tmp_path, "b/1.jpg", "b/deep/2.png", "B/3.jpg", "é/4.jpg", ".hidden/5.jpg")
    folders = read_class_folders(bytes(tmp_path))
    assert folders.names == ("B", "b", "é")
    assert folders.classes.tolist() == [0, 1, 1, 2]
    assert [ref.index for ref in folders.refs] == [0, 1, 2, 3]


def test_what_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_folders(
        tmp_path, "a/1.jpg", "b/2.jpg", "loose.jpg", "loose2.png", "notes.txt", "empty/x.txt"
    )
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with caplog.at_level(logging.WARNING):
        assert read_class_folders(bytes(tmp_path)).names == ("a", "b")
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "loose.jpg and 1 more image are in no class folder and left out" in text
    assert "link is a link to a folder and is left out" in text
    assert "no images in" in text
    assert "notes" not in text


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ((), OptionError, "no class folders"),
        (("only.jpg",), OptionError, "no class folders"),
        (("a/1.jpg",), OptionError, "only one class folder, a"),
    ],
)
def test_a_folder_without_classes_is_refused(
    tmp_path: Path, names: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_class_folders(bytes(make_folders(tmp_path, *names)))


def test_a_file_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such folder"):
        read_class_folders(bytes(tmp_path / "none"))
    make_folders(tmp_path, "file.jpg")
    with pytest.raises(OptionError, match=r"file\.jpg is a file"):
        read_class_folders(bytes(tmp_path / "file.jpg"))


def test_classes_that_cannot_be_split_are_named() -> None:
    classes = np.array([0, 0, 1, 1])
    check_classes(("a", "b"), classes, np.arange(4))
    with pytest.raises(NoImagesError, match="2 images of class b are copies of one photo"):
        check_classes(("a", "b"), classes, np.array([0, 1, 2, 2]))
    with pytest.raises(NoImagesError, match="class b has a single image"):
        check_classes(("a", "b"), classes[:3], np.arange(3))
    with pytest.raises(NoImagesError, match="class c has no image"):
        check_classes(("a", "b", "c"), classes, np.arange(4))


def test_copies_in_two_classes_are_found() -> None:
    assert find_conflicts(np.array([0, 1, 1, 1]), np.array([5, 5, 6, 6])) == [(0, 1)]


def test_label_table_is_read_back(tmp_path: Path) -> None:
    names = ['a "b", c', "n02123045", "line\nend", "n2"]
    (tmp_path / "labels.csv").write_bytes(encode_label_table(names))
    classes = read_labels(tmp_path / "labels.csv")
    assert [name.label for name in classes] == names
    assert [name.wnid for name in classes] == ["", "n02123045", "", ""]
    assert classes[1].synonyms == "tabby, tabby cat"


def test_split_table_keeps_the_bytes_of_paths() -> None:
    paths = [b"a/\xff,.jpg", b"b/x\n.png"]
    table = encode_split_table(paths, ("a", "b"), [0, 1], [TRAINING, HELD_OUT])
    rows = list(csv.reader(io.StringIO(table.decode("utf-8", "surrogateescape"), newline="")))
    assert rows[0] == ["path", "label", "part"]
    assert [row[0].encode("utf-8", "surrogateescape") for row in rows[1:]] == paths
    assert [row[1:] for row in rows[1:]] == [["a", "training"], ["b", "held-out"]]
