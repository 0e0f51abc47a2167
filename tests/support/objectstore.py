"""An object store on this machine, as S3 speaks: moto's server in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.storage import objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_START_SECONDS = 200


@dataclass(frozen=True)
class ObjectStore:
    """A running store: where it listens, what a process needs to use it, and a client."""

    endpoint: str
    environment: Mapping[str, str]
    client: Any

    def bucket(self, name: str) -> str:
        """A new bucket."""
        self.client.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, files: Mapping[str, bytes | Path]) -> None:
        """Store objects by their keys."""
        for key, content in files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def get(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        data: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def keys(self, bucket: str) -> list[str]:
        """All keys, at most a thousand."""
        found = self.client.list_objects_v2(Bucket=bucket)
        return [item["Key"] for item in found.get("Contents", ())]


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """Run a store, with the environment of this process set to use it."""
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        # What the machine may have of its own, and requests to the cloud's machines for it.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    server = subprocess.Popen(
        [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_server(server, f"{endpoint}/moto-api/")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.delenv("AWS_PROFILE", raising=False)
            objects._clients.clear()
            objects._failures.clear()
            yield ObjectStore(endpoint, environment, _client(endpoint))
            objects._clients.clear()
            objects._failures.clear()
    finally:
        server.terminate()
        server.wait()


def _client(endpoint: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=endpoint)


def await_server(server: subprocess.Popen[bytes], request: str | urllib.request.Request) -> None:
    """Send a request until the server answers it."""
    end = time.monotonic() + _START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(request, timeout=5).close()
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert server.poll() is None, "the object store did not start"
            assert time.monotonic() < end, "the object store does not answer"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    """A store for the tests of a module; import this to use it."""
    with serving() as store:
        yield store
