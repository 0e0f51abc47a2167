"""The files of an exported model: the model, and its description in JSON beside it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mnv1cli.errors import OptionError, OutputError
from mnv1cli.modules.files import CHECKSUMS, find_missing_file
from mnv1cli.system import signals

if TYPE_CHECKING:
    from collections.abc import Iterator

ExportFormat = Literal["tflite", "onnx", "savedmodel"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

DESCRIPTION = ".json"
# The key of a description with the number of its layout; it distinguishes ours from other JSON.
LAYOUT_KEY, LAYOUT = "mnv1_export", 1

_SUFFIXES: dict[str, ExportFormat] = {".tflite": "tflite", ".onnx": "onnx"}
# A suffix begins with a letter: `mobilenet_v1_1.0_224` has none.
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]*$")
# The bytes that a file of a format has at a position. A TFLite file is a FlatBuffer with this
# identifier; an ONNX file is a protocol buffer whose first field, `ir_version`, has number 1.
_MARKS: dict[ExportFormat, tuple[int, bytes]] = {"tflite": (4, b"TFL3"), "onnx": (0, b"\x08")}
# All that TensorFlow, or mnv1 in its cache, puts into the folder of a SavedModel.
_SAVEDMODEL_ENTRIES = frozenset(
    ("saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra", CHECKSUMS)
)
# The longest name of a file in bytes, on the file systems in use.
_MAX_NAME = 255


def choose_format(output: str, wanted: ExportFormat | None = None) -> ExportFormat:
    """Return the format that the suffix of a name stands for, or `wanted` where it has none.

    A name without a suffix, or one that ends in `/`, is the folder of a SavedModel.

    Raises:
        OptionError: the suffix is unknown, or stands for another format than `wanted`.
    """
    if output == "-":
        raise OptionError("a model cannot be written to stdout", "name a file or a folder with -o")
    folder = output.endswith(("/", os.sep))
    suffix = _SUFFIX.search(os.path.basename(output))
    named = _SUFFIXES.get(suffix[0].lower()) if suffix and not folder else None
    if folder:
        named = "savedmodel"
    if wanted is not None:
        if named not in (None, wanted):
            raise OptionError(f"{output} is a name for {named}, not {wanted}", "name another place")
        return wanted
    if named is None and suffix:
        raise OptionError(
            f"{output} has the unknown suffix {suffix[0]}",
            "use .tflite, .onnx, or a name without a suffix for the folder of a SavedModel; "
            "--format chooses for any name",
        )
    return named or "savedmodel"


class ExportFiles:
    """The places that an exported model goes to, checked before any work.

    Attributes:
        target: the file, or the folder of a SavedModel.
        description: the JSON file beside it.
        format: the format of the model.

    Raises:
        OutputError: one of them exists, is something else, or cannot be written.
    """

    def __init__(self, output: Path, chosen: ExportFormat, force: bool = False) -> None:
        # A path that ends in `..` has no name to put a suffix behind.
        target = Path(os.path.abspath(output)) if output.name in ("", "..") else output
        self.format = chosen
        self.target = _follow_link(target, force)
        self.description = _follow_link(
            self.target.with_name(self.target.name + DESCRIPTION), force
        )
        for path in (self.target, self.description):
            _require_writable(path)
        if os.path.lexists(self.target) and not _is_model(self.target, chosen):
            kind = "the folder of a SavedModel" if chosen == "savedmodel" else f"a .{chosen} file"
            raise OutputError(f"{self.target} exists and is not {kind}", "name another place")
        if os.path.lexists(self.description) and not _is_description(self.description):
            raise OutputError(
                f"{self.description} exists and does not describe a model", "name another place"
            )
        existing = [path for path in (self.target, self.description) if os.path.lexists(path)]
        if existing and not force:
            raise OutputError(f"{existing[0]} exists", "add --force to replace it")

    def refuse_module(self, module: Path) -> None:
        """Keep the module that is exported, and its folder, from being changed.

        Raises:
            OptionError: the model would be in the folder of the module, or around it.
        """
        place, folder = Path(os.path.realpath(self.target)), Path(os.path.realpath(module))
        if place == folder or folder in place.parents or place in folder.parents:
            raise OptionError(
                f"{self.target} would change the module in {module}", "name another place"
            )

    @contextlib.contextmanager
    def open_work(self) -> Iterator[Path]:
        """Make an empty folder on the disk of the target, and remove it in the end.

        Raises:
            OutputError: it cannot be made, or what is put into it cannot be written.
        """
        try:
            with tempfile.TemporaryDirectory(dir=self.target.parent, prefix=".mnv1-") as work:
                yield Path(work)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"cannot write {self.target}: {reason}") from error

    def publish(self, model: Path, description: Path, work: Path) -> None:
        """Move a finished model and its description to their places: both, or neither."""
        moves = ((description, self.description), (model, self.target))
        replaced: list[tuple[Path, Path]] = []
        written: list[tuple[Path, Path]] = []
        with signals.defer_stop():
            try:
                for i, (_, target) in enumerate(moves):
                    if os.path.lexists(target):
                        replaced.append((work / f"replaced-{i}", target))
                        os.rename(target, work / f"replaced-{i}")
                for source, target in moves:
                    os.rename(source, target)
                    written.append((source, target))
            except OSError:
                for source, target in written:
                    os.rename(target, source)
                for source, target in replaced:
                    if os.path.lexists(source):
                        os.rename(source, target)
                raise


def _follow_link(path: Path, force: bool) -> Path:
    """Return the place that a link leads to, which is replaced in place of the link."""
    return Path(os.path.realpath(path)) if force and path.is_symlink() else path


def _require_writable(path: Path) -> None:
    """Refuse a place that could not be written at the end, before any work is done."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: the folder {path.parent} is read-only")
    if len(os.fsencode(path.name)) > _MAX_NAME:
        raise OutputError(f"cannot write {path}: the name is too long")


def _is_model(path: Path, chosen: ExportFormat) -> bool:
    """Return whether a path is a model of this format, as far as its first bytes show.

    An empty folder counts as the folder of a SavedModel.
    """
    if chosen == "savedmodel":
        if path.is_symlink() or not path.is_dir():
            return False
        entries = set(os.listdir(path))
        is_complete = bool(entries) and find_missing_file(path) is None
        return not entries or (is_complete and entries <= _SAVEDMODEL_ENTRIES)
    if not path.is_file():
        return False
    position, mark = _MARKS[chosen]
    with path.open("rb") as file:
        file.seek(position)
        return file.read(len(mark)) == mark


def _is_description(path: Path) -> bool:
    """Return whether a path is a description that an export wrote."""
    if not path.is_file():
        return False
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and LAYOUT_KEY in content
