"""The common part of the fuzz targets."""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 2.0


def fuzz(load: Callable[[], Callable[[bytes], None]]) -> None:
    """Fuzz the function that `load` imports and returns: only later imports are instrumented.

    An input that takes more than two seconds of the processor's time is a finding.
    """
    atheris: Any = importlib.import_module("atheris")
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["mnv1cli", "PIL"]):
        target = load()

    def timed(data: bytes) -> None:
        started = time.process_time()
        target(data)
        seconds = time.process_time() - started
        assert seconds < SECONDS, f"{seconds:.1f} s"

    atheris.Setup(sys.argv, timed)
    atheris.Fuzz()
