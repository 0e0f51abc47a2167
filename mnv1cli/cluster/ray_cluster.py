"""A Ray cluster: an existing one, or one of this machine's cores for the time of a run."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ClusterError, OptionError
from mnv1cli.system import cpu

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

LOCAL = "local"
_ANSWER_SECONDS = 10
_FOLDER = "mnv1-ray-"
_DAY = 24 * 3600
_LONGEST = 24
# Ray reads these when it is imported; values that the user has set stay. Without them it
# reports its use, its C++ side writes to stderr, and a thread of its own that comes late
# starts a cluster.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ENABLE_AUTO_CONNECT": "0",
}


def require() -> None:
    """Require that Ray is installed, without importing it.

    Raises:
        OptionError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise OptionError("--runner ray needs Ray", "pip install 'mnv1cli[ray]'")


@contextlib.contextmanager
def connected(address: str | None, threads: int | None = None) -> Iterator[Cluster]:
    """Connect to the cluster at an address, or start one on this machine, until the block ends.

    A cluster that the process is connected to already is used, and stays connected.

    Raises:
        ClusterError: it cannot be reached, is of another version, or has no CPU.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        connected_cluster = Cluster(ray, "the cluster")
        connected_cluster.check()
        yield connected_cluster
        return
    local = address in (None, "", LOCAL)
    with contextlib.ExitStack() as stack:
        settings: dict[str, Any] = {"address": address}
        if not local:
            _require_answer(str(address))
        else:
            _sweep()
            folder = tempfile.mkdtemp(prefix=_FOLDER, dir=_short_tempdir())
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            settings = {
                "address": LOCAL,
                "num_cpus": threads or cpu.count_cores(),
                "include_dashboard": False,
                "_temp_dir": folder,
                "_node_ip_address": "127.0.0.1",
            }
        stack.callback(ray.shutdown)
        with _own_signals():
            try:
                ray.init(**settings, logging_level=logging.ERROR, log_to_driver=False)
            except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
                place = "on this machine" if local else f"at {address}"
                raise ClusterError(f"no Ray cluster {place}: {_line(error)}") from error
        cluster = Cluster(ray, "this machine" if local else f"the cluster at {address}")
        cluster.check()
        yield cluster


class Cluster:
    """A cluster that the process is connected to; `data` is Ray Data."""

    def __init__(self, ray: Any, name: str) -> None:
        self.name = name
        self.data = ray.data
        self._ray = ray

    @property
    def cores(self) -> int:
        """The number of CPUs that it has now."""
        return int(self._ray.cluster_resources().get("CPU", 0))

    @property
    def nodes(self) -> int:
        """The number of machines that it has now."""
        return sum(1 for node in self._ray.nodes() if node["Alive"])

    @property
    def own_node(self) -> str:
        """The id of the node that this process runs on."""
        return str(self._ray.get_runtime_context().get_node_id())

    def put(self, value: Any) -> Any:
        """Store a value for tasks on other machines, and return a reference to it."""
        return self._ray.put(value)

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Report a failure of tasks in one line.

        Raises:
            ClusterError: a task failed.
        """
        try:
            yield
        except (
            self._ray.exceptions.WorkerCrashedError,
            self._ray.exceptions.OutOfMemoryError,
        ) as error:
            raise ClusterError(
                f"a process of {self.name} has ended several times, perhaps for lack of memory",
                "use fewer --threads, which need less memory; the same command goes on",
            ) from error
        except self._ray.exceptions.RayError as error:
            # The last line says what happened, the others where.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            why = lines[-1] if lines else type(error).__name__
            raise ClusterError(f"a task failed on {self.name}: {why}") from error

    def check(self) -> None:
        """Require a CPU to work on.

        Raises:
            ClusterError: the cluster has less than one CPU.
        """
        if self.cores < 1:
            raise ClusterError(
                f"{self.name} is too small: it has no CPU for a task", "add a node, or free one"
            )
        if self._ray.available_resources().get("CPU", 0) < 1:
            log.warning("all CPUs of %s are taken; waiting for one", self.name)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the existing handlers of signals, which Ray replaces by its own."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        # Only the main thread can set handlers, and Ray sets them only there.
        with contextlib.suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler)


def _require_answer(address: str) -> None:
    """Require that a server listens at an address: Ray itself would try for minutes.

    Raises:
        ClusterError: none does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
        except OSError as error:
            why = error.strerror or str(error)
            raise ClusterError(f"no Ray cluster at {address}: {why}") from error


def _short_tempdir() -> str:
    """Return a folder for that of a cluster, whose path must be short for its sockets."""
    default = tempfile.gettempdir()
    return default if len(default) < _LONGEST else "/tmp"  # noqa: S108 - mkdtemp makes it ours


def _sweep() -> None:
    """Remove the folders of clusters whose processes were killed, a day later."""
    for left in Path(_short_tempdir()).glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError):
            if left.stat().st_uid == os.getuid() and time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
