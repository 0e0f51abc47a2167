"""A program that knows nothing of mnv1: it runs an exported model by its description alone.

It reads the JSON, does the steps that are written there with Pillow and NumPy, and feeds the
model through the runtime of its format.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mnv1cli.types import FloatArray


def describe(model: Path) -> dict[str, Any]:
    """Read the description of a model."""
    description: dict[str, Any] = json.loads(
        model.with_name(f"{model.name}.json").read_text("utf-8")
    )
    return description


def run(model: Path, photos: Iterable[Path]) -> FloatArray:
    """Return the values that a model gives for photos, [n, ...]."""
    description = describe(model)
    pixels = np.stack([load(photo, description) for photo in photos])
    _, *shape = description["input"]["shape"]
    assert list(pixels.shape[1:]) == shape
    assert pixels.dtype == np.dtype(description["input"]["dtype"])
    low, high = description["input"]["range"]
    assert low <= pixels.min() <= pixels.max() <= high
    (output,) = description["outputs"]
    run_format = RUNTIMES[description["format"]]
    values: FloatArray = run_format(model, description, pixels)[output["name"]]
    assert list(values.shape[1:]) == output["shape"][1:]
    assert values.dtype == np.dtype(output["dtype"])
    return values


def load(photo: Path, description: dict[str, Any]) -> FloatArray:
    """Do the steps of a description for one photo."""
    steps = {step["step"]: step for step in description["preprocessing"]["steps"]}
    assert list(steps) in (
        ["decode", "orient", "crop", "resize", "scale"],
        ["decode", "orient", "crop", "resize", "pad", "scale"],
    )
    assert description["input"]["colour_order"] == steps["decode"]["colour_order"] == "RGB"
    assert description["input"]["layout"] == "NHWC"
    image: Image.Image = Image.open(photo)
    if image.format == "JPEG":
        _reduce(image, steps)
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, (steps["decode"]["background"],) * 3)
        image = Image.alpha_composite(background, image.convert("RGBA"))
    pixels = np.asarray(image.convert("RGB"), np.float32)
    (top, height), (left, width) = _crop(pixels.shape[0], pixels.shape[1], steps["crop"])
    pixels = _resize(pixels[top : top + height, left : left + width], steps["resize"])
    pixels = pixels * np.float32(steps["scale"]["factor"])
    return _pad(pixels, steps["pad"]) if "pad" in steps else pixels


def _reduce(image: Image.Image, steps: dict[str, Any]) -> None:
    """Let libjpeg decode at a fraction of the size."""
    decode = steps["decode"]
    (_, height), (_, width) = _crop(image.height, image.width, steps["crop"])
    fitting = [r for r in decode["jpeg_reductions"]
               if min(height, width) / r >= decode["jpeg_crop_side"]]  # fmt: skip
    reduction = max(fitting, default=1)
    image.draft(None, (image.width // reduction, image.height // reduction))


def _crop(height: int, width: int, step: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    """Return start and length of both sides, by the formulas of the step."""
    sides = []
    for n in (height, width):
        names: dict[str, Any] = {"n": n, "height": height, "width": width, "floor": math.floor,
                                 "min": min, "max": max}  # fmt: skip
        names["length"] = eval(step["length"], {"__builtins__": {}}, names)
        sides.append((eval(step["start"], {"__builtins__": {}}, names), names["length"]))
    return tuple(sides)


def _resize(pixels: FloatArray, step: dict[str, Any]) -> FloatArray:
    """Resize bilinearly as the text of the step says."""
    assert step["method"] == "bilinear"
    assert not any(step[name] for name in ("half_pixel_centers", "antialias", "align_corners"))
    if "longer_side" in step:
        longer = max(pixels.shape[:2])
        sides = [max(math.floor(n * step["longer_side"] / longer + 0.5), 1)
                 for n in pixels.shape[:2]]  # fmt: skip
    else:
        sides = [step["height"], step["width"]]
    for axis, m in enumerate(sides):
        n = pixels.shape[axis]
        x = np.arange(m) * n / m
        a = np.floor(x).astype(int)
        b = np.minimum(np.ceil(x).astype(int), n - 1)
        weight = (x - a).reshape([-1 if i == axis else 1 for i in range(3)])
        pixels = (1 - weight) * pixels.take(a, axis) + weight * pixels.take(b, axis)
    return pixels.astype(np.float32)


def _pad(pixels: FloatArray, step: dict[str, Any]) -> FloatArray:
    whole = np.full((step["height"], step["width"], 3), step["value"], np.float32)
    top, left = ((n - side) // 2 for n, side in zip(whole.shape[:2], pixels.shape[:2], strict=True))
    whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return whole


def _run_tflite(model: Path, description: dict[str, Any], pixels: FloatArray) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    assert list(interpreter.get_signature_list()) == [description["signature"]]
    runner = interpreter.get_signature_runner(description["signature"])
    return runner(**{description["input"]["name"]: pixels})


def _run_onnx(model: Path, description: dict[str, Any], pixels: FloatArray) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output["name"] for output in description["outputs"]]
    return dict(zip(names, session.run(names, {description["input"]["name"]: pixels}), strict=True))


def _run_savedmodel(model: Path, description: dict[str, Any], pixels: FloatArray) -> Any:
    import tensorflow as tf

    (tag,) = description["tags"]
    loaded = tf.saved_model.load(str(model), tags=tag)
    signature = loaded.signatures[description["signature"]]
    results = signature(**{description["input"]["name"]: tf.constant(pixels)})
    return {name: values.numpy() for name, values in results.items()}


RUNTIMES: dict[str, Callable[[Path, dict[str, Any], FloatArray], Any]] = {
    "tflite": _run_tflite,
    "onnx": _run_onnx,
    "savedmodel": _run_savedmodel,
}
