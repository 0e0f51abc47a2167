"""The files of a run: named *.part until they are complete, and never in the way of others."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mnv1cli.errors import OptionError, OutputError, ResumeError
from mnv1cli.results.locked_files import is_locked, open_locked
from mnv1cli.results.protection import give_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PART = ".part"
META = ".meta.json"
JOURNAL = ".journal"
# The longest name of a file in bytes, on the file systems in use.
_MAX_NAME = 255


class ResultFiles:
    """The main result, on stdout or in a file, and the files beside it.

    Each file is written as FILE.part. `commit` renames them all, the main one
    last, so that it exists only when all others do. With `resume` the files of
    an earlier run are accepted, and `continue_from` says how much of them counts.
    With `append` an existing result is accepted. Only files that may be replaced are:
    with `force`, or an existing result with `append`.

    Attributes:
        main: the main file, None for stdout.
        sidecars: the files beside the main one, with `sidecar_suffixes`.
        meta: the file of the metadata, None where the run has none.
        journal: the journal of a run that can be resumed, None for stdout.
        paths: all files that are written under their own name in the end.

    Raises:
        OptionError: two of the files are the same.
        OutputError: one of them exists, or cannot be written.
    """

    def __init__(
        self,
        main: Path | None,
        stdout: BinaryIO | None,
        sidecar_suffixes: Sequence[str] = (),
        other_files: Sequence[Path | None] = (),
        force: bool = False,
        with_meta: bool = True,
        resume: bool = False,
        append: bool = False,
    ) -> None:
        main, *others = (_resolve(path, force) for path in (main, *other_files))
        self.main = main
        self._stdout = stdout
        self._open: dict[Path, BinaryIO] = {}
        self._spools: set[Path] = set()
        self._lengths: Mapping[str, int] = {}
        self.sidecars = tuple(main.with_suffix(s) for s in sidecar_suffixes) if main else ()
        self.meta = main.with_name(main.name + META) if main and with_meta else None
        self.journal = main.with_name(main.name + JOURNAL) if main else None
        named = (main, self.meta, *self.sidecars, *others)
        self.paths = tuple(path for path in named if path is not None)
        _require_different(self.paths)
        extended = {main, self.meta, *self.sidecars} if append else set()
        self._replaces_all = force
        self._replaced = {path for path in extended if path and os.path.lexists(path)}
        for path in self.paths:
            _require_writable(path)
            if not force and not resume:
                _require_free(path, path in extended, self.journal)

    @property
    def folder(self) -> str:
        """The folder of the main file, which has room for temporary files."""
        assert self.main is not None
        return str(self.main.parent)

    @property
    def name(self) -> str:
        """The name of the main file in messages."""
        return str(self.main) if self.main else "stdout"

    def allow_replacing(self) -> None:
        """Let files of this name be replaced, as in a run that was begun with `force`."""
        self._replaces_all = True

    def continue_from(self, lengths: Mapping[str, int]) -> None:
        """Continue the files of a run that was stopped, each from its length in bytes, by name.

        The names are those that `sync` gives.

        Raises:
            ResumeError: one of them is missing, or shorter.
        """
        for name, length in lengths.items():
            part = _part(self._folder / name)
            if not part.is_file() or part.stat().st_size < length:
                raise ResumeError(
                    f"{part} does not have what was written to it",
                    "begin anew with --force",
                )
        self._lengths = lengths

    def sync(self) -> dict[str, int]:
        """Bring the open files to the disk, and return the length of each in bytes, by name.

        Names are relative to the folder of the main file: all of them may be moved together.
        """
        lengths = {}
        for path, file in self._open.items():
            file.flush()
            os.fsync(file.fileno())
            lengths[self._relative(path)] = file.tell()
        return lengths

    def open_main(self) -> BinaryIO:
        """Return the stream of the main result.

        Raises:
            OutputError: stdout is closed, or the file cannot be written.
        """
        if self.main is not None:
            return self.open(self.main)
        if self._stdout is None:
            raise OutputError("stdout is closed", "name a file with -o")
        return self._stdout

    def open(self, path: Path) -> BinaryIO:
        """Open one of the files, as it was left or empty.

        Raises:
            OutputError: another run is writing it, or has just done so, or it cannot be written.
        """
        if path not in self._open:
            length = self._lengths.get(self._relative(path), 0)
            self._open[path] = open_locked(_part(path), length, name=path)
            if path in self.paths and not self._may_replace(path) and os.path.lexists(path):
                raise OutputError(f"{path} exists now, and did not before", "name another file")
        return self._open[path]

    def open_spool(self, name: str) -> BinaryIO:
        """Open a file for rows that wait to be put into the main file; `commit` removes it."""
        assert self.main is not None
        path = self.main.with_name(f"{self.main.name}.{name}")
        self._spools.add(path)
        return self.open(path)

    def flush(self) -> None:
        """Push out what was written to stdout: whoever reads it waits for it."""
        if self.main is None and self._stdout is not None:
            self._stdout.flush()

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Write a whole file of JSON."""
        # The metadata of a shard have a number for each image, which need no lines of their own.
        indent = None if "shard" in content else 2
        text = json.dumps(content, ensure_ascii=False, indent=indent)
        self.open(path).write(text.encode("utf-8", "replace") + b"\n")

    def commit(self) -> None:
        """Give every file its name.

        Raises:
            OutputError: one of them cannot be written.
        """
        self.flush()
        for path in self._spools & set(self._open):
            self._open.pop(path).close()
            _part(path).unlink(missing_ok=True)
        for path in sorted(self._open, key=lambda path: path == self.main):
            with _name_in_errors(path), self._open.pop(path) as file:
                file.flush()
                os.fsync(file.fileno())
                # While it is locked: a run that has just opened it sees that it is taken.
                give_name(_part(path), path, self._may_replace(path))

    def abandon(self, keep: bool) -> None:
        """Close the files under their .part names; remove them unless they are worth keeping."""
        # A run on stdout cannot be resumed from the files beside it.
        keep = keep and self.main is not None
        for path, file in self._open.items():
            # The disk that was full at the last write is full still.
            with contextlib.suppress(OSError):
                file.close()
            if not keep:
                _part(path).unlink(missing_ok=True)
        self._open.clear()

    def has_parts(self) -> bool:
        """Return whether an earlier run has left files named *.part."""
        return any(os.path.lexists(_part(path)) for path in self.paths)

    def is_complete(self) -> bool:
        """Return whether the main file exists and nothing is left to be renamed."""
        return self.main is not None and self.main.is_file() and not self.has_parts()

    def finish_renames(self, written: Iterable[str]) -> None:
        """Finish the renaming of a run that was stopped while it renamed the files `written`.

        Raises:
            OutputError: one of them cannot be renamed.
        """
        for name in set(written) - set(map(self._relative, self.paths)):
            _part(self._folder / name).unlink(missing_ok=True)
        for path in sorted(self.paths, key=lambda path: path == self.main):
            with _name_in_errors(path):
                if _part(path).exists():
                    give_name(_part(path), path, self._may_replace(path))

    @property
    def _folder(self) -> Path:
        return self.main.parent if self.main is not None else Path()

    def _may_replace(self, path: Path) -> bool:
        return self._replaces_all or path in self._replaced

    def _relative(self, path: Path) -> str:
        """Return the name of a file relative to the folder of the main one."""
        return path.name if path.parent == self._folder else os.path.relpath(path, self._folder)


@contextlib.contextmanager
def read_from_start(file: BinaryIO) -> Iterator[BinaryIO]:
    """Read what was written to a file so far, from its beginning; it is written on at its end."""
    end = file.tell()
    file.flush()
    try:
        # The copy of the descriptor has its position in common with the file.
        with os.fdopen(os.dup(file.fileno()), "rb") as reader:
            reader.seek(0)
            yield reader
    finally:
        file.seek(end)


def wrap_text(stream: BinaryIO) -> io.TextIOWrapper:
    """Put a text layer over a binary stream, for names that need not be UTF-8."""
    return io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="", write_through=True)


def _part(path: Path) -> Path:
    return path.with_name(path.name + PART)


def _resolve(path: Path | None, force: bool) -> Path | None:
    """Return the file that a name means: with `force` a link is followed, and stays a link."""
    if path is None:
        return None
    if path.is_dir() or not path.name:
        raise OutputError(f"cannot write {path}: it is a folder")
    return Path(os.path.realpath(path)) if force and path.is_symlink() else path


@contextlib.contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    """Name a file in what the system says about writing it."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _require_different(paths: Iterable[Path]) -> None:
    """Refuse two names of one file, which may not exist yet, and names of the .part of another."""
    names = [name for path in paths for name in (path, _part(path))]
    if len({os.path.join(os.path.realpath(name.parent), name.name) for name in names}) < len(names):
        raise OptionError("two of the files to write are the same", "name different ones")


def _require_writable(path: Path) -> None:
    """Refuse a file that could not be written at the end, before any work is done."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: the folder {path.parent} is read-only")
    if path.exists() and not path.is_file():
        raise OutputError(f"cannot write {path}: it is no regular file", "use stdout for it")
    if len(os.fsencode(_part(path).name)) > _MAX_NAME:
        raise OutputError(f"cannot write {path}: the name is too long")
    if is_locked(_part(path)):
        raise OutputError(f"another run is writing {path}", "wait for it, or name another file")


def _require_free(path: Path, extended: bool, journal: Path | None) -> None:
    """Refuse a file that exists, unless it is `extended`, or that an earlier run has begun."""
    if os.path.lexists(path) and not extended:
        raise OutputError(f"{path} exists", "add --force to replace it")
    if os.path.lexists(_part(path)):
        raise OutputError(
            f"{_part(path)} is left from a run that was stopped",
            "add --resume to go on with it, or --force to begin anew"
            if journal is not None and journal.exists()
            else "add --force to begin anew",
        )
