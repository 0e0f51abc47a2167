"""Folders to images: order, selection, links, folders that make trouble."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.inputs.listing import InputOptions, Listing
from mnv1cli.types import IMAGE_SUFFIXES
from tests.support.listings import ODD_NAMES, list_paths, touch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    Tree: TypeAlias = "dict[bytes, Tree | None]"

ALL_SUFFIXES = (
    b"jpg jpeg jpe jfif png bmp gif webp tif tiff avif heic heif cr2 cr3 nef arw dng orf raf rw2"
).split()


def grow(tree: Tree, root: bytes) -> None:
    for name, below in tree.items():
        path = os.path.join(root, name)
        if below is None:
            touch(path)
        else:
            os.mkdir(path)
            grow(below, path)


def defined_order(tree: Tree, root: bytes) -> Iterator[bytes]:
    """The definition of the walk, over the tree that was made instead of the disk."""
    for name in sorted(tree):
        below = tree[name]
        if name[:1] == b".":
            continue
        if below is not None:
            yield from defined_order(below, root + b"/" + name)
        elif b"." in name and name.lower().rsplit(b".", 1)[1] in ALL_SUFFIXES:
            yield root + b"/" + name


_STEMS = st.one_of(
    st.sampled_from(
        [b"a", b"b", b"a b", b"a\nb", b"'", b'"', b"\xff", b"\xc3\xa4", b".", b"-", b"*"]
    ),
    st.binary(min_size=1, max_size=5).filter(lambda name: not set(name) & {0, ord("/")}),
)
_ENDINGS = st.sampled_from([b"", b".jpg", b".JPG", b".Png", b".txt", b".jpg.bak", b"jpg", b"."])
_NAMES = st.builds(bytes.__add__, _STEMS, _ENDINGS).filter(lambda name: name not in (b".", b".."))
_TREES: st.SearchStrategy[Tree] = st.recursive(
    st.dictionaries(_NAMES, st.none(), max_size=4),
    lambda below: st.dictionaries(_NAMES, st.one_of(st.none(), below), max_size=4),
    max_leaves=12,
)


class TestWalk:
    def test_takes_files_and_folders_interleaved_by_name(self, here: Path) -> None:
        touch(b"top/b.jpg", b"top/a/z.jpg", b"top/a/b/c.jpg", b"top/c/a.jpg", b"top/a.jpg")
        assert list_paths(b"top") == [
            b"top/a/b/c.jpg",
            b"top/a/z.jpg",
            b"top/a.jpg",
            b"top/b.jpg",
            b"top/c/a.jpg",
        ]

    def test_compares_names_as_bytes(self, here: Path) -> None:
        names = [b"Z.jpg", b"a.jpg", b"a10.jpg", b"a2.jpg", b"\xc3\xa4.jpg", b"\xff.jpg"]
        touch(*(b"top/" + name for name in reversed(names)))
        assert list_paths(b"top") == [b"top/" + name for name in names]

    @settings(deadline=None)
    @given(tree=_TREES)
    def test_is_what_its_definition_says(self, tree: Tree) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = os.fsencode(folder)
            grow(tree, root)
            assert list_paths(root) == list(defined_order(tree, root))

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_finds_any_name(self, here: Path, name: bytes) -> None:
        touch(b"top/" + name, name[:-4] + b"/x.jpg")
        assert list_paths(b"top") == [b"top/" + name]
        assert list_paths(b"./" + name[:-4]) == [b"./" + name[:-4] + b"/x.jpg"]

    def test_knows_the_suffixes_that_are_promised(self) -> None:
        assert sorted(IMAGE_SUFFIXES) == sorted(ALL_SUFFIXES)

    @pytest.mark.parametrize("suffix", ALL_SUFFIXES)
    @pytest.mark.parametrize("case", [bytes.lower, bytes.upper, bytes.title])
    def test_takes_a_suffix_in_any_case(
        self, here: Path, suffix: bytes, case: Callable[[bytes], bytes]
    ) -> None:
        touch(b"top/x." + case(suffix))
        assert list_paths(b"top") == [b"top/x." + case(suffix)]

    def test_skips_hidden_entries_without_counting_them(self, here: Path) -> None:
        touch(b"top/.x.jpg", b"top/.git/y.jpg", b"top/.jpg", b"top/z.jpg")
        listing = Listing([b"top"])
        assert [ref.path for ref in listing] == [b"top/z.jpg"]
        assert listing.skipped.total() == 0

    def test_walks_a_hidden_folder_that_was_named(self, here: Path) -> None:
        touch(b".top/x.jpg")
        assert list_paths(b".top") == [b".top/x.jpg"]

    def test_counts_what_it_skipped_by_suffix(self, here: Path) -> None:
        touch(b"top/a.txt", b"top/b.TXT", b"top/below/c.txt", b"top/d", b"top/e.\xff", b"top/x.jpg")
        listing = Listing([b"top"])
        assert listing.describe_skipped() == ""
        assert len(list(listing)) == 1
        assert listing.skipped == {b".txt": 3, b"": 1, b".\xff": 1}
        note = listing.describe_skipped()
        assert note.startswith(", 5 skipped by suffix (.txt 3, ")
        assert "none 1" in note
        assert r".\xff 1" in note

    def test_note_of_skipped_files_names_the_five_most_frequent_suffixes(self, here: Path) -> None:
        for count, suffix in enumerate(b"abcdef", start=1):
            touch(*(b"top/%d.%c" % (i, suffix) for i in range(count)))
        listing = Listing([b"top"])
        assert not list(listing)
        assert listing.describe_skipped() == (
            ", 21 skipped by suffix (.f 6, .e 5, .d 4, .c 3, .b 2, ...)"
        )

    def test_stays_in_the_folder_if_told(self, here: Path) -> None:
        touch(b"top/a/x.jpg", b"top/b.jpg", b"top/c.txt", b"top/a/y.txt")
        listing = Listing([b"top"], options=InputOptions(recursive=False))
        assert [ref.path for ref in listing] == [b"top/b.jpg"]
        assert listing.skipped == {b".txt": 1}

    def test_does_not_take_a_folder_for_an_image(self, here: Path) -> None:
        touch(b"top/album.jpg/x.jpg")
        assert list_paths(b"top") == [b"top/album.jpg/x.jpg"]
        assert list_paths(b"top", recursive=False) == []


class TestLinks:
    def test_to_folders_are_not_followed(self, here: Path) -> None:
        touch(b"other/x.jpg", b"top/y.jpg")
        os.symlink(b"../other", b"top/link")
        os.symlink(b"../other", b"top/link.jpg")
        os.symlink(b"..", b"top/up")
        listing = Listing([b"top"])
        assert [ref.path for ref in listing] == [b"top/y.jpg"]
        assert listing.skipped.total() == 0

    def test_to_a_folder_that_was_named_is_followed(self, here: Path) -> None:
        touch(b"other/x.jpg")
        os.symlink(b"other", b"link")
        assert list_paths(b"link") == [b"link/x.jpg"]

    def test_to_files_are_followed(self, here: Path) -> None:
        touch(b"other/no suffix", b"other/x.jpg", b"top/y.jpg")
        os.symlink(b"../other/no suffix", b"top/link.jpg")
        os.symlink(b"../other/x.jpg", b"top/link without")
        assert list_paths(b"top") == [b"top/link.jpg", b"top/y.jpg"]

    @pytest.mark.parametrize("target", [b"nowhere", b"broken.jpg"])
    def test_that_are_broken_are_listed_so_that_they_become_faults(
        self, here: Path, target: bytes
    ) -> None:
        os.mkdir(b"top")
        os.symlink(target, b"top/broken.jpg")
        assert list_paths(b"top") == [b"top/broken.jpg"]
        assert list_paths(b"top/broken.jpg") == [b"top/broken.jpg"]


@contextlib.contextmanager
def nested(top: bytes, name: bytes, depth: int) -> Iterator[None]:
    """Folders in folders, with an image in the last; made and removed where no path is too long.

    Neither pytest nor shutil is able to remove them: they recurse.
    """
    os.mkdir(top)
    folder = os.open(top, os.O_RDONLY)

    def change(relative: bytes) -> None:
        nonlocal folder
        before, folder = folder, os.open(relative, os.O_RDONLY, dir_fd=folder)
        os.close(before)

    for _ in range(depth):
        os.mkdir(name, dir_fd=folder)
        change(name)
    os.close(os.open(b"x.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    try:
        yield
    finally:
        os.unlink(b"x.jpg", dir_fd=folder)
        for _ in range(depth):
            change(b"..")
            os.rmdir(name, dir_fd=folder)
        os.close(folder)


class TestTroublesomeFolders:
    def test_nested_deeper_than_the_interpreter_recurses(self, here: Path) -> None:
        with nested(b"top", b"a", 1500):
            refs = list(Listing([b"top"]))
        assert [(ref.path, ref.problem) for ref in refs] == [
            (b"top" + b"/a" * 1500 + b"/x.jpg", "")
        ]

    def test_nested_deeper_than_a_path_may_be_long_are_a_problem(self, here: Path) -> None:
        touch(b"top/z.jpg")
        with nested(b"top/y", b"folder", 1500):
            refs = list(Listing([b"top"]))
        deep, last = refs
        assert deep.path.startswith(b"top/y/folder/folder/")
        assert "cannot be listed" in deep.problem
        assert (last.path, last.problem) == (b"top/z.jpg", "")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
    def test_that_may_not_be_listed_are_a_problem(self, here: Path) -> None:
        touch(b"top/a.jpg", b"top/closed/x.jpg", b"top/z.jpg")
        os.chmod(b"top/closed", 0)
        try:
            refs = list(Listing([b"top"]))
        finally:
            os.chmod(b"top/closed", 0o700)
        assert [ref.path for ref in refs] == [b"top/a.jpg", b"top/closed", b"top/z.jpg"]
        assert [bool(ref.problem) for ref in refs] == [False, True, False]

    def test_that_vanish_during_the_walk_are_a_problem(self, here: Path) -> None:
        touch(b"top/a.jpg", b"top/b/x.jpg", b"top/c.jpg")
        refs = iter(Listing([b"top"]))
        first = next(refs)
        os.unlink(b"top/b/x.jpg")
        os.rmdir(b"top/b")
        rest = list(refs)
        assert [ref.path for ref in itertools.chain([first], rest)] == [
            b"top/a.jpg",
            b"top/b",
            b"top/c.jpg",
        ]
        assert "cannot be listed" in rest[0].problem

    def test_that_cannot_be_listed_do_not_count_as_empty(self, here: Path) -> None:
        os.mkdir(b"top")
        listing = Listing([b"top"])
        os.rmdir(b"top")
        listing.require_images()
        refs = list(listing)
        assert [ref.path for ref in refs] == [b"top"]
        assert refs[0].problem
