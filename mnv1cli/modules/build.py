"""A module built from the user's own weights, as a directory or an archive."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OutputError, WeightsError
from mnv1cli.modules import catalog, files, mobilenet, weights
from mnv1cli.modules.formats import checkpoints, recognise, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator


def build_module(
    checkpoint: Path | None,
    npz: Path | None,
    depth_multiplier: float | None,
    image_size: int | None,
    output: Path,
    as_tar: bool = False,
) -> str:
    """Write a TF1 Hub module to `output`, which must not exist; return its fingerprint.

    The variables come from a TF-Slim `checkpoint` (a prefix, a file, a folder or an
    archive) or from an `npz` file. Without `image_size` it is the one in the
    file's name, as in mobilenet_v1_1.0_160, else 128 pixels. With `as_tar` the
    output is a `.tar.gz` as the hub serves it.

    Raises:
        WeightsError: the file cannot be read, or its variables do not fit.
        OutputError: `output` exists, or cannot be written.
    """
    if os.path.lexists(output):
        raise OutputError(f"{output} exists", "name another place")
    if not output.parent.is_dir():
        raise OutputError(f"cannot write {output}: there is no folder {output.parent}")
    source = checkpoint or npz
    assert source is not None
    if npz:
        variables, names = weights.read_weights(source), [source.name]
    else:
        variables, names = _read_checkpoint(source)
    named = next(filter(None, map(catalog.parse_archive_name, names)), None)
    size = image_size or (named.image_size if named else None)
    # Beside the target, so that the rename stays on one disk.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".mnv1-") as work:
        directory = Path(work) / "module"
        directory.mkdir()
        try:
            variant = weights.infer_variant(variables, depth_multiplier, size)
            mobilenet.write_module(directory, variables, variant)
        except WeightsError as error:
            raise WeightsError(f"{source}: {error.what}", error.remedy) from error
        fingerprint = files.compute_fingerprint(directory)
        if as_tar:
            _pack(directory, Path(work) / "module.tar.gz")
            directory = Path(work) / "module.tar.gz"
        os.rename(directory, output)
    return fingerprint


def _read_checkpoint(source: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a checkpoint; return its variables, and the names that may contain its image size."""
    with _unpack(source) as place:
        prefix = checkpoints.find_checkpoint(place)
        return weights.read_checkpoint(prefix), [source.name, prefix.name]


@contextlib.contextmanager
def _unpack(source: Path) -> Iterator[Path]:
    """Unpack an archive for as long as its checkpoint is read; yield other paths as they are."""
    if not source.is_file() or not recognise.is_archive(recognise.read_head(source)):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="mnv1-") as folder:
        unpack.unpack_archive(source, Path(folder))
        try:
            yield Path(folder)
        except WeightsError as error:
            # The folder is gone by the time that anybody reads of it.
            raise WeightsError(error.what.replace(folder, str(source)), error.remedy) from error


def _pack(directory: Path, target: Path) -> None:
    """Pack a module as a `.tar.gz`, the same bytes for the same module; remove its directory."""
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        # The hub's library looks for the folders as entries: without them it cannot open files.
        for folder in (".", "assets", "variables"):
            if (directory / folder).is_dir():
                entry = tarfile.TarInfo("." if folder == "." else f"./{folder}")
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
        for name in files.list_files(directory):
            member = tarfile.TarInfo(f"./{name}")
            path = directory / name
            member.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(member, file)
    shutil.rmtree(directory)
