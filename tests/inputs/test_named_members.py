"""Files in archives that are named: as INPUT, in lists, and in Python."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mnv1cli.analysis import synthetic_photos
from mnv1cli.api import Classifier
from mnv1cli.errors import ImageError, MissingInputError, OptionError
from mnv1cli.inputs import held_bytes, passes
from mnv1cli.inputs.archives import split_member
from mnv1cli.inputs.from_python import make_refs
from mnv1cli.inputs.listing import InputOptions, Listing
from mnv1cli.inputs.pooled_file import PooledFile
from tests.support.archives import KINDS, PACKED, make_archive
from tests.support.shell import mnv1

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.types import ImageRef

NAMES = [b"a.jpg", b"b/c.jpg", b"b/d e.jpg", b"odd!/x!.jpg", b"latin\xe9.jpg", b"z.bin"]


def read(refs: Iterable[ImageRef], limit: int = 1 << 20) -> list[tuple[bytes, bytes | str]]:
    """Each image's path with its bytes, or why it has none, in any order of reading."""
    listed = list(refs)
    contents: dict[int, bytes | str] = {}
    for ref in random.Random(5).sample(listed, len(listed)):
        if ref.problem or ref.member is None:
            contents[ref.index] = ref.problem or Path(os.fsdecode(ref.path)).read_bytes()
            continue
        try:
            contents[ref.index] = ref.member(limit)
        except ImageError as error:
            contents[ref.index] = str(error)
    return [(ref.path, contents[ref.index]) for ref in listed]


def listed_by(names: Iterable[bytes], null: bool = False) -> Listing:
    stdin = io.BytesIO(b"".join(name + (b"\0" if null else b"\n") for name in names))
    return Listing([b"-"], options=InputOptions(null=null, stdin=stdin))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def many(kind: str, number: int = 300, size: int = 2_000) -> dict[bytes, bytes]:
    """Files of an archive in the folder of the process, which they are written to."""
    files = {b"d%d/%03d.jpg" % (i % 3, i): random.Random(i).randbytes(size) for i in range(number)}
    make_archive(Path(kind), files)
    return files


@contextlib.contextmanager
def counted_opens() -> Iterator[list[None]]:
    """Count how often an archive is begun to be read from its start."""
    opens: list[None] = []
    with pytest.MonkeyPatch.context() as patch:
        original = PooledFile.open_stream

        def open_stream(self: PooledFile) -> object:
            opens.append(None)
            return original(self)

        patch.setattr(PooledFile, "open_stream", open_stream)
        yield opens


@pytest.mark.parametrize("kind", KINDS)
def test_file_is_named_as_a_walk_reports_it(here: Path, kind: str) -> None:
    # Python writes names into a ZIP that are Unicode.
    names = [name for name in NAMES if kind != "x.zip" or name.isascii()]
    make_archive(Path(kind), {name: b"content of " + name for name in names})
    walked = {ref.path: ref for ref in Listing([kind.encode()])}
    paths = [kind.encode() + b"!/" + name for name in names]
    assert set(walked) == set(paths[:-1])
    expected = [(path, b"content of " + name) for path, name in zip(paths, names, strict=True)]
    assert read(Listing(paths)) == expected
    assert read(listed_by(paths)) == expected
    assert read(listed_by(paths, null=True)) == expected
    assert read(make_refs([os.fsdecode(path) for path in paths[:-1]])) == expected[:-1]
    assert read(make_refs(paths[:-1])) == expected[:-1]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_file_is_an_error_before_any_work_or_a_fault_in_a_list(
    here: Path, kind: str
) -> None:
    make_archive(Path(kind), {b"a.jpg": b"first"})
    for name in (b"b.jpg", b"a.jpg/x.jpg", b"A.jpg", b"a*.jpg"):
        path = kind.encode() + b"!/" + name
        with pytest.raises(MissingInputError, match="no such file in x") as caught:
            Listing([kind.encode() + b"!/a.jpg", path])
        assert caught.value.exit_code == 2
        good = (kind.encode() + b"!/a.jpg", b"first")
        missing = (path, "no such file in its archive")
        assert read(listed_by([path, good[0], path])) == [missing, good, missing]
        assert read(make_refs([os.fsdecode(path), os.fsdecode(good[0])])) == [missing, good]
    with pytest.raises(MissingInputError):
        Listing([b"gone.zip!/a.jpg"])


@pytest.mark.parametrize("kind", KINDS)
def test_folder_in_an_archive_is_walked(here: Path, kind: str) -> None:
    files = many(kind, 9)
    expected = [name for name in files if name.startswith(b"d1/")]
    for name in (b"!/d1", b"!/d1/"):
        refs = list(Listing([kind.encode() + name]))
        assert [ref.path for ref in refs] == [kind.encode() + b"!/" + name for name in expected]
        assert [content for _, content in read(refs)] == [files[name] for name in expected]
    assert len(list(Listing([kind.encode() + b"!/"]))) == 9
    assert len(list(make_refs(f"{kind}!/d1"))) == 3
    (problem,) = [ref.problem for ref in make_refs(f"{kind}!/gone")]
    assert "no such file in" in problem


def test_marks_in_names_are_no_separators_where_they_cannot_be(here: Path) -> None:
    os.makedirs("top!/x.zip!")
    make_archive(Path("top!/photos.zip"), {b"in!/a.zip!/b.jpg": b"inner", b"!.jpg": b"mark"})
    make_archive(Path("top!/x.zip"), {b"y.jpg": b"in the archive"})
    Path("top!/x.zip!/y.jpg").write_bytes(b"on disk")
    os.mkdir("folder.zip")
    Path("folder.zip/a.jpg").write_bytes(b"plain")
    for name, expected in (
        (b"top!/photos.zip!/in!/a.zip!/b.jpg", b"inner"),
        (b"top!/photos.zip!/./in!/a.zip!/b.jpg", b"inner"),
        (b"top!/photos.zip!/!.jpg", b"mark"),
        # A file on disk comes first.
        (b"top!/x.zip!/y.jpg", b"on disk"),
        (b"folder.zip/a.jpg", b"plain"),
    ):
        assert read(Listing([name])) == [(name, expected)]
        assert read(listed_by([name])) == [(name, expected)]
    assert split_member(b"folder.zip!/a.jpg") is None
    assert split_member(b"top!/x.zip") is None


def test_list_of_windows_names_files_in_archives(here: Path) -> None:
    make_archive(Path("x.zip"), {b"a.jpg": b"first"})
    stdin = io.BytesIO(b"x.zip!/a.jpg\r\n" * 2)
    listing = Listing([b"-"], options=InputOptions(stdin=stdin))
    assert read(listing) == [(b"x.zip!/a.jpg", b"first")] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_many_files_in_any_order_take_few_readings_of_the_archive(here: Path, kind: str) -> None:
    files = many(kind)
    order = random.Random(1).sample(sorted(files), len(files))
    paths = [kind.encode() + b"!/" + name for name in order]
    expected = [(path, files[name]) for path, name in zip(paths, order, strict=True)]
    with counted_opens() as opens:
        assert read(listed_by(paths)) == expected
    assert len(opens) <= 1
    with counted_opens() as opens:
        assert read(make_refs([os.fsdecode(path) for path in paths])) == expected
    assert len(opens) <= 1
    with counted_opens() as opens:
        assert read(Listing(paths)) == expected
    # Once for the names, before any work.
    assert len(opens) <= 2


@pytest.mark.parametrize("kind", PACKED)
def test_files_in_the_order_of_the_archive_take_one_pass_however_long_the_list(
    here: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnv1cli.inputs.list_entries._MAX_AHEAD", 2)
    files = many(kind)
    with counted_opens() as opens:
        refs = listed_by([kind.encode() + b"!/" + name for name in files])
        for ref, expected in zip(refs, files.values(), strict=True):
            assert ref.member is not None
            assert ref.member(1 << 20) == expected
    assert len(opens) == 1


@pytest.mark.parametrize("kind", PACKED)
def test_memory_decides_the_number_of_passes(
    here: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_bytes, "MAX_HELD", 100_000)
    monkeypatch.setattr(passes, "_MIN_SHARE", 50_000)
    files = many(kind)
    order = random.Random(2).sample(sorted(files), len(files))
    paths = [kind.encode() + b"!/" + name for name in order]
    before = held_bytes.MEMORY._taken
    with counted_opens() as opens:
        for ref, name in zip(listed_by(paths), order, strict=True):
            assert ref.member is not None
            assert ref.member(1 << 20) == files[name]
            assert held_bytes.MEMORY._taken - before <= 100_000
    # 600 kB with room for 100 kB: six passes, and one or two that end with little.
    assert 4 <= len(opens) <= 12
    del ref
    assert held_bytes.MEMORY._taken == before


@pytest.mark.parametrize("kind", KINDS)
def test_file_that_is_named_often_is_read_each_time(here: Path, kind: str) -> None:
    files = many(kind, 20)
    order = [*files, *files, *reversed(files)]
    order = [name for name in order for _ in range(2)]
    paths = [kind.encode() + b"!/" + name for name in order]
    with counted_opens() as opens:
        got = read(listed_by(paths))
    assert got == [(path, files[name]) for path, name in zip(paths, order, strict=True)]
    assert len(opens) <= 1


@pytest.mark.parametrize("kind", PACKED)
def test_walk_without_memory_reads_again(
    here: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_bytes, "MAX_HELD", 20_000)
    monkeypatch.setattr(held_bytes, "_PATIENCE_SECONDS", 0.01)
    files = many(kind)
    # All are listed before the first is read.
    with counted_opens() as opens:
        assert [content for _, content in read(Listing([kind.encode()]))] == list(files.values())
    assert len(opens) > 1
    with counted_opens() as opens:
        for ref, expected in zip(Listing([kind.encode()]), files.values(), strict=True):
            assert ref.member is not None
            assert ref.member(1 << 20) == expected
    assert len(opens) == 1


def test_two_files_of_one_name_are_two_rows_of_a_walk_and_the_first_where_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_bytes, "_PATIENCE_SECONDS", 0.01)
    from tests.support.tars import member, tar_bytes

    data = tar_bytes(member("a.jpg", b"one"), member("b.jpg", b"x"), member("a.jpg", b"two"))
    Path("x.tar.gz").write_bytes(data)
    for limit in (held_bytes.MAX_HELD, 0):
        monkeypatch.setattr(held_bytes, "MAX_HELD", limit)
        assert [c for _, c in read(Listing([b"x.tar.gz"]))] == [b"one", b"x", b"two"]
        assert [c for _, c in read(Listing([b"x.tar.gz!/a.jpg"]))] == [b"one"]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_behind_a_named_file_does_no_harm(here: Path, kind: str) -> None:
    files = many(kind, 30, 20_000)
    os.truncate(kind, os.path.getsize(kind) // 2)
    names = [*files][:2] + [*files][-2:]
    got = read(listed_by([kind.encode() + b"!/" + name for name in names]))
    damaged = [content for _, content in got if isinstance(content, str)]
    assert damaged[-2:] == [content for _, content in got[-2:]]
    assert all("damaged" in reason for reason in damaged)
    if kind not in ("x.zip", "x.tar.bz2"):
        assert [content for _, content in got[:2]] == [files[name] for name in names[:2]]
    # Whether it is there cannot be said, so it is no missing INPUT.
    (ref,) = Listing([kind.encode() + b"!/" + names[-1]])
    assert "damaged" in str(read([ref])[0][1])


def test_archive_that_changes_is_told(here: Path) -> None:
    make_archive(Path("x.tar"), {b"a.jpg": b"first" * 1000})
    refs = list(Listing([b"x.tar"]))
    refs += list(Listing([b"x.tar!/a.jpg"]))
    make_archive(Path("y.tar"), {b"a.jpg": b"other" * 1000})
    os.replace("y.tar", "x.tar")
    assert ["it has changed" in str(content) for _, content in read(refs)] == [True, True]


@pytest.mark.parametrize("name", ["x.tar.zst", "x.tzst"])
def test_missing_library_is_named_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_archive(Path(name), {b"a.jpg": b"first"})
    Path("a.jpg").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    for arguments in ((name,), ("a.jpg", f"{name}!/a.jpg"), ("*",)):
        found = mnv1("classify", *arguments)
        assert found.exit_code == 2
        assert f"{name} needs a library that is not installed" in found.stderr
        assert "pip install 'mnv1cli[zst]'" in found.stderr
    with pytest.raises(OptionError, match="zst"):
        list(make_refs([name]))


@pytest.fixture(scope="module")
def photos_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    synthetic_photos.write_pictures(folder, 6, 40, 30, seed=3)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_named_files_give_the_rows_of_the_walk(
    photos_folder: Path, tmp_path: Path, kind: str
) -> None:
    files = {bytes(path)[len(bytes(photos_folder)) + 1 :]: path.read_bytes()
             for path in sorted(photos_folder.iterdir())}  # fmt: skip
    archive = make_archive(tmp_path / kind, files)
    options = ("--module", "bundled", "--top", 1)
    walked = mnv1("classify", archive, *options)
    assert walked.exit_code == 0
    rows = walked.stdout.splitlines()[1:]
    paths = [row.partition(",")[0] for row in rows]
    assert mnv1("classify", *paths, *options).stdout == walked.stdout
    shuffled = random.Random(1).sample(paths, len(paths))
    for end, null in (("\n", ()), ("\0", ("-0",))):
        stdin = "".join(path + end for path in shuffled).encode()
        listed = mnv1("classify", "-", *null, *options, stdin=stdin)
        assert sorted(listed.stdout.splitlines()[1:]) == sorted(rows)
    found = Classifier("bundled").classify(shuffled, top=1)
    assert [one.path for one in found] == shuffled
    # What has a row need not be done again, however it is named.
    (tmp_path / "list").write_text("\n".join(paths))
    mnv1("classify", archive, *options, "-o", tmp_path / "x.csv")
    again = ("--files-from", tmp_path / "list", "--skip-existing", tmp_path / "x.csv")
    assert "6 were there already" in mnv1("classify", *again, *options).stderr
    parts: list[str] = []
    for i in range(2):
        part = tmp_path / f"{i}.csv"
        sharding = ("--files-from", tmp_path / "list", "--shard", f"{i}/2", "-o", part)
        mnv1("classify", *sharding, *options)
        parts += part.read_text().splitlines()[1:]
    assert sorted(parts) == sorted(rows)
