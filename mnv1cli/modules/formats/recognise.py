"""Files that are taken for modules, recognised by their content, with what to do instead."""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from mnv1cli.errors import ModuleError
from mnv1cli.modules.formats.zip_file import list_names

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

HEAD_BYTES = 4096
# As many bytes tell whether a file is an archive.
ARCHIVE_HEAD_BYTES = 512
_GZIP, _ZIP, _EMPTY_ZIP = b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06"
# The magic of a tar is behind the first header; without it the header's checksum tells.
_TAR_MAGIC = slice(257, 262)
_CHECKPOINT_END = bytes.fromhex("57fb808b247547db")  # kTableMagicNumber of TensorFlow's tables


class Form(NamedTuple):
    """A form of file that is not a module: its name, and what to do with it."""

    name: str
    advice: str


_EXPORT = "export the model: keras.models.load_model(FILE).export(FOLDER), and name the folder"
_ORIGIN = "name the SavedModel or the TF1 Hub module that it was made from"
_OTHER_LIBRARY = "mnv1 takes modules of TensorFlow: a SavedModel or a TF1 Hub module"
_REPACK = "unpack it and name the folder, or pack it as .tar.gz, .tar or .zip"

KERAS = Form("a Keras model (.keras)", _EXPORT)
_HDF5 = Form("an HDF5 file (.h5), as Keras writes it", _EXPORT)
_LITERT = Form("a model for LiteRT (.tflite)", _ORIGIN)
_ONNX = Form("an ONNX model (.onnx)", _ORIGIN)
_FROZEN = Form("a frozen graph (.pb)", _ORIGIN)
_PYTORCH = Form("a PyTorch file (.pt)", _OTHER_LIBRARY)
_SAFETENSORS = Form("a file of weights (.safetensors)", _OTHER_LIBRARY)
_NUMPY = Form("a file of weights (.npz)", "build a module from it: mnv1 module build --weights")
_CHECKPOINT = Form(
    "a file of a checkpoint", "build a module from it: mnv1 module build --checkpoint"
)

# Forms by the bytes at an offset, of which no other form begins with the same.
_MAGIC = (
    (0, b"\x89HDF\r\n\x1a\n", _HDF5),
    (4, b"TFL3", _LITERT),
    (0, b"\xfd7zXZ\x00", Form("an archive packed with xz", _REPACK)),
    (0, b"BZh", Form("an archive packed with bzip2", _REPACK)),
    (0, b"\x28\xb5\x2f\xfd", Form("an archive packed with Zstandard", _REPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Form("a 7-Zip archive", _REPACK)),
    (0, b"Rar!\x1a\x07", Form("a RAR archive", _REPACK)),
)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_SAFETENSORS_HEAD = re.compile(rb".{6}\x00\x00\{\s*\"", re.S)
# A SavedModel begins with its version 1 and a graph; an ONNX model with version 3 or higher of
# its format, and then the name or version of the program that wrote it, or the graph.
_SAVED_MODEL_HEAD = re.compile(rb"\x08\x01\x12")
_ONNX_HEAD = re.compile(rb"\x08[\x03-\x20][\x12\x1a\x22\x28\x32\x3a\x42]")
# A GraphDef begins with a node: its name, then its operation.
_GRAPH_HEAD = re.compile(
    rb"\n[\x80-\xff]{0,4}[\x00-\x7f]\n[\x80-\xff]?[\x01-\x7f][A-Za-z0-9.][\x20-\x7e]*?"
    rb"\x12[\x01-\x40][A-Z_][A-Za-z0-9_]*[\x1a\x22\x2a]"
)
_CHECKPOINT_NAME = re.compile(r".*\.(index|meta|data-\d+-of-\d+)|checkpoint")


def read_head(path: Path) -> bytes:
    """Read the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def is_archive(head: bytes) -> bool:
    """Return whether a file that begins like this may be an archive that is taken."""
    return head.startswith(_GZIP) or is_zip(head) or is_tar(head)


def is_zip(head: bytes) -> bool:
    """Return whether a file that begins like this is a ZIP."""
    return head.startswith((_ZIP, _EMPTY_ZIP))


def is_tar(head: bytes) -> bool:
    """Return whether a file begins with the header of a tar: its magic, or its checksum."""
    block = head[:ARCHIVE_HEAD_BYTES]
    if len(block) < ARCHIVE_HEAD_BYTES or not block.strip(b"\0"):
        return False
    if block[_TAR_MAGIC] == b"ustar":
        return True
    field = block[148:156].strip(b" \0")
    # The checksum is that of the header with spaces in its own place.
    total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    return bool(re.fullmatch(rb"[0-7]{1,7}", field)) and int(field, 8) == total


def recognise_file(path: Path) -> Form | None:
    """Recognise a file of a known form that is no archive of a module; None for other files.

    Raises:
        OSError: the file cannot be read.
    """
    head = read_head(path)
    for offset, magic, form in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return form
    if is_zip(head):
        return _recognise_zip(path)
    if head.startswith(_GZIP) or is_tar(head):
        return None
    if _CHECKPOINT_NAME.fullmatch(path.name) or has_table_end(path):
        return _CHECKPOINT
    return _recognise_message(path, head)


def _recognise_message(path: Path, head: bytes) -> Form | None:
    """Recognise forms without a magic of their own, by how they begin."""
    if _SAVED_MODEL_HEAD.match(head):
        return Form("the graph of a SavedModel", f"name its folder: {path.parent}")
    for pattern, form in (
        (_ONNX_HEAD, _ONNX),
        (_GRAPH_HEAD, _FROZEN),
        (_SAFETENSORS_HEAD, _SAFETENSORS),
        (_PICKLE, _PYTORCH),
    ):
        if pattern.match(head):
            return form
    return None


def _recognise_zip(path: Path) -> Form | None:
    """Recognise the files of other programs that are ZIPs."""
    try:
        names = list_names(path)
    except ModuleError:
        return None
    if any(name.endswith("saved_model.pb") for name in names):
        return None
    if _is_keras(names):
        return KERAS
    if any(name.endswith("/data.pkl") for name in names):
        return _PYTORCH
    if names and all(name.endswith(".npy") for name in names):
        return _NUMPY
    return None


def _is_keras(names: Collection[str]) -> bool:
    """Return whether these are the names in a Keras 3 file; large weights are in several."""
    return "config.json" in names and any(name.startswith("model.weights.") for name in names)


def advise_folder(folder: Path) -> str:
    """Return what to do with a folder that lacks the graph of a module; empty if nothing shows."""
    entries = _list_first(folder)
    names = {entry.name for entry in entries}
    if "saved_model.pb" in names:
        return ""
    inner = [entry for entry in entries if (entry / "saved_model.pb").is_file()]
    if len(inner) == 1:
        return f"name {inner[0]}, which has one"
    if _is_keras(names):
        return f"it is an unpacked Keras model: {_EXPORT.replace('FILE', 'FILE.keras')}"
    for entry in entries:
        if entry.is_file() and (form := recognise_file(entry)) and form.advice != _REPACK:
            return f"it has {entry.name}, {form.name}: {form.advice}"
    return ""


def _list_first(folder: Path) -> list[Path]:
    """List the first entries of a folder by name; folders of data have very many."""
    return sorted(itertools.islice(folder.iterdir(), 1000))


def has_table_end(path: Path) -> bool:
    """Return whether a file ends as a table of TensorFlow, the format of checkpoints."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - len(_CHECKPOINT_END)))
        return file.read() == _CHECKPOINT_END
