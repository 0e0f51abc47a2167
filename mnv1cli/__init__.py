"""Batch image classification with MobileNet V1 from TensorFlow Hub.

from mnv1cli import Classifier

for found in Classifier().classify("photos"):
    print(found.path, found[0].label)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli._version import __version__

if TYPE_CHECKING:
    from mnv1cli.api import Classifier
    from mnv1cli.errors import Mnv1Error
    from mnv1cli.types import Classified, Prediction, Vector

__all__ = ["Classified", "Classifier", "Mnv1Error", "Prediction", "Vector", "__version__"]

_HOMES = {
    "Classified": "types",
    "Classifier": "api",
    "Vector": "types",
    "Mnv1Error": "errors",
    "Prediction": "types",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: the command line starts without numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mnv1cli.{_HOMES[name]}"), name)
