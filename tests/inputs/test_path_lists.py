"""Lists of paths as they arrive: from files and stdin, ended by lines or NUL."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import MissingInputError, OptionError
from mnv1cli.inputs.listing import InputOptions, Listing
from tests.support.listings import list_stdin, touch

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TypeAlias

    Tree: TypeAlias = "dict[bytes, Tree | None]"


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
        assert list_stdin(content) == found

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
        assert list_stdin(content, null=True) == found

    @settings(deadline=None)
    @given(
        names=st.lists(st.binary(min_size=1, max_size=300).filter(lambda name: 0 not in name)),
        repeat=st.integers(1, 400),
    )
    def test_by_nul_gives_back_any_names_however_long_the_list(
        self, names: list[bytes], repeat: int
    ) -> None:
        content = b"".join(name + b"\0" for name in names * repeat)
        assert list_stdin(content, null=True) == names * repeat

    def test_of_windows_lose_the_carriage_return(self, here: Path) -> None:
        touch(b"a.jpg", b"b.jpg")
        assert list_stdin(b"a.jpg\r\nb.jpg\r\n") == [b"a.jpg", b"b.jpg"]

    def test_of_windows_may_have_empty_lines(self, here: Path) -> None:
        touch(b"a.jpg", b"b.jpg")
        assert list_stdin(b"a.jpg\r\n\r\nb.jpg\r\n\r\n") == [b"a.jpg", b"b.jpg"]

    def test_keep_a_carriage_return_that_belongs_to_a_name(self, here: Path) -> None:
        touch(b"a.jpg", b"a.jpg\r")
        assert list_stdin(b"a.jpg\r\na.jpg\n") == [b"a.jpg\r", b"a.jpg"]

    @pytest.mark.parametrize("content", [b"a.jpg\0b.jpg\0", b"a.jpg\0", b"a.jpg\n\0\n"])
    def test_by_line_with_nul_bytes_are_refused(self, here: Path, content: bytes) -> None:
        with pytest.raises(OptionError, match="-0"):
            list_stdin(content)

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


def test_byte_order_mark_of_a_list_is_no_part_of_a_name(here: Path) -> None:
    (here / "a.jpg").touch()
    mark = b"\xef\xbb\xbf"
    (here / "list").write_bytes(mark + b"a.jpg\nb.jpg\n")
    assert [ref.path for ref in Listing([], [b"list"])] == [b"a.jpg", b"b.jpg"]
    (here / os.fsdecode(mark + b"a.jpg")).touch()
    assert [ref.path for ref in Listing([], [b"list"])] == [mark + b"a.jpg", b"b.jpg"]
