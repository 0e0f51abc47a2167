"""Arguments and lists to images: order, selection, lists as they arrive, problems."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import MissingInputError, NoImagesError, OptionError
from mnv1cli.inputs.listing import InputOptions, Listing
from mnv1cli.types import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    Tree: TypeAlias = "dict[bytes, Tree | None]"

ALL_SUFFIXES = b"jpg jpeg jpe jfif png bmp gif webp tif tiff avif heic heif".split()
ODD_NAMES = [
    b"with space.jpg",
    b"new\nline.jpg",
    b"'single' and \"double\".jpg",
    b"tab\tand\rreturn.jpg",
    b"not utf-8 \xff\xfe.jpg",
    b"-0.jpg",
    b"~.jpg",
    b"\\.jpg",
    "ü.jpg".encode(),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: bytes) -> None:
    for name in names:
        os.makedirs(os.path.dirname(name) or b".", exist_ok=True)
        with open(name, "wb"):
            pass


def paths(*inputs: bytes, lists: Sequence[bytes] = (), recursive: bool = True) -> list[bytes]:
    listing = Listing(inputs, lists, InputOptions(recursive=recursive))
    return [ref.path for ref in listing]


def from_stdin(content: bytes, null: bool = False) -> list[bytes]:
    options = InputOptions(null=null, stdin=io.BytesIO(content))
    return [ref.path for ref in Listing([b"-"], options=options)]


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
        assert paths(b"top") == [
            b"top/a/b/c.jpg",
            b"top/a/z.jpg",
            b"top/a.jpg",
            b"top/b.jpg",
            b"top/c/a.jpg",
        ]

    def test_compares_names_as_bytes(self, here: Path) -> None:
        names = [b"Z.jpg", b"a.jpg", b"a10.jpg", b"a2.jpg", b"\xc3\xa4.jpg", b"\xff.jpg"]
        touch(*(b"top/" + name for name in reversed(names)))
        assert paths(b"top") == [b"top/" + name for name in names]

    @settings(deadline=None)
    @given(tree=_TREES)
    def test_is_what_its_definition_says(self, tree: Tree) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = os.fsencode(folder)
            grow(tree, root)
            assert paths(root) == list(defined_order(tree, root))

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_finds_any_name(self, here: Path, name: bytes) -> None:
        touch(b"top/" + name, name[:-4] + b"/x.jpg")
        assert paths(b"top") == [b"top/" + name]
        assert paths(b"./" + name[:-4]) == [b"./" + name[:-4] + b"/x.jpg"]

    def test_knows_the_suffixes_that_are_promised(self) -> None:
        assert sorted(IMAGE_SUFFIXES) == sorted(ALL_SUFFIXES)

    @pytest.mark.parametrize("suffix", ALL_SUFFIXES)
    @pytest.mark.parametrize("case", [bytes.lower, bytes.upper, bytes.title])
    def test_takes_a_suffix_in_any_case(
        self, here: Path, suffix: bytes, case: Callable[[bytes], bytes]
    ) -> None:
        touch(b"top/x." + case(suffix))
        assert paths(b"top") == [b"top/x." + case(suffix)]

    def test_skips_hidden_entries_without_counting_them(self, here: Path) -> None:
        touch(b"top/.x.jpg", b"top/.git/y.jpg", b"top/.jpg", b"top/z.jpg")
        listing = Listing([b"top"])
        assert [ref.path for ref in listing] == [b"top/z.jpg"]
        assert listing.skipped.total() == 0

    def test_walks_a_hidden_folder_that_was_named(self, here: Path) -> None:
        touch(b".top/x.jpg")
        assert paths(b".top") == [b".top/x.jpg"]

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
        assert paths(b"top") == [b"top/album.jpg/x.jpg"]
        assert paths(b"top", recursive=False) == []


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
        assert paths(b"link") == [b"link/x.jpg"]

    def test_to_files_are_followed(self, here: Path) -> None:
        touch(b"other/no suffix", b"other/x.jpg", b"top/y.jpg")
        os.symlink(b"../other/no suffix", b"top/link.jpg")
        os.symlink(b"../other/x.jpg", b"top/link without")
        assert paths(b"top") == [b"top/link.jpg", b"top/y.jpg"]

    @pytest.mark.parametrize("target", [b"nowhere", b"broken.jpg"])
    def test_that_are_broken_are_listed_so_that_they_become_faults(
        self, here: Path, target: bytes
    ) -> None:
        os.mkdir(b"top")
        os.symlink(target, b"top/broken.jpg")
        assert paths(b"top") == [b"top/broken.jpg"]
        assert paths(b"top/broken.jpg") == [b"top/broken.jpg"]


class TestNamedInputs:
    @pytest.mark.parametrize("name", [b"notes.txt", b"none", b".hidden", *ODD_NAMES])
    def test_file_is_listed_whatever_its_name(self, here: Path, name: bytes) -> None:
        touch(name)
        listing = Listing([name])
        assert [ref.path for ref in listing] == [name]
        assert listing.skipped.total() == 0

    def test_keep_their_order(self, here: Path) -> None:
        touch(b"b.jpg", b"a.jpg", b"top/2.jpg", b"top/1.jpg", b"c.jpg")
        (here / "list").write_bytes(b"z.jpg\ny.jpg\n")
        assert paths(b"b.jpg", b"top", b"a.jpg", b"?.jpg", lists=[b"list"]) == [
            b"b.jpg",
            b"top/1.jpg",
            b"top/2.jpg",
            b"a.jpg",
            b"a.jpg",
            b"b.jpg",
            b"c.jpg",
            b"z.jpg",
            b"y.jpg",
        ]

    def test_same_file_twice_is_listed_twice(self, here: Path) -> None:
        touch(b"top/x.jpg")
        assert paths(b"top/x.jpg", b"top", b"top/x.jpg") == [b"top/x.jpg"] * 3

    def test_indices_count_up_from_zero(self, here: Path) -> None:
        touch(b"top/x.jpg", b"top/y.jpg", b"z.jpg")
        refs = list(Listing([b"top", b"z.jpg"]))
        assert [ref.index for ref in refs] == [0, 1, 2]
        assert {ref.problem for ref in refs} == {""}

    @pytest.mark.parametrize(
        ("given", "reported"),
        [
            (b"top/x.jpg", b"top/x.jpg"),
            (b"./top/x.jpg", b"./top/x.jpg"),
            (b"top//x.jpg", b"top//x.jpg"),
            (b"top/../top/x.jpg", b"top/../top/x.jpg"),
            (b"top", b"top/x.jpg"),
            (b"top/", b"top/x.jpg"),
            (b"./top/", b"./top/x.jpg"),
            (b"top/.", b"top/./x.jpg"),
            (b".", b"./top/x.jpg"),
            (b"./", b"./top/x.jpg"),
            (b"to?/*", b"top/x.jpg"),
            (b"./t*", b"./top/x.jpg"),
        ],
    )
    def test_paths_are_reported_as_given_or_found(
        self, here: Path, given: bytes, reported: bytes
    ) -> None:
        touch(b"top/x.jpg")
        assert paths(given) == [reported]

    def test_absolute_paths_stay_absolute(self, here: Path) -> None:
        touch(b"top/x.jpg")
        top = os.fsencode(here / "top")
        assert paths(top) == [top + b"/x.jpg"]

    @pytest.mark.parametrize("name", [b"gone.jpg", b"gone/", b"", b"x.jpg/", b"gone \xff\n.jpg"])
    def test_missing_one_is_refused_by_name(self, here: Path, name: bytes) -> None:
        touch(b"x.jpg")
        with pytest.raises(MissingInputError, match="no such file or folder") as caught:
            Listing([b"x.jpg", name])
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)

    def test_missing_one_is_refused_before_others_are_read(self, here: Path) -> None:
        class Untouchable(io.BytesIO):
            def read1(self, size: int | None = -1) -> bytes:
                raise AssertionError("stdin was read")

        stdin = Untouchable(b"x.jpg\n")
        with pytest.raises(MissingInputError):
            Listing([b"-", b"gone.jpg"], options=InputOptions(stdin=stdin))

    def test_missing_one_leaves_no_list_open(self, here: Path) -> None:
        # A file that is never closed is a ResourceWarning, which is an error here.
        touch(b"list")
        with pytest.raises(MissingInputError):
            Listing([], [b"list", b"gone"])


class TestGlob:
    @pytest.fixture(autouse=True)
    def _files(self, here: Path) -> None:
        touch(b"top/a.jpg", b"top/b.txt", b"top/below/c.jpg", b"top/below/deep/d.jpg", b"e.jpg")

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            (b"*.jpg", [b"e.jpg"]),
            (b"top/*.jpg", [b"top/a.jpg"]),
            (b"top/[ab].*", [b"top/a.jpg", b"top/b.txt"]),
            (b"*/below/?.jpg", [b"top/below/c.jpg"]),
            (b"top/*w", [b"top/below/c.jpg", b"top/below/deep/d.jpg"]),
            (
                b"**/*.jpg",
                [b"e.jpg", b"top/a.jpg", b"top/below/c.jpg", b"top/below/deep/d.jpg"],
            ),
            (b"top/**/deep/*.jpg", [b"top/below/deep/d.jpg"]),
            (
                b"top/**",
                [b"top/a.jpg", b"top/b.txt", b"top/below/c.jpg", b"top/below/deep/d.jpg"],
            ),
        ],
    )
    def test_finds_what_a_shell_would(self, pattern: bytes, found: list[bytes]) -> None:
        assert paths(pattern) == found

    def test_of_two_stars_keeps_the_order_of_a_walk(self) -> None:
        touch(b"top/a/x.jpg", b"top/a-b.jpg", b"top/a b/y.jpg")
        assert paths(b"top/**/*.jpg") == paths(b"top")

    def test_finds_names_that_are_not_text(self) -> None:
        touch(b"odd \xff\n'.jpg")
        assert paths(b"odd*") == [b"odd \xff\n'.jpg"]

    def test_without_a_match_is_a_missing_input(self) -> None:
        with pytest.raises(MissingInputError, match=r"nothing matches top/\*\.gif"):
            Listing([b"top/*.gif"])

    @pytest.mark.parametrize("name", [b"[ab].jpg", b"what?.jpg", b"*.jpg"])
    def test_gives_way_to_a_file_of_that_name(self, name: bytes) -> None:
        touch(name, b"a.jpg", b"what1.jpg")
        assert paths(name) == [name]

    def test_gives_way_to_a_folder_of_that_name(self) -> None:
        touch(b"[tT]op/x.jpg")
        assert paths(b"[tT]op") == [b"[tT]op/x.jpg"]

    def test_that_finds_a_file_named_minus_does_not_read_stdin(self) -> None:
        touch(b"-")
        assert paths(b"[-]") == [b"-"]

    @pytest.mark.parametrize(
        ("link", "target"), [(b"top/link", b"below"), (b"top/below/up", b"..")]
    )
    def test_of_two_stars_does_not_go_through_links_to_folders(
        self, link: bytes, target: bytes
    ) -> None:
        os.symlink(target, link)
        assert paths(b"top/**/*.jpg") == [
            b"top/a.jpg",
            b"top/below/c.jpg",
            b"top/below/deep/d.jpg",
        ]


class TestLists:
    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (b"", []),
            (b"\n\n", []),
            (b"a.jpg\nb.jpg\n", [b"a.jpg", b"b.jpg"]),
            (b"a.jpg\nb.jpg", [b"a.jpg", b"b.jpg"]),
            (b"\na.jpg\n\n\nb.jpg\n\n", [b"a.jpg", b"b.jpg"]),
            (
                b" a.jpg \n'b'.jpg\n*.jpg\n-\n\xff\n",
                [b" a.jpg ", b"'b'.jpg", b"*.jpg", b"-", b"\xff"],
            ),
        ],
    )
    def test_by_line(self, here: Path, content: bytes, found: list[bytes]) -> None:
        assert from_stdin(content) == found

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (b"", []),
            (b"\0\0", []),
            (b"a.jpg\0b.jpg\0", [b"a.jpg", b"b.jpg"]),
            (b"a.jpg\0b.jpg", [b"a.jpg", b"b.jpg"]),
            (b"a\nb.jpg\0c.jpg\r\0\n\0", [b"a\nb.jpg", b"c.jpg\r", b"\n"]),
        ],
    )
    def test_by_nul(self, here: Path, content: bytes, found: list[bytes]) -> None:
        assert from_stdin(content, null=True) == found

    @settings(deadline=None)
    @given(
        names=st.lists(st.binary(min_size=1, max_size=300).filter(lambda name: 0 not in name)),
        repeat=st.integers(1, 400),
    )
    def test_by_nul_gives_back_any_names_however_long_the_list(
        self, names: list[bytes], repeat: int
    ) -> None:
        content = b"".join(name + b"\0" for name in names * repeat)
        assert from_stdin(content, null=True) == names * repeat

    def test_of_windows_lose_the_carriage_return(self, here: Path) -> None:
        touch(b"a.jpg", b"b.jpg")
        assert from_stdin(b"a.jpg\r\nb.jpg\r\n") == [b"a.jpg", b"b.jpg"]

    def test_of_windows_may_have_empty_lines(self, here: Path) -> None:
        touch(b"a.jpg", b"b.jpg")
        assert from_stdin(b"a.jpg\r\n\r\nb.jpg\r\n\r\n") == [b"a.jpg", b"b.jpg"]

    def test_keep_a_carriage_return_that_belongs_to_a_name(self, here: Path) -> None:
        touch(b"a.jpg", b"a.jpg\r")
        assert from_stdin(b"a.jpg\r\na.jpg\n") == [b"a.jpg\r", b"a.jpg"]

    @pytest.mark.parametrize("content", [b"a.jpg\0b.jpg\0", b"a.jpg\0", b"a.jpg\n\0\n"])
    def test_by_line_with_nul_bytes_are_refused(self, here: Path, content: bytes) -> None:
        with pytest.raises(OptionError, match="-0"):
            from_stdin(content)

    def test_name_any_file_and_folder_without_looking(self, here: Path) -> None:
        touch(b"top/x.jpg")
        (here / "list").write_bytes(b"top\ngone.jpg\ntop/x.jpg\nnotes.txt\n")
        listing = Listing([], [b"list"])
        refs = list(listing)
        assert [ref.path for ref in refs] == [b"top", b"gone.jpg", b"top/x.jpg", b"notes.txt"]
        assert {ref.problem for ref in refs} == {""}
        assert not listing.empty_inputs
        assert not listing.skipped

    def test_file_and_stdin_may_come_together(self, here: Path) -> None:
        (here / "list").write_bytes(b"a\0b")
        options = InputOptions(null=True, stdin=io.BytesIO(b"c\0d\0"))
        found = [ref.path for ref in Listing([b"-"], [b"list"], options)]
        assert found == [b"c", b"d", b"a", b"b"]

    def test_minus_among_lists_is_stdin(self, here: Path) -> None:
        options = InputOptions(stdin=io.BytesIO(b"a.jpg\n"))
        assert [ref.path for ref in Listing([], [b"-"], options)] == [b"a.jpg"]

    def test_stdin_is_left_open_and_files_are_closed(self, here: Path) -> None:
        touch(b"list")
        stdin = io.BytesIO(b"a.jpg\n")
        list(Listing([b"-"], [b"list"], InputOptions(stdin=stdin)))
        assert not stdin.closed

    def test_stdin_that_is_not_there_is_told(self) -> None:
        with pytest.raises(MissingInputError, match="stdin"):
            Listing([b"-"])

    @pytest.mark.parametrize("name", [b"gone", b"folder", b"gone \xff\n"])
    def test_that_cannot_be_read_are_refused_by_name(self, here: Path, name: bytes) -> None:
        os.mkdir(b"folder")
        with pytest.raises(
            MissingInputError, match=r"cannot read the list (gone|folder)"
        ) as caught:
            Listing([], [name])
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("buffered", [True, False])
    @pytest.mark.parametrize("separator", [b"\n", b"\0"])
    def test_are_streamed(self, here: Path, buffered: bool, separator: bytes) -> None:
        read_end, write_end = os.pipe()
        with contextlib.ExitStack() as stack:
            writer = stack.enter_context(open(write_end, "wb", buffering=0))
            # Where a reader waits for more than there is, this ends its wait and fails the test.
            rescue = threading.Timer(5, writer.close)
            rescue.start()
            stack.callback(rescue.cancel)
            reader = stack.enter_context(open(read_end, "rb", buffering=-1 if buffered else 0))
            options = InputOptions(null=separator == b"\0", stdin=reader)
            refs = iter(Listing([b"-"], options=options))
            for name in (b"a.jpg", b"b.jpg"):
                writer.write(name + separator)
                assert next(refs).path == name
                assert not writer.closed
            writer.write(b"half")
            writer.write(b" and half")
            writer.close()
            assert [ref.path for ref in refs] == [b"half and half"]


class TestRequireImages:
    def test_loses_no_image(self, here: Path) -> None:
        touch(b"top/x.jpg", b"top/y.jpg", b"empty/z.txt")
        listing = Listing([b"empty", b"top"])
        listing.require_images()
        assert [ref.path for ref in listing] == [b"top/x.jpg", b"top/y.jpg"]
        assert listing.empty_inputs == [b"empty"]

    def test_names_the_empty_folders_and_what_was_skipped(self, here: Path) -> None:
        touch(b"one/x.txt", b"one/.y.jpg")
        os.mkdir(b"two\xff\n")
        with pytest.raises(NoImagesError) as caught:
            Listing([b"one", b"two\xff\n"]).require_images()
        assert str(caught.value) == (r"no images in one, two\xff\n, 1 skipped by suffix (.txt 1)")
        assert caught.value.exit_code == 1

    def test_is_content_with_an_empty_list(self, here: Path) -> None:
        options = InputOptions(stdin=io.BytesIO())
        listing = Listing([b"-"], options=options)
        listing.require_images()
        assert not list(listing)

    def test_is_content_with_an_image_of_a_list_beside_an_empty_folder(self, here: Path) -> None:
        os.mkdir(b"empty")
        listing = Listing([b"empty", b"-"], options=InputOptions(stdin=io.BytesIO(b"a.jpg\n")))
        listing.require_images()
        assert [ref.path for ref in listing] == [b"a.jpg"]


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


def test_glob_passes_over_links_to_folders(here: Path) -> None:
    (here / "album").mkdir()
    (here / "album" / "a.jpg").touch()
    (here / "link").symlink_to("album")
    assert [ref.path for ref in Listing([b"*"])] == [b"album/a.jpg"]
    assert [ref.path for ref in Listing([b"link"])] == [b"link/a.jpg"]


def test_byte_order_mark_of_a_list_is_no_part_of_a_name(here: Path) -> None:
    (here / "a.jpg").touch()
    mark = b"\xef\xbb\xbf"
    (here / "list").write_bytes(mark + b"a.jpg\nb.jpg\n")
    assert [ref.path for ref in Listing([], [b"list"])] == [b"a.jpg", b"b.jpg"]
    (here / os.fsdecode(mark + b"a.jpg")).touch()
    assert [ref.path for ref in Listing([], [b"list"])] == [mark + b"a.jpg", b"b.jpg"]
