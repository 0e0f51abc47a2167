"""Batch image classification with MobileNet V1 from TensorFlow Hub.

from mnv1cli import Classifier

for image in Classifier().classify("photos"):
    print(image.path, image[0].label)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli._version import __version__

if TYPE_CHECKING:
    from mnv1cli.api import Classifier
    from mnv1cli.errors import Mnv1Error
    from mnv1cli.inference.image_results import Classified, Vector
    from mnv1cli.types import Prediction

__all__ = ["Classified", "Classifier", "Mnv1Error", "Prediction", "Vector", "__version__"]

_MODULES = {
    "Classified": "inference.image_results",
    "Classifier": "api",
    "Vector": "inference.image_results",
    "Mnv1Error": "errors",
    "Prediction": "types",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the command line starts without numpy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mnv1cli.{_MODULES[name]}"), name)
