"""ZIP archives are unpacked, or refused with a reason and at small cost."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnv1cli.errors import ModuleError
from mnv1cli.modules.formats.unpack import unpack_archive
from tests.support.laid import FILES, lay, read_files
from tests.support.shell import peak_megabytes
from tests.support.tars import noise
from tests.support.zips import entry, module_entries, zip_bytes

UNPACK = """
import pathlib, sys
from mnv1cli.modules.formats.unpack import unpack_archive
from mnv1cli.errors import ModuleError
try:
    unpack_archive(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
except ModuleError:
    pass
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    directory = tmp_path / "around" / "target"
    directory.mkdir(parents=True)
    return directory


def unpack(target: Path, content: bytes) -> dict[str, bytes]:
    archive = target.parent.parent / "module.zip"
    archive.write_bytes(content)
    unpack_archive(archive, target)
    assert list(target.parent.iterdir()) == [target]
    return read_files(target)


def refuse(target: Path, content: bytes, match: str) -> None:
    with pytest.raises(ModuleError, match=match) as caught:
        unpack(target, content)
    assert "\n" not in str(caught.value)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    "members",
    [
        module_entries(),
        module_entries("mobilenet/"),
        [(entry("mobilenet/", 0o40755), b""), *module_entries("mobilenet/")],
        [(entry("variables/", 0o40755), b""), *module_entries()],
        [*module_entries("m/"), (entry("__MACOSX/m/._saved_model.pb"), b"x")],
        [*module_entries("m/"), (entry(".DS_Store"), b"x")],
        [(entry(info.filename, compress_type=0), data) for info, data in module_entries()],
        # As programs of DOS and Windows write them: no mode, and other slashes.
        [
            (entry(i.filename.replace("/", "\\"), 0, create_system=0), d)
            for i, d in module_entries()
        ],
    ],
)
def test_takes_a_module_at_the_root_or_in_a_single_folder(
    target: Path, members: list[tuple[zipfile.ZipInfo, bytes]]
) -> None:
    unpacked = unpack(target, zip_bytes(*members))
    assert {name: data for name, data in unpacked.items() if name != ".DS_Store"} == FILES


def test_takes_what_other_programs_pack(tmp_path: Path, target: Path) -> None:
    lay(tmp_path / "m")
    shutil.make_archive(str(tmp_path / "made"), "zip", tmp_path, "m")
    assert unpack(target, (tmp_path / "made.zip").read_bytes()) == FILES


def test_takes_a_stream_with_lengths_behind_the_data(target: Path) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise io.UnsupportedOperation

    buffer = Unseekable()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    assert unpack(target, buffer.getvalue()) == FILES


def test_takes_zip64(target: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(content)
    assert unpack(target, buffer.getvalue()) == FILES


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "cannot be created"),
        ("/etc/evil", "is outside of it"),
        ("../evil", "is outside of it"),
        ("variables/../../evil", "is outside of it"),
        ("..\\evil", "is outside of it"),
        ("a/" * 40 + "x", "is too deep"),
        ("n" * 300, "cannot be created"),
        ("saved_model.pb/x", "cannot be created"),
        ("saved_model.pb", "cannot be created"),
        ("variables", "cannot be created"),
    ],
)
def test_refuses_a_name(target: Path, name: str, fault: str) -> None:
    refuse(target, zip_bytes(*module_entries(), (entry(name), b"x")), f"is refused: .* {fault}")


@pytest.mark.parametrize("kind", [0o120777, 0o020666, 0o060666, 0o010644, 0o140755])
@pytest.mark.parametrize("system", [0, 3])
def test_refuses_links_and_devices(target: Path, kind: int, system: int) -> None:
    link = entry("link", kind, create_system=system)
    refuse(target, zip_bytes(*module_entries(), (link, b"/etc/passwd")), "is a link or a device")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_refuses_other_methods(target: Path, method: int) -> None:
    packed = (entry("assets/x", compress_type=method), bytes(1000))
    refuse(target, zip_bytes(packed), "is packed with another method than deflate")


def test_refuses_what_is_encrypted(target: Path) -> None:
    content = bytearray(zip_bytes((entry("saved_model.pb"), b"x")))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + offset] |= 1
    refuse(target, bytes(content), "'saved_model.pb' is encrypted")


@pytest.mark.parametrize("claim", [0, 1, 999, 1001, 1 << 31])
def test_refuses_a_length_that_lies(target: Path, claim: int) -> None:
    content = bytearray(zip_bytes((entry("assets/x"), noise(1000))))
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 24, claim)
    struct.pack_into("<L", content, content.index(b"PK\x03\x04") + 22, claim)
    refuse(target, bytes(content), "not an intact")


def test_refuses_a_bomb_by_what_comes_out(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnv1cli.modules.formats.unpack._ALWAYS_BYTES", 1 << 20)
    bomb = zip_bytes((entry("assets/zeros"), bytes(50 << 20)))
    refuse(target, bomb, "unpacks to more than 4 MB|unpacks to more than 5 MB")
    # One stream under many names: only what comes out counts.
    folder = zip_bytes(*((entry(f"assets/{i}"), bytes(200_000)) for i in range(100)))
    refuse(target, folder, "unpacks to more than")


def test_refuses_too_many_files(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnv1cli.modules.formats.unpack.MAX_MEMBERS", 50)
    many = zip_bytes(*((entry(f"a/{i}"), b"") for i in range(51)))
    refuse(target, many, "more than .* 50 files")


def test_endless_list_of_files_costs_little(tmp_path: Path) -> None:
    """Two million entries would take a gigabyte in the library."""
    record = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[20] * 2, *[0] * 4, *[0] * 3, 1, *[0] * 6)
    entries = (record + b"a") * 2_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entries), 0, 0)
    archive = tmp_path / "m.zip"
    archive.write_bytes(b"PK\x03\x04" + entries + end)
    (tmp_path / "out").mkdir()
    assert peak_megabytes(UNPACK, archive, tmp_path / "out") < 100
    with pytest.raises(ModuleError, match="its list of files is too long"):
        unpack_archive(archive, tmp_path / "out")


@settings(max_examples=60, deadline=None)
@given(part=st.floats(0, 1, exclude_max=True))
def test_refuses_an_archive_that_was_cut_off(part: float) -> None:
    content = zip_bytes(*module_entries(), (entry("assets/n"), noise(5000)))
    with tempfile.TemporaryDirectory() as around:
        archive, target = Path(around, "module.zip"), Path(around, "target")
        target.mkdir()
        archive.write_bytes(content[: int(part * len(content))])
        with pytest.raises(ModuleError, match="not an intact"):
            unpack_archive(archive, target)


@settings(max_examples=300, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=6)
)
def test_damage_is_a_line_and_nothing_leaves_the_folder(flips: list[tuple[int, int]]) -> None:
    content = bytearray(zip_bytes(*module_entries()))
    for position, bits in flips:
        content[position % len(content)] ^= bits
    with tempfile.TemporaryDirectory() as around:
        archive, target = Path(around, "module.zip"), Path(around, "target")
        target.mkdir()
        archive.write_bytes(content)
        with contextlib.suppress(ModuleError):
            unpack_archive(archive, target)
        assert sorted(path.name for path in Path(around).iterdir()) == ["module.zip", "target"]


def test_memory_stays_small(tmp_path: Path) -> None:
    archive, out = tmp_path / "m.zip", tmp_path / "out"
    archive.write_bytes(zip_bytes((entry("assets/zeros"), bytes(200 << 20))))
    out.mkdir()
    assert peak_megabytes(UNPACK, archive, out) < 100
