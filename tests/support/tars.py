"""Archives of modules, and of single members with any fields."""

from __future__ import annotations

import io
import random
import tarfile
from typing import Literal

from tests.support.laid import FILES


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def folder(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=tarfile.DIRTYPE, mode=0o755)


def tar_bytes(
    *members: tuple[tarfile.TarInfo, bytes], mode: Literal["w:gz", "w:xz", "w"] = "w:gz"
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def module_members(prefix: str = "") -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(prefix + name, content) for name, content in FILES.items()]


def noise(length: int) -> bytes:
    """Return bytes that do not compress, so that the archive has them as they are."""
    return random.Random(length).randbytes(length)
