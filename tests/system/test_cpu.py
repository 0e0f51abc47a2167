"""What this process may use of the cpu."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mnv1cli.system import cpu

if TYPE_CHECKING:
    from pathlib import Path

HAS_AFFINITY = hasattr(os, "sched_setaffinity")


def laid(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def version_1(quota: str, period: str) -> dict[str, str]:
    return {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": period}


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system has no affinity")
def test_affinity_counts() -> None:
    code = (
        "import os\n"
        "from mnv1cli.system import cpu\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(cpu.count_cores())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "1\n"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "50000 100000"}, 0.5),
        (version_1("-1\n", "100000\n"), None),
        (version_1("400000\n", "100000\n"), 4.0),
        (version_1("25000\n", "100000\n"), 0.25),
        ({"cpu.max": "200000 100000\n", **version_1("400000\n", "100000\n")}, 2.0),
        ({}, None),
    ],
)
def test_quota_of_a_cgroup(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert cpu._read_quota(laid(tmp_path, files)) == quota


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": ""},
        {"cpu.max": "nonsense"},
        {"cpu.max": "100000 0\n"},
        {"cpu.max": "\x7f\n"},
        version_1("", ""),
        version_1("100000", "0"),
        {"cpu/cpu.cfs_quota_us": "100000"},
    ],
)
def test_quota_that_makes_no_sense_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    assert cpu._read_quota(laid(tmp_path, files)) is None


@pytest.mark.skipif(not HAS_AFFINITY, reason="this system has no affinity")
@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max", 6), ("100000", 1), ("150000", 2), ("20000", 1), ("600000", 6), ("900000", 6)],
)
def test_the_smaller_of_affinity_and_quota_rounded_up_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(cpu, "_CGROUPS", laid(tmp_path, {"cpu.max": f"{quota} 100000\n"}))
    assert cpu.count_cores() == cores


def test_without_affinity_and_cgroups_the_system_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cpu, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cpu.count_cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu.count_cores() == 1
