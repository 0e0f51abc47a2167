"""Checkpoints of TensorFlow, located by any of their names.

A checkpoint is named by its prefix. In format V2 it is `PREFIX.index` with one or
more `PREFIX.data-...`; in format V1, of TensorFlow before 1.0, the file `PREFIX`
or several `PREFIX-00000-of-00002`. A folder of training has several, and the file
`checkpoint`, which names the latest.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mnv1cli.errors import WeightsError
from mnv1cli.modules.formats import recognise
from mnv1cli.path_text import count

STATE = "checkpoint"
_PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")
_SHARD = re.compile(r"-\d{5}-(of-\d{5})$")
_LATEST = re.compile(rb'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\\n]|\\.)*)"', re.M)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.S)
_MAX_STATE_BYTES = 1 << 20
_SHOWN = 5


def find_checkpoint(path: Path) -> Path:
    """Return the prefix of the checkpoint that a path means.

    The path is a prefix, any of a checkpoint's files, or a folder. In a folder it is the
    checkpoint that the file `checkpoint` names, or the only one; a folder without any is
    searched below.

    Raises:
        WeightsError: there is no checkpoint, or nothing tells which of several is meant.
    """
    if path.is_dir():
        return _find_in_folder(path)
    if path.name == STATE and path.is_file():
        return _find_in_folder(path.parent)
    prefix = path.with_name(_PART.sub("", path.name))
    if chosen := _find_prefix(prefix):
        return chosen
    if path.is_file():
        form = recognise.recognise_file(path)
        name = f"{form.name}, not a checkpoint" if form else "not a checkpoint of TensorFlow"
        raise WeightsError(f"{path} is {name}")
    similar = [name for name in _list_prefixes(path.parent) if name.startswith(path.name)]
    raise WeightsError(
        f"no such checkpoint: {path}", f"name one of {_join(similar)}" if similar else ""
    )


def _find_in_folder(folder: Path) -> Path:
    """Return the prefix of the latest or only checkpoint in a folder, or in one below it."""
    prefixes = _list_prefixes(folder)
    state = folder / STATE
    if len(prefixes) == 1:
        return folder / prefixes[0]
    if state.is_file():
        return _follow_state(state, prefixes)
    if prefixes:
        raise WeightsError(
            f"{folder} holds {count(len(prefixes), 'checkpoint')}, and no file 'checkpoint' that "
            f"names the latest: {_join(prefixes)}",
            "name one of them",
        )
    below = sorted(Path(place) for place, _, _ in os.walk(folder))
    holders = [place for place in below if place != folder and _has_any(place)]
    if len(holders) == 1:
        return _find_in_folder(holders[0])
    if holders:
        names = _join([os.path.relpath(place, folder) for place in holders])
        raise WeightsError(f"{folder} holds checkpoints in several folders: {names}", "name one")
    raise WeightsError(f"{folder} holds no checkpoint")


def _has_any(folder: Path) -> bool:
    return (folder / STATE).is_file() or bool(_list_prefixes(folder))


def _list_prefixes(folder: Path) -> list[str]:
    """List the names of the checkpoints in a folder, by number where they end in one."""
    prefixes = set()
    for entry in folder.iterdir() if folder.is_dir() else ():
        name = entry.name
        if name.endswith(".index"):
            prefixes.add(name.removesuffix(".index"))
        elif name != STATE and not _PART.search(name) and _is_v1(entry):
            prefixes.add(_SHARD.sub(r"-?????-\1", name))
    return sorted(prefixes, key=_make_key)


def _make_key(name: str) -> tuple[str, int, str]:
    stem, _, step = name.rpartition("-")
    return (stem, int(step), name) if step.isdecimal() else (name, -1, name)


def _is_v1(path: Path) -> bool:
    """Return whether a file is a checkpoint of format V1, or one part of it."""
    return path.is_file() and recognise.has_table_end(path)


def _find_prefix(prefix: Path) -> Path | None:
    """Return the prefix of an existing checkpoint, for a part of V1 that of all; else None."""
    if prefix.with_name(f"{prefix.name}.index").is_file():
        return prefix
    if _is_v1(prefix):
        return prefix.with_name(_SHARD.sub(r"-?????-\1", prefix.name))
    names = _list_prefixes(prefix.parent)
    name = next((n for n in names if n == prefix.name or n.startswith(f"{prefix.name}-?")), None)
    return prefix.with_name(name) if name else None


def _follow_state(state: Path, prefixes: list[str]) -> Path:
    """Return the checkpoint that a file `checkpoint` names, in its own folder.

    The folder may have been moved since, so of an absolute path only the name counts.

    Raises:
        WeightsError: the file cannot be read, or its checkpoint is not there.
    """
    named = _read_state(state)
    folder = state.parent
    parts = [part for part in re.split(r"[/\\]", named) if part not in ("", ".")]
    if not parts or ".." in parts:
        raise WeightsError(f"{state} names no checkpoint of its folder: {named!r}")
    for relative in (Path(parts[-1]), Path(*parts)):
        if chosen := _find_prefix(folder / relative):
            return chosen
    present = f"name one of {_join(prefixes)}" if prefixes else ""
    raise WeightsError(f"{state} names {parts[-1]}, which is not in its folder", present)


def _read_state(state: Path) -> str:
    """Read the name of the latest checkpoint from a file `checkpoint`, a protobuf as text."""
    with state.open("rb") as file:
        match = _LATEST.search(file.read(_MAX_STATE_BYTES))
    if match is None:
        raise WeightsError(f"{state} does not name the latest checkpoint")
    return os.fsdecode(_ESCAPE.sub(_unescape, match[1]))


def _unescape(escape: re.Match[bytes]) -> bytes:
    """Return the byte of an escape in protobuf's text: octal digits, or the character itself."""
    code = escape[1]
    return bytes([int(code, 8) & 0xFF]) if code.isdigit() else code


def _join(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
