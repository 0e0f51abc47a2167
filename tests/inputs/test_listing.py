"""Arguments to images: what a name means, globs, and inputs without images."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from mnv1cli.errors import MissingInputError, NoImagesError
from mnv1cli.inputs.listing import InputOptions, Listing
from tests.support.listings import ODD_NAMES, list_paths, touch

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TypeAlias

    Tree: TypeAlias = "dict[bytes, Tree | None]"


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
        assert list_paths(b"b.jpg", b"top", b"a.jpg", b"?.jpg", lists=[b"list"]) == [
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
        assert list_paths(b"top/x.jpg", b"top", b"top/x.jpg") == [b"top/x.jpg"] * 3

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
        assert list_paths(given) == [reported]

    def test_absolute_paths_stay_absolute(self, here: Path) -> None:
        touch(b"top/x.jpg")
        top = os.fsencode(here / "top")
        assert list_paths(top) == [top + b"/x.jpg"]

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
        assert list_paths(pattern) == found

    def test_of_two_stars_keeps_the_order_of_a_walk(self) -> None:
        touch(b"top/a/x.jpg", b"top/a-b.jpg", b"top/a b/y.jpg")
        assert list_paths(b"top/**/*.jpg") == list_paths(b"top")

    def test_finds_names_that_are_not_text(self) -> None:
        touch(b"odd \xff\n'.jpg")
        assert list_paths(b"odd*") == [b"odd \xff\n'.jpg"]

    def test_without_a_match_is_a_missing_input(self) -> None:
        with pytest.raises(MissingInputError, match=r"nothing matches top/\*\.gif"):
            Listing([b"top/*.gif"])

    @pytest.mark.parametrize("name", [b"[ab].jpg", b"what?.jpg", b"*.jpg"])
    def test_gives_way_to_a_file_of_that_name(self, name: bytes) -> None:
        touch(name, b"a.jpg", b"what1.jpg")
        assert list_paths(name) == [name]

    def test_gives_way_to_a_folder_of_that_name(self) -> None:
        touch(b"[tT]op/x.jpg")
        assert list_paths(b"[tT]op") == [b"[tT]op/x.jpg"]

    def test_that_finds_a_file_named_minus_does_not_read_stdin(self) -> None:
        touch(b"-")
        assert list_paths(b"[-]") == [b"-"]

    @pytest.mark.parametrize(
        ("link", "target"), [(b"top/link", b"below"), (b"top/below/up", b"..")]
    )
    def test_of_two_stars_does_not_go_through_links_to_folders(
        self, link: bytes, target: bytes
    ) -> None:
        os.symlink(target, link)
        assert list_paths(b"top/**/*.jpg") == [
            b"top/a.jpg",
            b"top/below/c.jpg",
            b"top/below/deep/d.jpg",
        ]


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


def test_glob_passes_over_links_to_folders(here: Path) -> None:
    (here / "album").mkdir()
    (here / "album" / "a.jpg").touch()
    (here / "link").symlink_to("album")
    assert [ref.path for ref in Listing([b"*"])] == [b"album/a.jpg"]
    assert [ref.path for ref in Listing([b"link"])] == [b"link/a.jpg"]
