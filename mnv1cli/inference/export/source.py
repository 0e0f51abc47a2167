"""The output of a module that is exported, and its name in the file."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mnv1cli.errors import LabelsError, SignatureError
from mnv1cli.inference.job import compute_row_shape
from mnv1cli.modules.signatures import FEATURES_SIGNATURE, LOGITS_SIGNATURE
from mnv1cli.path_text import count
from mnv1cli.types import Task

if TYPE_CHECKING:
    from mnv1cli.inference.predictor import Predictor
    from mnv1cli.labels.names import ClassName
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output

log = logging.getLogger(__name__)

Meaning = Literal["logits", "probabilities", "features", "layer"]

# Shorthands for the main outputs of a module.
LOGITS: Literal["logits"] = "logits"
PROBABILITIES: Literal["probabilities"] = "probabilities"
FEATURES: Literal["features"] = "features"
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

    Empty, it means the scores of classes, which are logits or probabilities, or the features of
    a module without scores. "probabilities" are the scores of a module that ends in a softmax.

    Raises:
        SignatureError: the module does not have it.
        ModuleError: its scores are not those of classes.
        LabelsError: the settings have class names that do not fit the module.
    """
    module, size = predictor.module, predictor.spec.size
    scores = _name_scores(predictor) if endpoint in ("", LOGITS, PROBABILITIES) else None
    if scores is not None and endpoint in ("", scores):
        output, number = _measure_scores(predictor)
        classes = _choose_classes(predictor, number)
        return ExportSource(module, output, size, scores, scores, pool, classes)
    if endpoint == LOGITS and scores is not None:
        raise SignatureError(
            f"module {module.handle} gives {scores}, not logits",
            f"--endpoint {scores} exports these",
        )
    if endpoint in ("", FEATURES):
        return ExportSource(module, module.features(), size, FEATURES, FEATURES, pool, ())
    output = module.logits() if endpoint == LOGITS else module.endpoint(endpoint)
    name = _UNSAFE.sub("_", output.name.rpartition("/")[2]) or "layer"
    return ExportSource(module, output, size, name, "layer", pool, ())


def _name_scores(predictor: Predictor) -> Literal["logits", "probabilities"] | None:
    """Return what the scores of a module are; None where it has no scores of classes."""
    module = predictor.module
    if LOGITS_SIGNATURE not in module.signatures:
        return None
    # Where nothing says whether an output is of scores or of features, a map is of features.
    is_map = len(module.logits().result.shape) > 2
    if is_map and FEATURES_SIGNATURE in module.signatures:
        return None
    return PROBABILITIES if predictor.gives_probabilities() else LOGITS


def _measure_scores(predictor: Predictor) -> tuple[Output, int]:
    """Return the output with the scores, and the number of classes."""
    output = predictor.module.logits()
    sides = output.result.shape[1:]
    if not sides or min(sides) < 1:
        output = predictor.measure_shape(output)
    (number,) = compute_row_shape(predictor.module, output, Task("logits"))
    return output, number


def _choose_classes(predictor: Predictor, number: int) -> tuple[ClassName, ...]:
    """Return the names of a module's classes, empty with a warning where they are not known."""
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
