"""The description of an exported model: all that a program needs that has only its file.

Its keys are documented in docs/export.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli._version import __version__
from mnv1cli.images.resize import REDUCTIONS
from mnv1cli.inference.export.files import LAYOUT, LAYOUT_KEY

if TYPE_CHECKING:
    from mnv1cli.inference.export.files import ExportFormat
    from mnv1cli.inference.export.source import ExportSource, Meaning
    from mnv1cli.types import PixelSpec, Preprocess

INPUT = "images"
SIGNATURE, TAG = "serving_default", "serve"

# The parameters of a crop, and the same in words.
_MARGIN = "Of each side of n pixels leave floor(margin * n) out at both ends."
_CROPS: dict[Preprocess, tuple[dict[str, float], str]] = {
    "slim": ({"margin": 1 / 16}, _MARGIN),
    "squash": ({"margin": 0}, _MARGIN),
    "square": (
        {"square": 7 / 8},
        "Keep a square whose side is s = floor(square * min(height, width)), at least 1, from "
        "floor((n - s) / 2) of each side of n pixels.",
    ),
    "pad": ({"margin": 0}, _MARGIN),
}
_MEANINGS: dict[Meaning, str] = {
    "logits": "A score for each class. The softmax of the scores are the probabilities.",
    "probabilities": "The probability of each class.",
    "features": "The feature vector of the image.",
    "layer": "The values of a hidden layer.",
}


def describe_model(
    source: ExportSource, spec: PixelSpec, chosen: ExportFormat, shape: tuple[int, ...]
) -> dict[str, Any]:
    """Describe a model: its origin, input, preprocessing and output.

    `shape` is the shape of one image's values.
    """
    wanted = source.module.input_range
    loading: dict[str, Any] = {} if chosen == "onnx" else {"signature": SIGNATURE}
    if chosen == "savedmodel":
        loading["tags"] = [TAG]
    return {
        LAYOUT_KEY: LAYOUT,
        "version": __version__,
        "format": chosen,
        **loading,
        "module": {
            "handle": source.module.handle,
            "fingerprint": source.module.fingerprint,
            "image_size": spec.size,
            **({"input_range": list(wanted)} if wanted.setting else {}),
        },
        "input": {
            "name": INPUT,
            "shape": [None, spec.size, spec.size, 3],
            "dtype": "float32",
            "layout": "NHWC",
            "colour_order": "RGB",
            "range": [0, 1],
        },
        "preprocessing": {"name": spec.preprocess, "steps": _list_steps(spec)},
        "outputs": [
            {
                "name": source.name,
                "shape": [None, *shape],
                "dtype": "float32",
                "meaning": source.meaning,
                "endpoint": source.output.name,
                "text": _MEANINGS[source.meaning],
            }
        ],
    }


def describe_classes(source: ExportSource) -> list[dict[str, Any]] | None:
    """Describe the classes that the values of a model are of, in their order; None without them."""
    rows = [{"index": n.class_id, "wnid": n.wnid, "label": n.label} for n in source.classes]
    return rows or None


def _list_steps(spec: PixelSpec) -> list[dict[str, Any]]:
    """List the steps from a file to the input, in their order, with parameters and in words."""
    steps = [_describe_decoding(spec)]
    if spec.exif:
        text = "Turn and mirror the image as its EXIF orientation, 1 to 8, says."
        steps.append({"step": "orient", "by": "exif", "text": text})
    parameters, text = _CROPS[spec.preprocess]
    steps.append({"step": "crop", **parameters, "text": text})
    steps.append(_describe_resize(spec))
    if spec.preprocess == "pad":
        text = (
            "Put the image into the middle, at floor((height - its height) / 2) and "
            "floor((width - its width) / 2). The rest has this value after the last step."
        )
        size = {"height": spec.size, "width": spec.size}
        steps.append({"step": "pad", **size, "value": 0.5, "text": text})
    text = "Multiply by 1/255, in float32: the values are from 0 to 1."
    steps.append({"step": "scale", "factor": 1 / 255, "dtype": "float32", "text": text})
    return steps


def _describe_decoding(spec: PixelSpec) -> dict[str, Any]:
    text = (
        "Decode the file to RGB with 8 bits per channel. Grey, palette and CMYK are converted, "
        "16 bits give their high byte, transparency is blended over white, colour profiles are "
        "ignored, and the first frame stands for an animation."
    )
    step: dict[str, Any] = {"step": "decode", "colour_order": "RGB", "bits": 8, "background": 255}
    if spec.decode == "scaled":
        step["jpeg_reductions"] = sorted(REDUCTIONS)
        step["jpeg_crop_side"] = 2 * spec.size
        text += (
            " A JPEG is decoded at 1/r of its size, as libjpeg does it; r is the largest of "
            "jpeg_reductions that leaves the shorter side of the crop, computed on the full "
            "size, at least jpeg_crop_side after the division by r, else 1. Decoding in full "
            "size gives slightly different pixels; published accuracies are measured with it."
        )
    return {**step, "text": text}


def _describe_resize(spec: PixelSpec) -> dict[str, Any]:
    text = (
        "Resize bilinearly, without antialiasing, as TensorFlow's ResizeBilinear with "
        "half_pixel_centers=False: pixel i of a side that is resized from n to m lies at "
        "x = i * n / m of the source, and is (1 - (x - a)) * source[a] + (x - a) * source[b] "
        "with a = floor(x) and b = min(ceil(x), n - 1). No value is rounded to an integer."
    )
    size: dict[str, Any] = {"height": spec.size, "width": spec.size}
    if spec.preprocess == "pad":
        size = {"longer_side": spec.size}
        text = (
            f"The longer side becomes {spec.size}, and the other one keeps the proportions, "
            "rounded half up and at least 1. " + text
        )
    flags = {"half_pixel_centers": False, "antialias": False, "align_corners": False}
    return {"step": "resize", "method": "bilinear", **size, **flags, "text": text}
