"""What is exported: an output of a module, and what it is called in the file."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mnv1cli.errors import LabelsError
from mnv1cli.modules.signatures import LOGITS_SIGNATURE
from mnv1cli.path_text import count

if TYPE_CHECKING:
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.labels.names import ClassName
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output

log = logging.getLogger(__name__)

Meaning = Literal["logits", "probabilities", "features", "layer"]

# Shorthands for outputs, which are the names of `HubModule.logits` and `features` as well.
LOGITS, FEATURES = "logits", "features"
# TensorFlow and ONNX take other characters in a name as well, but not all of their tools do.
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class ExportSource:
    """An output of a module, as it is exported.

    Attributes:
        module: the module.
        output: its output.
        image_size: the height and width of images in pixels.
        name: the name of the output in the file.
        meaning: the meaning of its values.
        pool: average values over height and width, where they have these.
        classes: the names of the classes that the values are of; empty for other values.
    """

    module: HubModule
    output: Output
    image_size: int
    name: str
    meaning: Meaning
    pool: bool
    classes: tuple[ClassName, ...]


def choose_source(predictor: Predictor, endpoint: str, pool: bool) -> ExportSource:
    """Return the output that `endpoint` names: "logits", "features", or a layer of the module.

    Empty, it means the logits, or the features of a module without logits.

    Raises:
        SignatureError: the module does not have it.
        LabelsError: the settings have class names that do not fit the module.
    """
    module = predictor.module
    classifies = LOGITS_SIGNATURE in module.signatures
    chosen = endpoint or (LOGITS if classifies else FEATURES)
    classes: tuple[ClassName, ...] = ()
    meaning: Meaning = "layer"
    if chosen == LOGITS:
        output = module.logits()
        meaning = "probabilities" if predictor.gives_probabilities() else "logits"
        classes = _choose_classes(predictor, output)
        name: str = meaning
    elif chosen == FEATURES:
        output, meaning = module.features(), "features"
        name = meaning
    else:
        output = module.endpoint(chosen)
        name = _UNSAFE.sub("_", output.name.rpartition("/")[2]) or "layer"
    return ExportSource(module, output, predictor.spec.size, name, meaning, pool, classes)


def _choose_classes(predictor: Predictor, output: Output) -> tuple[ClassName, ...]:
    """Return the names of a module's classes, empty with a warning where they are not known."""
    number = output.result.shape[-1]
    try:
        return predictor.choose_names(number)
    except LabelsError:
        if predictor.settings.labels is not None:
            raise
        log.warning(
            "the names of the %s of %s are not known, so the model has none; give them with "
            "--labels FILE",
            count(number, "class", "classes"),
            predictor.module.handle,
        )
        return ()
