"""A Pillow pipeline that decodes photos in full, before ONNX Runtime.

    python pillow_full_script.py photos.txt -o rows.csv --name pillow-full --model m.onnx

What most scripts do with the photos of a camera: every pixel is decoded, then
nearly all of them are dropped. A thread a core does both, so it is no slow rival.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from common import SIZE, ahead, arguments, benchmark, chunks, cores
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common import Batches, FloatArray, Predict

BATCH = 8


def read_photo(path: str) -> FloatArray:
    """Read one photo, crop and resize it; float32 [3, 128, 128] in [-1, 1]."""
    with Image.open(path) as photo:
        image = photo.convert("RGB")
    left, top = image.width // 16, image.height // 16
    box = (left, top, image.width - left, image.height - top)
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box)
    return np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(127.5) - np.float32(1)


def load(model: str) -> Predict:
    """Return a session behind a pool of threads."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    def classify(paths: Sequence[str]) -> tuple[Sequence[str], FloatArray]:
        images = np.stack([read_photo(path) for path in paths])
        return paths, session.run(["logits"], {"images": images})[0]

    def predict(paths: list[str]) -> Batches:
        with ThreadPoolExecutor(cores()) as pool:
            yield from ahead(pool, classify, chunks(paths, BATCH), 2 * cores())

    return predict


def main() -> int:
    """Parse the command line and run."""
    parser = arguments("Pillow, decoding in full.")
    parser.add_argument("--model", required=True, help="the file that onnx_model.py writes")
    options = parser.parse_args()
    benchmark(options, load(options.model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
