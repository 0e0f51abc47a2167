"""Unpack any bytes, as an archive or as the tar in a `.tar.gz`: the result stays in its folder."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.harness import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES = 64 << 20


def load() -> Callable[[bytes], None]:
    from mnv1cli.errors import ModuleError
    from mnv1cli.modules.formats import recognise, unpack

    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    file, directory = folder / "it.tar.gz", folder / "unpacked"

    def target(data: bytes) -> None:
        file.write_bytes(data if recognise.is_archive(data) else gzip.compress(data, 1))
        directory.mkdir()
        try:
            unpack.unpack_archive(file, directory)
        except ModuleError:
            pass
        finally:
            assert sorted(os.listdir(folder)) == [file.name, directory.name]
            found = [path for path in directory.rglob("*") if not path.is_dir()]
            assert all(path.is_file() and not path.is_symlink() for path in found)
            assert sum(path.stat().st_size for path in found) < MOST_BYTES
            shutil.rmtree(directory)

    return target


if __name__ == "__main__":
    fuzz(load)
