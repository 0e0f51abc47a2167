"""Runs on Ray: the rows of the local runner, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.results.readers import open_result
from mnv1cli.storage.location import Location
from tests.conftest import ROOT
from tests.support.shell import command, mnv1, program

if TYPE_CHECKING:
    from collections.abc import Mapping

pytest.importorskip("ray")
PHOTOS = ROOT / "examples" / "photos"
OPTIONS = ("--module", "bundled", "--threads", 2)


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of many photos, some of which are none."""
    folder = tmp_path_factory.mktemp("many")
    photos = sorted(PHOTOS.iterdir())
    for number in range(600):
        photo = photos[number % len(photos)]
        (folder / f"{number:04}{photo.suffix}").symlink_to(photo)
    (folder / "0100-cut.jpg").write_bytes((PHOTOS / "coffee.jpg").read_bytes()[:9000])
    (folder / "0200-none.png").write_bytes(b"no picture")
    (folder / "0300-gone.jpg").symlink_to(folder / "nowhere.jpg")
    (Path(os.fsdecode(os.fsencode(folder) + b"/0400-\xff\n.jpg"))).symlink_to(photos[0])
    return folder


def found(place: Path) -> dict[bytes, Any]:
    """Each image's labels, or its error; an image must not come twice."""
    result: dict[bytes, Any] = {}
    for table in open_result(Location(f"{place}/")).tables():
        values = table.predictions or table.values
        assert values is not None
        for path, error, value in zip(table.paths, table.errors, values, strict=True):
            assert path not in result
            labels = [tuple(each) for each in value]
            result[path] = error or labels
    return result


def faults(run: subprocess.CompletedProcess[bytes]) -> list[str]:
    return sorted(line for line in outcome(run).splitlines() if "/many" in line)


def outcome(run: subprocess.CompletedProcess[bytes]) -> str:
    return run.stderr.decode()


def test_ray_gives_the_rows_of_the_local_runner(many: Path, tmp_path: Path) -> None:
    local = program("classify", many, "-o", f"{tmp_path}/local/", *OPTIONS)
    out = tmp_path / "spread.parquet"
    spread = program("classify", many, "--runner", "ray", "-o", out, *OPTIONS)
    assert (local.returncode, spread.returncode) == (3, 3), outcome(spread)
    rows = found(tmp_path / "local")
    assert found(out) == rows
    assert len(rows) == 604
    assert sum(isinstance(each, str) for each in rows.values()) == 3
    # One line for each fault, and the summary: those of the local runner.
    one, other = (faults(run) for run in (local, spread))
    assert one == other
    assert len(one) == 3
    assert "601 images in" in outcome(spread)
    assert "3 failed, in" in outcome(spread)
    # What is there needs neither its images nor a cluster.
    many.rename(tmp_path / "away")
    how = ("--runner", "ray", "--ray-address", "127.0.0.1:9", "-o", out)
    again = program("classify", "-0", "-", *how, *OPTIONS, stdin=b"\0".join(rows))
    (tmp_path / "away").rename(many)
    assert again.returncode == 0, outcome(again)
    assert "is complete: nothing is left to do" in outcome(again)


def test_a_node_that_dies_costs_no_row(many: Path, tmp_path: Path) -> None:
    words: list[Any] = [
        sys.executable,
        "-m",
        "tests.support.nodes",
        many,
        f"{tmp_path}/out/",
        "classify",
    ]
    run = subprocess.run(words, capture_output=True, cwd=ROOT, timeout=280, check=False)
    assert run.returncode == 0, run.stderr.decode()[-3000:]
    # Ray may print behind it, on the standard output of its own.
    (line,) = (line for line in run.stdout.splitlines() if line.startswith(b"{"))
    told: Mapping[str, int] = json.loads(line)
    assert told["parts"] < told["all"], "the node went too late"
    assert (told["alive"], told["done"]) == (1, 601)
    paths = Counter(open_result(Location(f"{tmp_path}/out/")).paths())
    assert len(paths) == 604
    assert set(paths.values()) == {1}


def test_a_run_that_is_stopped_leaves_whole_parts_and_goes_on(many: Path, tmp_path: Path) -> None:
    arguments = ("classify", many, "--runner", "ray", "-o", f"{tmp_path}/out/", *OPTIONS)
    with subprocess.Popen(command(*arguments), stderr=subprocess.PIPE) as run:
        while not list((tmp_path / "out").glob("part-*")):
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        _, told = run.communicate(timeout=300)
    assert run.returncode == 130, told.decode()
    assert b"stopped by a signal" in told
    before = len(found(tmp_path / "out"))
    # Either runner goes on where the other stood.
    again = program("classify", many, "-o", f"{tmp_path}/out/", *OPTIONS)
    rows = found(tmp_path / "out")
    assert len(rows) == 604
    if before < 604:
        assert f"{before:,} were there already" in outcome(again)


def test_a_task_that_refuses_ends_the_run_at_once(many: Path, tmp_path: Path) -> None:
    code = (
        "import functools, sys\n"
        "from mnv1cli.cluster import run\n"
        "run.Order = functools.partial(run.Order, version='0.0.1')\n"
        "from mnv1cli.cli.main import main; sys.argv[0] = 'mnv1'; main()"
    )
    options = ["--runner", "ray", "-o", tmp_path / "o", "--module", "bundled", "--threads", "2"]
    words: list[Any] = [sys.executable, "-c", code, "classify", many, *options]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    run = subprocess.run(words, capture_output=True, check=False, timeout=300, env=environment)
    assert run.returncode == 1
    assert b"install the same version there" in run.stderr
    lines = [line for line in run.stderr.splitlines() if b"preparing" not in line]
    assert len(lines) == 1
    # Nothing of a cluster is left, and no other one was begun.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o"]


def test_without_ray_an_error_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'ray' else found(name, *a)\n"
        "from mnv1cli.cli.main import main; sys.argv[0] = 'mnv1'; main()"
    )
    options = ["--runner", "ray", "-o", tmp_path / "o", "--module", "bundled"]
    words: list[Any] = [sys.executable, "-c", code, "classify", PHOTOS, *options]
    run = subprocess.run(words, capture_output=True, check=False)
    assert run.returncode == 2
    assert b"pip install 'mnv1cli[ray]'" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runner", "ray"], "name its folder with -o"),
        (["--runner", "ray", "-o", "-"], "name its folder with -o"),
        (["--runner", "ray", "-o", "out.csv"], "out.csv is a file"),
        (["--runner", "ray", "-o", "out", "-f", "csv"], "a dataset of Parquet files, not csv"),
        (
            ["--runner", "ray", "-o", "out", "--engine", "tf"],
            "only the engines litert and openvino",
        ),
        (["--runner", "ray", "-o", "out", "--on-error", "fail"], "--on-error fail"),
        (
            ["--ray-address", "auto", "-o", "out/"],
            "--ray-address can only be used with --runner ray",
        ),
    ],
)
def test_what_ray_cannot_do_is_said_before_any_work(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = mnv1("classify", PHOTOS, "--module", "bundled", *arguments)
    assert run.exit_code == 2, run.output
    assert told in run.stderr
    assert not list(tmp_path.glob("out*"))


def test_a_cluster_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    arguments = ("--runner", "ray", "--ray-address", "127.0.0.1:9", "-o", tmp_path / "out")
    run = program("classify", PHOTOS, *arguments, *OPTIONS)
    assert run.returncode == 1
    assert "no Ray cluster at 127.0.0.1:9" in outcome(run)
    assert len(outcome(run).splitlines()) == 1


def test_what_ray_prints_is_no_result(tmp_path: Path) -> None:
    code = (
        "from mnv1cli.cluster import run\n"
        "from mnv1cli.__main__ import main\n"
        "def speaking(*arguments):\n"
        "    print('(raylet) A worker died')\n"
        "    raise run.ClusterError('it went')\n"
        "run.run_on_ray = speaking\n"
        "main()\n"
    )
    words: list[Any] = [sys.executable, "-c", code, "classify", PHOTOS, "--runner", "ray"]
    words += ["-o", tmp_path / "out", *map(str, OPTIONS)]
    run = subprocess.run(words, capture_output=True, cwd=ROOT, check=False)
    assert (run.returncode, run.stdout) == (1, b"")
    assert outcome(run).endswith("mnv1: error: it went\n")
    assert "(raylet)" not in outcome(run)
    loud = subprocess.run([*words, "-v"], capture_output=True, cwd=ROOT, check=False)
    assert not loud.stdout
    assert b"(raylet) A worker died" in loud.stderr


def test_rows_that_were_to_be_replaced_stay_without_a_cluster(tmp_path: Path) -> None:
    place = f"{tmp_path}/out/"
    assert program("classify", PHOTOS, "-o", place, *OPTIONS).returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    arguments = ("--runner", "ray", "--ray-address", "127.0.0.1:9", "--force", "-o", place)
    run = program("classify", PHOTOS, *arguments, *OPTIONS)
    assert run.returncode == 1, outcome(run)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before


def test_archives_are_left_to_the_local_runner(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "photos"), "zip", PHOTOS)
    arguments = ("--runner", "ray", "-o", tmp_path / "out")
    run = program("classify", tmp_path / "photos.zip", *arguments, *OPTIONS)
    assert run.returncode == 2, outcome(run)
    assert "--runner local" in outcome(run)
