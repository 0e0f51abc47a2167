"""The journal of a run: what is safely on disk, so that a run that was cut can go on.

The journal is a file of JSON lines beside the result. The first line holds the
settings of the run; each later one a checkpoint: how many inputs are done, a
digest of their paths, how long each file was then, and what the writer and the
tally have to know. Only complete lines count, so a journal that was cut within a
line is as good as its last complete line.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ResumeError
from mnv1cli.inference.result_module import ResultModule
from mnv1cli.types import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from mnv1cli.types import ImageRef

log = logging.getLogger(__name__)

# The work that a run which is killed may lose; each checkpoint waits for the disk.
CHECKPOINT_SECONDS = 2.0
# The keys of the settings with the module's fingerprint, its handle and the size of its images.
_MODULE, _HANDLE, _IMAGE_SIZE = "module", "handle", "--image-size"
# Whether a file of the result's name may be replaced: a fact of the run, and no setting to compare.
REPLACES = "--force"
# Settings that the journals of earlier versions do not have, with the values that they had then.
_ADDED = {"--damaged": "refuse"}
# Raise this with every change of the content of a journal.
_FORMAT = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state to go on from.

    `images` inputs are done, failed ones included, and `inputs` is the digest
    of their paths; `files` has the length in bytes of each file by its name
    relative to the journal;
    `writer` and `counts` are what the writer and the tally gave, `marks` (one an
    image) and `digest` what a shard has noted. A run that is `complete` has only
    to rename its files.
    """

    images: int
    inputs: str
    files: Mapping[str, int]
    writer: Mapping[str, Any]
    counts: Mapping[str, Any]
    faults: Sequence[Fault] = ()
    complete: bool = False
    marks: str = ""
    digest: str = ""


class Prefix:
    """A digest of the paths that were done, in their order."""

    def __init__(self) -> None:
        self.images = 0
        self._digest = hashlib.sha256()

    def add(self, paths: Iterable[bytes]) -> None:
        """Add the paths that follow."""
        for path in paths:
            # With its length, so that no other paths give the same bytes one after the other.
            self._digest.update(len(path).to_bytes(8, "big") + path)
            self.images += 1

    def digest(self) -> str:
        """Return the sha256 of the paths, in hexadecimal."""
        return self._digest.hexdigest()


def skip_done(
    refs: Iterable[ImageRef], checkpoint: Checkpoint
) -> tuple[Iterator[ImageRef], Prefix]:
    """Return the images that are still to do, and the prefix of those that are done.

    Raises:
        ResumeError: the inputs are not those that the run was begun with.
    """
    prefix = Prefix()
    remaining = iter(refs)
    for ref in remaining if checkpoint.images else ():
        prefix.add([ref.path])
        if prefix.images == checkpoint.images:
            break
    if prefix.images < checkpoint.images or prefix.digest() != checkpoint.inputs:
        raise ResumeError(
            f"the first {checkpoint.images:,} inputs are not those that the run was begun with",
            "give the same ones, or begin anew with --force",
        )
    return remaining, prefix


class Journal:
    """A journal to write to; with `after` it goes on from that checkpoint.

    `file` is open at its end: that of `length_of_lines`, or of nothing.
    """

    def __init__(
        self, path: Path, file: BinaryIO, settings: Mapping[str, Any], after: Checkpoint | None
    ) -> None:
        self._path = path
        self._faults = len(after.faults) if after else 0
        self._marks = len(after.marks) if after else 0
        self._file = file
        if after is None:
            self._append({"format": _FORMAT, "settings": settings})

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; its files must be on disk before."""
        new = checkpoint.faults[self._faults :]
        marks = checkpoint.marks[self._marks :]
        self._faults, self._marks = len(checkpoint.faults), len(checkpoint.marks)
        self._append(
            {
                "images": checkpoint.images,
                "inputs": checkpoint.inputs,
                "files": checkpoint.files,
                "writer": checkpoint.writer,
                "counts": checkpoint.counts,
                "faults": [[base64.b64encode(f.path).decode(), f.reason] for f in new],
                "complete": checkpoint.complete,
                **({"marks": marks, "digest": checkpoint.digest} if checkpoint.marks else {}),
            }
        )

    def close(self) -> None:
        """Close the journal; the checkpoints stay."""
        self._file.close()

    def remove(self) -> None:
        """Remove the journal: the run is complete."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _append(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read(file: Path) -> tuple[dict[str, Any], Checkpoint] | None:
    """Read the settings and the last state in a journal; return None where there is none.

    Raises:
        ResumeError: the journal cannot be read, or another version has written it.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResumeError(f"cannot read {file}: {error.strerror}") from error
    header, *states = data[: _length_of_lines(data)].splitlines() or [b""]
    if not header:
        return None
    try:
        begun = json.loads(header)
        if begun["format"] != _FORMAT:
            raise ResumeError(f"{file} is of another version of mnv1", "begin anew with --force")
        checkpoint = _parse_states([json.loads(state) for state in states])
        return (begun["settings"], checkpoint) if checkpoint else None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ResumeError(f"{file} is damaged", "begin anew with --force") from error


def _parse_states(states: Sequence[Mapping[str, Any]]) -> Checkpoint | None:
    """Return the last state; each has only the faults and marks that came after the one before."""
    if not states:
        return None
    faults = [
        Fault(base64.b64decode(path), reason)
        for state in states
        for path, reason in state["faults"]
    ]
    last = states[-1]
    return Checkpoint(
        last["images"],
        last["inputs"],
        last["files"],
        last["writer"],
        last["counts"],
        tuple(faults),
        last["complete"],
        "".join(state.get("marks", "") for state in states),
        last.get("digest", ""),
    )


def length_of_lines(file: Path) -> int:
    """Return the length in bytes of the complete lines of a journal: half a line is cut off."""
    return _length_of_lines(file.read_bytes())


def _length_of_lines(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def check_settings(file: str, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Require that a run goes on with the settings that it was begun with.

    Raises:
        ResumeError: names the first one that differs.
    """
    # Of one handle there may be several versions, and of several handles the same.
    names = [name for name in (*begun, *now) if name not in (_HANDLE, REPLACES)]
    for name in names:
        earlier, current = (settings.get(name, _ADDED.get(name)) for settings in (begun, now))
        if earlier != current:
            if name == _MODULE:
                difference = _describe_module(begun, now)
            else:
                difference = f"{name} {_as_text(earlier)}, not {_as_text(current)}"
            raise ResumeError(
                f"{file} was begun with {difference}",
                "give the same settings, or begin anew with --force",
            )


def find_module(settings: Mapping[str, Any], name: str, file: Path | None) -> ResultModule | None:
    """Return the module that a run was begun with, by its settings; None where they lack it.

    `name` is that of the result in messages, and `file` the result.
    """
    fingerprint, size = settings.get(_MODULE), settings.get(_IMAGE_SIZE)
    if not isinstance(fingerprint, str) or not isinstance(size, int):
        return None
    folder = None if file is None else file.parent
    # The journals of earlier versions do not name the handle.
    return ResultModule(name, settings.get(_HANDLE) or "", fingerprint, size, folder)


def _describe_module(begun: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe a module and how it differs from that of another run; -v shows fingerprints."""
    log.debug(
        "the fingerprints of the two modules are %s and %s", begun.get(_MODULE), now.get(_MODULE)
    )
    handle, other = begun.get(_HANDLE), now.get(_HANDLE)
    if handle is None:
        # The journals of earlier versions do not name it.
        return f"another module than {other}"
    if handle != other:
        return f"module {handle}, not {other}"
    sizes = [settings.get(_IMAGE_SIZE) for settings in (begun, now)]
    if sizes[0] != sizes[1]:
        return f"{_IMAGE_SIZE} {sizes[0]}, not {sizes[1]}"
    return f"another version of module {handle}"


def _as_text(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)
