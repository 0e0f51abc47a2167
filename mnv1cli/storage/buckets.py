"""Objects in buckets of S3 and Google Cloud Storage: looked up, listed page by page, read.

The requests are made through s3fs and gcsfs, which supply credentials, retries and
connections. Their own listings are of no use here: they return only when all keys
have arrived, and a bucket may have millions.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ImageError
from mnv1cli.limits import check_bytes
from mnv1cli.storage.base import (
    BrokenOffError,
    Entry,
    compute_timeout,
    retry_broken,
    run_in_loop,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.storage.base import Failures


def split_uri(uri: bytes) -> tuple[str, str]:
    """Split a URI into bucket and key; no character in it is quoted.

    Raises:
        ImageError: it is not UTF-8, as keys are.
    """
    try:
        bucket, _, key = uri.partition(b"://")[2].decode().partition("/")
    except UnicodeDecodeError:
        raise ImageError("no such file: keys are UTF-8") from None
    return bucket, key


def _split_object_uri(uri: bytes) -> tuple[str, str]:
    """Split the URI of an object into bucket and key.

    Raises:
        ImageError: it names no object.
    """
    bucket, key = split_uri(uri)
    if not bucket or not key:
        raise ImageError("it names no object: s3://bucket/key does, and gs://bucket/key")
    return bucket, key


class S3:
    """The objects of S3 and of stores with the same interface, through s3fs.

    All methods raise the exceptions in `failures`: FileNotFoundError if the bucket
    does not exist, PermissionError if access to it is denied.
    """

    def __init__(self, filesystem: Any) -> None:
        from aiohttp import ClientError
        from botocore.exceptions import BotoCoreError
        from botocore.exceptions import ClientError as AnswerError

        self._fs = filesystem
        self.failures: Failures = (OSError, ValueError, BotoCoreError, AnswerError, ClientError)
        self._broken = (BotoCoreError, ClientError, ConnectionError)

    def look_up(self, uri: bytes) -> Entry | None:
        """Look up the object of this name; return None if it does not exist."""
        bucket, key = split_uri(uri)
        try:
            head = self._call("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return Entry(b"", head["ContentLength"], head["LastModified"].timestamp())

    def require_bucket(self, uri: bytes) -> None:
        """Ask for the bucket itself."""
        self._call("head_bucket", Bucket=split_uri(uri)[0])

    def list_pages(self, uri: bytes, flat: bool = False) -> Iterator[list[Entry]]:
        """List the keys that begin with a URI, in their order; `flat` skips deeper ones.

        In place of skipped keys their folders are listed, with a slash at the end.
        """
        bucket, prefix = split_uri(uri)
        arguments: dict[str, Any] = {"Delimiter": "/"} if flat else {}
        while True:
            page = self._call("list_objects_v2", Bucket=bucket, Prefix=prefix, **arguments)
            objects = [
                Entry(
                    _strip_prefix(item["Key"], prefix),
                    item["Size"],
                    item["LastModified"].timestamp(),
                )
                for item in page.get("Contents", ())
            ]
            folders = (item["Prefix"] for item in page.get("CommonPrefixes", ()))
            yield [*objects, *(Entry(_strip_prefix(folder, prefix)) for folder in folders)]
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, uri: bytes, limit: int) -> bytes:
        """Read the bytes of an object.

        Raises:
            ImageError: they are more than `limit`; in that case none is read.
        """
        bucket, key = _split_object_uri(uri)
        return retry_broken(lambda: run_in_loop(self._fs, self._read_content(bucket, key, limit)))

    def write(self, uri: bytes, file: Path) -> None:
        """Store a file as the object `uri`."""
        call = self._fs._put_file(str(file), uri.decode())
        run_in_loop(self._fs, asyncio.wait_for(call, compute_timeout(file.stat().st_size)))

    async def _read_content(self, bucket: str, key: str, limit: int) -> bytes:
        call = self._fs._call_s3("get_object", Bucket=bucket, Key=key)
        answer = await asyncio.wait_for(call, compute_timeout())
        body, length = answer["Body"], int(answer["ContentLength"])
        try:
            check_bytes(length, limit)
            data: bytes = await asyncio.wait_for(body.read(), compute_timeout(length))
        except self._broken as error:
            # s3fs itself retries requests that break off earlier.
            raise BrokenOffError(f"the transfer broke off: {error}") from error
        finally:
            body.close()
        if len(data) != length:
            raise BrokenOffError(f"{len(data)} bytes of {length} came")
        return data

    def _call(self, method: str, **parameters: Any) -> Any:
        call = self._fs._call_s3(method, **parameters)
        return run_in_loop(self._fs, asyncio.wait_for(call, compute_timeout()))


class GoogleStorage:
    """The objects of Google Cloud Storage, through gcsfs; used in the same way as `S3`."""

    def __init__(self, filesystem: Any) -> None:
        from aiohttp import ClientError
        from gcsfs.retry import HttpError
        from google.auth.exceptions import GoogleAuthError

        self._fs = filesystem
        self._error = HttpError
        self.failures: Failures = (
            OSError,
            ValueError,
            RuntimeError,
            HttpError,
            GoogleAuthError,
            ClientError,
        )

    def look_up(self, uri: bytes) -> Entry | None:
        """Look up the object of this name; return None if it does not exist."""
        bucket, key = split_uri(uri)
        try:
            return _make_google_entry(self._call("b/{}/o/{}", bucket, key), "")._replace(name=b"")
        except FileNotFoundError:
            return None

    def require_bucket(self, uri: bytes) -> None:
        """Ask for the bucket itself."""
        self._call("b/{}", split_uri(uri)[0])

    def list_pages(self, uri: bytes, flat: bool = False) -> Iterator[list[Entry]]:
        """List the keys that begin with a URI, in their order; `flat` skips deeper ones.

        In place of skipped keys their folders are listed, with a slash at the end.
        """
        bucket, prefix = split_uri(uri)
        arguments = {"prefix": prefix or None, "delimiter": "/" if flat else None}
        token = None
        while True:
            page = self._call("b/{}/o", bucket, pageToken=token, maxResults=1000, **arguments)
            objects = [_make_google_entry(item, prefix) for item in page.get("items", ())]
            folders = (Entry(_strip_prefix(folder, prefix)) for folder in page.get("prefixes", ()))
            yield [*objects, *folders]
            token = page.get("nextPageToken")
            if not token:
                return

    def read(self, uri: bytes, limit: int) -> bytes:
        """Read the bytes of an object.

        Raises:
            ImageError: they are more than `limit`.
        """
        bucket, key = _split_object_uri(uri)
        try:
            return run_in_loop(self._fs, self._read_content(bucket, key, limit))
        except self._error as error:
            if error.code == _NO_SUCH_RANGE:
                # An empty object has no first byte.
                return b""
            raise

    def write(self, uri: bytes, file: Path) -> None:
        """Store a file as the object `uri`."""
        call = self._fs._put_file(str(file), uri.decode())
        run_in_loop(self._fs, asyncio.wait_for(call, compute_timeout(file.stat().st_size)))

    async def _read_content(self, bucket: str, key: str, limit: int) -> bytes:
        call = self._fs._call(
            "GET", "b/{}/o/{}", bucket, key, alt="media", headers={"Range": f"bytes=0-{limit}"}
        )
        # The length is unknown until the data arrive.
        headers, data = await asyncio.wait_for(call, compute_timeout(min(limit, _USUAL_BYTES)))
        check_bytes(_parse_total_length(headers, len(data)), limit)
        return bytes(data)

    def _call(self, path: str, *arguments: str, **parameters: Any) -> Any:
        call = self._fs._call("GET", path, *arguments, json_out=True, **parameters)
        return run_in_loop(self._fs, asyncio.wait_for(call, compute_timeout()))


_NO_SUCH_RANGE = 416
_USUAL_BYTES = 64 << 20


def _strip_prefix(key: str, prefix: str) -> bytes:
    return key[len(prefix) :].encode()


def _make_google_entry(item: dict[str, Any], prefix: str) -> Entry:
    changed = datetime.fromisoformat(item["updated"]).timestamp() if "updated" in item else None
    return Entry(_strip_prefix(item["name"], prefix), int(item["size"]), changed)


def _parse_total_length(headers: Any, received: int) -> int:
    """Return the length of an object from the range that was received: `bytes 0-9/100`."""
    total = str(headers.get("Content-Range", "")).rpartition("/")[2]
    return int(total) if total.isdigit() else received
