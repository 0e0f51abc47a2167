"""ZIP archives of modules, and of single members with any fields."""

from __future__ import annotations

import io
import warnings
import zipfile
from typing import TYPE_CHECKING

from tests.support.laid import FILES

if TYPE_CHECKING:
    from collections.abc import Mapping


def entry(name: str, mode: int = 0o100644, **fields: object) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def zip_bytes(*members: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that occur twice are meant
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for info, content in members:
                archive.writestr(info, content)
    return buffer.getvalue()


def module_entries(
    prefix: str = "", files: Mapping[str, bytes] = FILES
) -> list[tuple[zipfile.ZipInfo, bytes]]:
    return [(entry(prefix + name), content) for name, content in files.items()]
