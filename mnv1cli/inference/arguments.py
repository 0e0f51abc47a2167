"""Checks of what Python programs pass: a wrong type is refused, and the right one named.

Numbers of numpy count as numbers. A bool is a number to Python, and a mistake here.
"""

from __future__ import annotations

import contextlib
import math
import operator
import os
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from mnv1cli.errors import OptionError
from mnv1cli.types import MAX_LIMIT

if TYPE_CHECKING:
    from collections.abc import Collection

_UNBOUNDED = MAX_LIMIT


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse a value that is not one of `choices`.

    Raises:
        OptionError: names the argument, its value and the choices.
    """
    if not isinstance(value, str) or value not in choices:
        raise _refuse(name, value, f"use one of {', '.join(choices)}")


def check_type(name: str, value: object, kind: type | tuple[type, ...], remedy: str) -> None:
    """Refuse a value that is not of a type.

    Raises:
        OptionError: names the argument, its value and the remedy.
    """
    if not isinstance(value, kind):
        raise _refuse(name, value, remedy)


def check_text(name: str, value: object) -> None:
    """Refuse a value that is not a str; raises `OptionError`."""
    check_type(name, value, str, "pass a str")


def take_integer(name: str, value: Any, low: int, high: int = _UNBOUNDED) -> int:
    """Return a number of any integer type as int.

    Raises:
        OptionError: it is not an integer from `low` to `high`.
    """
    remedy = f"use {low} to {high}" if high < _UNBOUNDED else f"use an integer from {low} on"
    try:
        number = operator.index(value)
    except TypeError:
        raise _refuse(name, value, remedy) from None
    if isinstance(value, bool) or not low <= number <= high:
        raise _refuse(name, value, remedy)
    return number


def take_number(name: str, value: Any, low: float, high: float) -> float:
    """Return a number of any real type as float.

    Raises:
        OptionError: it is not a number from `low` to `high`.
    """
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    if not low <= number <= high:
        raise _refuse(name, value, f"use a number from {low:g} to {high:g}")
    return number


def take_flag(name: str, value: object) -> bool:
    """Return a bool of Python's or of numpy's as bool.

    Raises:
        OptionError: it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise _refuse(name, value, "use True or False")
    return bool(value)


def take_path(name: str, value: Any) -> str:
    """Return a path as str.

    Raises:
        OptionError: it is not a str, bytes or path object.
    """
    if not isinstance(value, str | bytes | os.PathLike):
        raise _refuse(name, value, "pass a path, as str or pathlib.Path")
    return os.fsdecode(value)


def _refuse(name: str, value: object, remedy: str) -> OptionError:
    text = " ".join(repr(value).split())
    shown = text if len(text) <= 60 else f"{text[:60]}..."
    return OptionError(f"{name}={shown} is not valid", remedy)
