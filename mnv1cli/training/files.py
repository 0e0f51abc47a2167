"""The files of a training: the module, the split beside it, and the folder to resume from.

What is unfinished has another name beside the target, so that a rename completes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OptionError, OutputError, ResumeError
from mnv1cli.modules.files import find_missing_file
from mnv1cli.runs import journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mnv1cli.inference.result_module import ResultModule
    from mnv1cli.training.options import FinetuneOptions

SPLIT, PART = ".split.csv", ".part"
_SETTINGS, _WORK = "settings.json", "work"


class FinetuneFiles:
    """The places that a trained module goes to, checked before any work.

    Attributes:
        output: the folder of the module.
        split: the CSV file beside it, with the part of each image.
        part: the folder of checkpoints, while all layers are trained.

    Raises:
        OptionError: the module would be in the folder of images, or around it.
        OutputError: it exists already, or nothing can be written there.
        ResumeError: an earlier run was stopped, and no option says what to do about it.
    """

    def __init__(self, output: Path, images: Path, options: FinetuneOptions) -> None:
        self.output = _name_output(output)
        self.split = self.output.with_name(self.output.name + SPLIT)
        self.part = _name_part(output)
        self._full = options.full
        _refuse_nesting(self.output, images)
        if not self.output.parent.is_dir():
            raise OutputError(
                f"cannot write {self.output}: there is no folder {self.output.parent}"
            )
        self._refuse_existing(options)
        if options.full:
            self._settle_part(options)

    def _refuse_existing(self, options: FinetuneOptions) -> None:
        existing = [path for path in (self.output, self.split) if os.path.lexists(path)]
        # A run that was stopped at its very end may have renamed the split already.
        resumed = options.resume and existing == [self.split]
        if existing and not options.force and not resumed:
            raise OutputError(f"{existing[0]} exists", "add --force to replace it")
        # Never a folder of something else, whatever the options are.
        if os.path.lexists(self.output) and not _is_module(self.output):
            raise OutputError(f"{self.output} exists and is not a module", "name another place")
        if os.path.lexists(self.split) and not self.split.is_file():
            raise OutputError(f"{self.split} exists and is not a file", "name another place")

    def _settle_part(self, options: FinetuneOptions) -> None:
        """Remove the checkpoints of an earlier run where the options allow it."""
        if not os.path.lexists(self.part) or options.resume:
            return
        if not (self.part / _SETTINGS).is_file():
            raise OutputError(f"{self.part} exists and is not of mnv1", "name another place")
        if not options.force:
            raise ResumeError(
                f"{self.part} is left from a run that was stopped",
                "add --resume to go on with it, or --force to begin anew",
            )
        shutil.rmtree(self.part)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Make the folder of a long run's checkpoints, with its settings.

        Raises:
            ResumeError: it exists and was begun with other settings, or is damaged.
        """
        file = self.part / _SETTINGS
        if file.is_file():
            try:
                begun = json.loads(file.read_text("utf-8"))
            except ValueError as error:
                raise ResumeError(f"{file} is damaged", "begin anew with --force") from error
            journal.check_settings(str(self.part), begun, settings)
            return
        self.part.mkdir(exist_ok=True)
        unfinished = file.with_suffix(".tmp")
        unfinished.write_text(json.dumps(settings, indent=2), "utf-8")
        os.replace(unfinished, file)

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """Make an empty folder on the disk of the target, and remove it in the end."""
        if not self._full:
            with tempfile.TemporaryDirectory(dir=self.output.parent, prefix=".mnv1-") as work:
                yield Path(work)
            return
        # In a place where the next run sees what a run that was killed has left.
        folder = self.part / _WORK
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, module: Path, split: bytes, work: Path) -> None:
        """Move a finished module and its split to their places, the module last."""
        (work / "split").write_bytes(split)
        os.replace(work / "split", self.split)
        if os.path.lexists(self.output):
            os.rename(self.output, work / "replaced")
        os.rename(module, self.output)
        if self._full:
            shutil.rmtree(self.part, ignore_errors=True)


def find_begun_module(output: Path) -> ResultModule | None:
    """Return the module that an interrupted training of `output` was begun with, if any."""
    part = _name_part(output)
    try:
        settings = json.loads((part / _SETTINGS).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return journal.find_module(settings, str(part), part) if isinstance(settings, dict) else None


def _name_output(output: Path) -> Path:
    # A path that ends in `..` has no name to put a suffix behind.
    return Path(os.path.abspath(output)) if output.name in ("", "..") else output


def _name_part(output: Path) -> Path:
    named = _name_output(output)
    return named.with_name(named.name + PART)


def _refuse_nesting(output: Path, images: Path) -> None:
    place, folder = Path(os.path.realpath(output)), Path(os.path.realpath(images))
    if folder == place or folder in place.parents:
        raise OptionError(f"{output} is in {images}, the folder of images", "name another place")
    if place in folder.parents:
        raise OptionError(f"{images}, the folder of images, is in {output}", "name another place")


def _is_module(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and find_missing_file(path) is None
