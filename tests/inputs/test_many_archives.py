"""Many archives in one run: few of them are open at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mnv1cli.analysis import synthetic_photos
from mnv1cli.inputs import pooled_file
from mnv1cli.inputs.listing import Listing
from tests.runs.test_resume import Cut, cut_at
from tests.support.archives import KINDS, make_archive
from tests.support.shell import BUNDLED, command, mnv1

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are unknown")


def count_open(folder: Path) -> int:
    """Count the files in a folder that this process has open."""
    targets = []
    for name in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return sum(target.startswith(f"{folder}/") for target in targets)


@pytest.fixture(params=KINDS)
def archives(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[bytes]]:
    """Archives of three files each, more than the pool has room for."""
    paths = []
    for i in range(pooled_file.MAX_OPEN + 10):
        path = tmp_path / f"{i}{request.param[1:]}"
        files = {b"%d.jpg" % k: b"%d of %d" % (k, i) for k in range(3)}
        paths.append(bytes(make_archive(path, files)))
    yield paths
    assert count_open(tmp_path) == 0


@linux
def test_archive_is_closed_after_its_last_file(archives: list[bytes], tmp_path: Path) -> None:
    # Each twice, and one after the other.
    for number, ref in enumerate(Listing([*archives, *archives])):
        assert ref.member is not None
        assert ref.member(100) == b"%d of %d" % (number % 3, number // 3 % len(archives))
        # The archive of this file, and the one that is being listed.
        assert count_open(tmp_path) <= 2
    del ref


@linux
def test_few_are_open_where_all_are_listed_first(archives: list[bytes], tmp_path: Path) -> None:
    listing = Listing(archives)
    refs = list(listing)
    for ref in reversed(refs):
        assert ref.member is not None
        ref.member(100)
        assert count_open(tmp_path) <= pooled_file.MAX_OPEN + 1
    listing.close()
    named = list(Listing([path + b"!/%d.jpg" % k for k in range(3) for path in archives]))
    for number, ref in enumerate(named):
        assert ref.member is not None
        assert ref.member(100) == b"%d of %d" % (number // len(archives), number % len(archives))
        assert count_open(tmp_path) <= pooled_file.MAX_OPEN + 1
    del ref, refs, named


@linux
def test_files_that_fail_leave_nothing_open(tmp_path: Path) -> None:
    paths = []
    for i in range(20):
        path = make_archive(tmp_path / f"{i}.zip", {b"a.jpg": os.urandom(5000), b"b.jpg": b"x"})
        data = bytearray(path.read_bytes())
        data[3000] ^= 0xFF
        path.write_bytes(data)
        paths.append(bytes(path))
    for ref in Listing(paths):
        assert ref.member is not None
        try:
            ref.member(10_000)
        except Exception as error:  # noqa: BLE001 - kept, as a run keeps it for its summary
            kept = error
        assert count_open(tmp_path) <= 2
    assert "damaged" in str(kept)


def test_run_over_more_archives_than_files_may_be_open_is_resumed(tmp_path: Path) -> None:
    photo, folder = tmp_path / "photo", tmp_path / "archives"
    photo.mkdir()
    folder.mkdir()
    synthetic_photos.write_pictures(photo, 1, 40, 30, seed=3)
    data = next(photo.iterdir()).read_bytes()
    for i in range(150):
        kind = KINDS[i % len(KINDS)][1:]
        make_archive(folder / f"{i:03}{kind}", {b"a.jpg": data, b"b.jpg": b"no image"})
    limits = "import resource, os, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
    start = limits + "os.execv(sys.argv[1], sys.argv[1:])"

    options: tuple[object, ...] = ("classify", folder / "*.*", *BUNDLED, "--top", 1)
    options += ("--threads", 2, "--on-error", "row", "-o")

    def run(*more: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-c", start, *command(*options, *more)],
            capture_output=True,
            timeout=300,
            check=False,
        )

    assert run(tmp_path / "whole.csv").returncode == 3
    whole = (tmp_path / "whole.csv").read_bytes()
    assert whole.count(b"!/a.jpg,1,") == 150
    assert whole.count(b"!/b.jpg,,") == 150
    with pytest.MonkeyPatch.context() as dying:
        cut_at(dying, 12)
        with pytest.raises(Cut):
            mnv1(*options, tmp_path / "x.csv")
    assert run(tmp_path / "x.csv", "--resume").returncode == 3
    assert (tmp_path / "x.csv").read_bytes() == whole
    assert b"nothing is left" in run(tmp_path / "x.csv", "--resume").stderr
    skipping = ("--skip-existing", tmp_path / "x.csv")
    assert b"300 were there already" in run(tmp_path / "y.csv", *skipping).stderr
