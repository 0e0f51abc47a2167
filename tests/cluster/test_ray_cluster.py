"""Clusters that are too small, or not there."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from mnv1cli.cluster import ray_cluster
from mnv1cli.errors import ClusterError
from tests.conftest import ROOT

pytest.importorskip("ray")


def test_nobody_answers_at_an_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with (
            pytest.raises(ClusterError, match=f"no Ray cluster at {address}"),
            ray_cluster.connected(address),
        ):
            pass


def test_a_cluster_without_a_cpu_is_too_small_and_signals_stay_ours() -> None:
    code = (
        "import signal\n"
        "from mnv1cli.cluster import ray_cluster\n"
        "from mnv1cli.errors import ClusterError\n"
        "def own(*_): pass\n"
        "signal.signal(signal.SIGTERM, own)\n"
        "ray_cluster.cpu.count_cores = lambda: 0\n"
        "try:\n"
        "    with ray_cluster.connected('local'): raise SystemExit('it was taken')\n"
        "except ClusterError as error: assert 'too small' in str(error), error\n"
        "assert signal.getsignal(signal.SIGTERM) is own\n"
        "import ray; assert not ray.is_initialized()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)
