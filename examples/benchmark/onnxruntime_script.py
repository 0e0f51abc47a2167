"""ONNX Runtime on the CPU, photos read by OpenCV.

    python onnxruntime_script.py photos.txt -o rows.csv --name onnxruntime --model m.onnx

A thread a core, each of which reads a few photos and runs them through the one
session, which uses no threads of its own. That was faster here than one session
with a thread a core behind a pool that decodes.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cv2
import onnxruntime
from common import SIZE, ahead, arguments, benchmark, chunks, cores
from decoding import read_photo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common import Batches, FloatArray, Predict

BATCH = 8


def load(model: str) -> Predict:
    """Return a session behind a pool of threads."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    def classify(paths: Sequence[str]) -> tuple[Sequence[str], FloatArray]:
        photos = [read_photo(path) for path in paths]
        images = cv2.dnn.blobFromImages(
            photos, 1 / 127.5, (SIZE, SIZE), (127.5, 127.5, 127.5), swapRB=True
        )
        return paths, session.run(["logits"], {"images": images})[0]

    def predict(paths: list[str]) -> Batches:
        with ThreadPoolExecutor(cores()) as pool:
            yield from ahead(pool, classify, chunks(paths, BATCH), 4 * cores())

    return predict


def main() -> int:
    """Parse the command line and run."""
    parser = arguments("ONNX Runtime on the CPU.")
    parser.add_argument("--model", required=True, help="the file that onnx_model.py writes")
    options = parser.parse_args()
    benchmark(options, load(options.model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
