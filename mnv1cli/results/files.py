"""The files of a run: under another name until it is complete, never in the way of others."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mnv1cli.errors import OptionError, OutputError, ResumeError
from mnv1cli.types import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

log = logging.getLogger(__name__)

PART = ".part"
META = ".meta.json"
JOURNAL = ".journal"
_MAX_NAME = 255


class ResultFiles:
    """The main result, on stdout or in a file, and what lies beside it.

    Each file is written as FILE.part. `commit` renames them all, the main one
    last, so that it is there only when everything is. With `resume` what an
    earlier run left is no obstacle; `go_on` says how much of it counts. With
    `append` a result that is there is none either.

    Raises:
        OptionError: two of the files are one.
        OutputError: one of them exists, or cannot be written.
    """

    def __init__(
        self,
        main: Path | None,
        stdout: BinaryIO | None,
        sidecars: Sequence[str] = (),
        others: Sequence[Path | None] = (),
        force: bool = False,
        with_meta: bool = True,
        resume: bool = False,
        append: bool = False,
    ) -> None:
        main, *others = (_settled(path, force) for path in (main, *others))
        self.main = main
        self._stdout = stdout
        self._open: dict[Path, BinaryIO] = {}
        self._spools: set[Path] = set()
        self._lengths: Mapping[str, int] | None = None
        beside = [main.with_suffix(suffix) for suffix in sidecars] if main else []
        self.sidecars = tuple(beside)
        self.meta = main.with_name(main.name + META) if main and with_meta else None
        self.journal = main.with_name(main.name + JOURNAL) if main else None
        named = [path for path in (main, self.meta, *beside, *others) if path is not None]
        self.named = tuple(named)
        places = [_place(name) for path in named for name in (path, _part(path))]
        if len(set(places)) < len(places):
            raise OptionError("two of the files to write are the same", "name different ones")
        extended = {main, self.meta, *beside} if append else set()
        for path in named:
            _check(path, force, resume, path in extended, self.journal)

    @property
    def folder(self) -> str:
        """Where the main file lies, and room for what waits to be put into it."""
        assert self.main is not None
        return str(self.main.parent)

    @property
    def name(self) -> str:
        """The main output's name for messages."""
        return str(self.main) if self.main else "stdout"

    def go_on(self, lengths: Mapping[str, int]) -> None:
        """Take up the files of a run that was cut, each as long as it was by its name.

        Raises:
            ResumeError: one of them is missing, or shorter.
        """
        for name, length in lengths.items():
            part = _part(Path(name))
            if not part.is_file() or part.stat().st_size < length:
                raise ResumeError(
                    f"{part} does not have what was written to it",
                    "begin anew with --force",
                )
        self._lengths = lengths

    def lengths(self) -> dict[str, int]:
        """How long each file is by its name, all of it on the disk."""
        found = {}
        for path, file in self._open.items():
            file.flush()
            os.fsync(file.fileno())
            found[os.fspath(path)] = file.tell()
        return found

    def stream(self) -> BinaryIO:
        """Where the main result goes."""
        if self.main is not None:
            return self.open(self.main)
        if self._stdout is None:
            raise OutputError("stdout is closed", "name a file with -o")
        return self._stdout

    def open(self, path: Path) -> BinaryIO:
        """Begin one of the files."""
        if path not in self._open:
            try:
                self._open[path] = _begun(
                    _part(path), (self._lengths or {}).get(os.fspath(path), 0)
                )
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}") from error
        return self._open[path]

    def locked(self, path: Path, length: int) -> BinaryIO:
        """A file under its own name, cut to `length`, that no other run has meanwhile.

        Raises:
            OutputError: another run has it, or it cannot be written.
        """
        try:
            return _begun(path, length)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def spool(self, name: str) -> BinaryIO:
        """A file for what waits to be put into the main one; it goes when that is there."""
        assert self.main is not None
        path = self.main.with_name(f"{self.main.name}.{name}")
        self._spools.add(path)
        return self.open(path)

    def flush(self) -> None:
        """Push out what was written: whoever reads stdout waits for it."""
        if self.main is None and self._stdout is not None:
            self._stdout.flush()

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Write a whole file of JSON."""
        # A shard's has a number for each image, which need no lines of their own.
        indent = None if "shard" in content else 2
        text = json.dumps(content, ensure_ascii=False, indent=indent)
        self.open(path).write(text.encode("utf-8", "replace") + b"\n")

    def commit(self) -> None:
        """Give every file its name."""
        self.flush()
        for path in self._spools & set(self._open):
            self._open.pop(path).close()
            _part(path).unlink(missing_ok=True)
        for path in sorted(self._open, key=lambda path: path == self.main):
            try:
                with self._open.pop(path) as file:
                    file.flush()
                    os.fsync(file.fileno())
                    # While it is locked: who has opened it meanwhile sees that it is taken.
                    os.replace(_part(path), path)
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def abandon(self, keep: bool) -> None:
        """Close the files under their .part names; remove them unless they are worth keeping."""
        # Beside what went to stdout there is nothing to go on with.
        keep = keep and self.main is not None
        for path, file in self._open.items():
            # The disk that was full at the last write is full still.
            with contextlib.suppress(OSError):
                file.close()
            if not keep:
                _part(path).unlink(missing_ok=True)
        self._open.clear()

    def has_parts(self) -> bool:
        """Whether an earlier run has left something."""
        return any(os.path.lexists(_part(path)) for path in self.named)

    def is_there(self) -> bool:
        """Whether the main file is there under its name."""
        return self.main is not None and self.main.is_file() and not self.has_parts()

    def rename_all(self, written: Iterable[str]) -> None:
        """Finish the renaming of a run that was cut in the midst of it."""
        for spool in set(map(Path, written)) - set(self.named):
            _part(spool).unlink(missing_ok=True)
        for path in sorted(self.named, key=lambda path: path == self.main):
            try:
                if _part(path).exists():
                    os.replace(_part(path), path)
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _settled(path: Path | None, force: bool) -> Path | None:
    """The file that a name means: a link to be replaced is followed, and stays one."""
    if path is None:
        return None
    if path.is_dir() or not path.name:
        raise OutputError(f"cannot write {path}: it is a folder")
    return Path(os.path.realpath(path)) if force and path.is_symlink() else path


def _begun(part: Path, length: int = 0) -> BinaryIO:
    """A file cut to `length` that no other run writes; it is locked as long as it is open."""
    # Not "wb": that would empty what another run is writing. Not "ab": rows are
    # not all that is written, a header is put right at the end.
    file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise OutputError(f"another run is writing {part}", "wait for it") from None
    except OSError:
        log.debug("no locks in %s", part.parent)
    if not _is_still(part, file):
        # Between opening and locking the other run has finished: this is its result.
        file.close()
        raise OutputError(f"another run has just written {part}", "try again")
    file.truncate(length)
    file.seek(length)
    return file


def _is_still(part: Path, file: BinaryIO) -> bool:
    """Whether an open file has the name under which it was opened."""
    try:
        return os.path.samestat(part.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _is_busy(part: Path) -> bool:
    """Whether another run is writing a file."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _place(path: Path) -> str:
    """What two names of one file have in common, though it is not there yet."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _check(path: Path, force: bool, resume: bool, extended: bool, journal: Path | None) -> None:
    """Refuse what could not be written at the end, before any work is done."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: the folder {path.parent} is read-only")
    if path.exists() and not path.is_file():
        raise OutputError(f"cannot write {path}: it is no regular file", "use stdout for it")
    if len(os.fsencode(_part(path).name)) > _MAX_NAME:
        raise OutputError(f"cannot write {path}: the name is too long")
    if _is_busy(_part(path)):
        raise OutputError(f"another run is writing {path}", "wait for it, or name another file")
    if force or resume:
        return
    if os.path.lexists(path) and not extended:
        raise OutputError(f"{path} exists", "add --force to replace it")
    if os.path.lexists(_part(path)):
        raise OutputError(
            f"{_part(path)} is left from a run that was stopped",
            "add --resume to go on with it, or --force to begin anew"
            if journal is not None and journal.exists()
            else "add --force to begin anew",
        )


def reread(file: BinaryIO) -> BinaryIO:
    """What was written to a file so far, from its beginning."""
    file.flush()
    again = os.fdopen(os.dup(file.fileno()), "rb")
    again.seek(0)
    return again


def text_stream(stream: BinaryIO) -> io.TextIOWrapper:
    """A text layer over a binary stream for names that need not be UTF-8."""
    return io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="", write_through=True)


def refuse_image_name(file: Path) -> None:
    """Keep results out of photos, whether by a slip or by `-f csv *.jpg` with a file `-o.jpg`."""
    suffix = os.fsencode(file.name).lower().rpartition(b".")[2]
    if suffix in IMAGE_SUFFIXES:
        raise OptionError(f"{file} is the name of an image", "results need another")
