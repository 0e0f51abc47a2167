"""Run a model that `mnv1 module export` wrote, without mnv1, by its description alone.

    python exported_model.py MODEL PHOTO...

MODEL is a `.tflite` (needs ai-edge-litert), an `.onnx` (needs onnxruntime) or the folder of a
SavedModel (needs tensorflow); MODEL.json is beside it. Pillow and NumPy do the preprocessing.
Prints the most probable label of each photo, or its values where the model has no classes.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def run(model: str, photos: list[str]) -> tuple[Any, dict[str, Any]]:
    """Return the values of a model for photos, [n, ...], and its description."""
    with open(f"{model.rstrip('/')}.json", encoding="utf-8") as file:
        description = json.load(file)
    pixels = np.stack([load(photo, description) for photo in photos])
    results = RUNTIMES[description["format"]](model, description, pixels)
    (output,) = description["outputs"]
    return results[output["name"]], description


def load(photo: str, description: dict[str, Any]) -> Any:
    """Do the steps of a description for a photo; returns float32 [height, width, 3]."""
    steps = {step["step"]: step for step in description["preprocessing"]["steps"]}
    image: Image.Image = Image.open(photo)
    if image.format == "JPEG" and "jpeg_reductions" in steps["decode"]:
        reduce(image, steps)
    if "orient" in steps:
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, (steps["decode"]["background"],) * 3)
        image = Image.alpha_composite(white, image.convert("RGBA"))
    pixels = np.asarray(image.convert("RGB"), np.float32)
    top, left, height, width = find_crop(pixels.shape[0], pixels.shape[1], steps["crop"])
    pixels = resize(pixels[top : top + height, left : left + width], steps["resize"])
    pixels = pixels * np.float32(steps["scale"]["factor"])
    return pad(pixels, steps["pad"]) if "pad" in steps else pixels


def reduce(image: Image.Image, steps: dict[str, Any]) -> None:
    """Let libjpeg decode at a fraction of the size, which is faster."""
    *_, height, width = find_crop(image.height, image.width, steps["crop"])
    decode = steps["decode"]
    fitting = [
        r for r in decode["jpeg_reductions"] if min(height, width) >= r * decode["jpeg_crop_side"]
    ]
    r = max(fitting, default=1)
    image.draft(None, (image.width // r, image.height // r))


def find_crop(height: int, width: int, step: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the part that is used."""
    if "square" in step:
        side = max(1, math.floor(step["square"] * min(height, width)))
        return (height - side) // 2, (width - side) // 2, side, side
    top, left = math.floor(step["margin"] * height), math.floor(step["margin"] * width)
    return top, left, height - 2 * top, width - 2 * left


def resize(pixels: Any, step: dict[str, Any]) -> Any:
    """Resize bilinearly with TensorFlow's older sampling, which Pillow does not have."""
    if "longer_side" in step:
        scale = step["longer_side"] / max(pixels.shape[:2])
        sides = [max(1, math.floor(n * scale + 0.5)) for n in pixels.shape[:2]]
    else:
        sides = [step["height"], step["width"]]
    for axis, m in enumerate(sides):
        n = pixels.shape[axis]
        x = np.arange(m) * n / m
        a = np.floor(x).astype(int)
        b = np.minimum(np.ceil(x).astype(int), n - 1)
        weight = np.expand_dims(x - a, (1, 2) if axis == 0 else (0, 2))
        pixels = (1 - weight) * pixels.take(a, axis) + weight * pixels.take(b, axis)
    return pixels.astype(np.float32)


def pad(pixels: Any, step: dict[str, Any]) -> Any:
    """Put the pixels into the middle of a grey image."""
    height, width = pixels.shape[:2]
    whole = np.full((step["height"], step["width"], 3), step["value"], np.float32)
    top, left = (step["height"] - height) // 2, (step["width"] - width) // 2
    whole[top : top + height, left : left + width] = pixels
    return whole


def run_tflite(model: str, description: dict[str, Any], pixels: Any) -> Any:
    """Run a `.tflite` in LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(model_path=model).get_signature_runner(description["signature"])
    return signature(**{description["input"]["name"]: pixels})


def run_onnx(model: str, description: dict[str, Any], pixels: Any) -> Any:
    """Run an `.onnx` in ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output["name"] for output in description["outputs"]]
    values = session.run(names, {description["input"]["name"]: pixels})
    return dict(zip(names, values, strict=True))


def run_savedmodel(model: str, description: dict[str, Any], pixels: Any) -> Any:
    """Run a SavedModel in TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(model, tags=description["tags"])
    signature = loaded.signatures[description["signature"]]
    results = signature(**{description["input"]["name"]: tf.constant(pixels)})
    return {name: values.numpy() for name, values in results.items()}


RUNTIMES = {"tflite": run_tflite, "onnx": run_onnx, "savedmodel": run_savedmodel}


def main() -> None:
    """Print a line for each photo."""
    model, *photos = sys.argv[1:]
    values, description = run(model, photos)
    classes = description["classes"]
    for photo, row in zip(photos, values, strict=True):
        best = int(row.argmax())
        print(photo, classes[best]["label"] if classes else row.ravel()[:5], sep="\t")


if __name__ == "__main__":
    main()
