"""OpenVINO on the CPU, photos read by OpenCV in a pool of threads.

    python openvino_script.py photos.txt -o rows.csv --name openvino-f32 --model m.onnx

As OpenVINO's documentation has it for many images: the hint THROUGHPUT, an
AsyncInferQueue of its optimal number of requests, and the conversion of pixels
inside the model. `--tuned` goes beyond it to what was fastest here: eight
images a request, two requests a stream, and threads that are not pinned, so that
they give way to those that decode.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from common import SIZE, ahead, arguments, benchmark, chunks, cores
from decoding import read_photo
from openvino import properties
from openvino.preprocess import ColorFormat, PrePostProcessor

if TYPE_CHECKING:
    from common import Batches, FloatArray, Predict

PRECISIONS = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16}
TUNED_BATCH = 8
# Photos that are decoded before a request asks for them.
DECODED_AHEAD = 64


def compile_model(path: str, precision: str, tuned: bool) -> Any:
    """Return the compiled model, for uint8 [batch, 128, 128, 3], blue first."""
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([TUNED_BATCH if tuned else 1, 3, SIZE, SIZE])
    steps = PrePostProcessor(model)
    tensor = steps.input().tensor()
    tensor.set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    tensor.set_color_format(ColorFormat.BGR)
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    convert = steps.input().preprocess().convert_element_type(openvino.Type.f32)
    convert.convert_color(ColorFormat.RGB).mean(127.5).scale(127.5)
    hints: dict[Any, Any] = {
        properties.hint.performance_mode: properties.hint.PerformanceMode.THROUGHPUT,
        properties.hint.inference_precision: PRECISIONS[precision],
    }
    if tuned:
        hints[properties.hint.enable_cpu_pinning] = False
    return core.compile_model(steps.build(), "CPU", hints)


def load(compiled: Any, tuned: bool) -> Predict:
    """Return a queue of requests behind a pool that decodes."""
    batch: int = compiled.input(0).shape[0]
    optimal = compiled.get_property(properties.optimal_number_of_infer_requests)
    queue: Any = openvino.AsyncInferQueue(compiled, optimal * 2 if tuned else optimal)
    done: dict[int, FloatArray] = {}

    def collect(request: Any, number: int) -> None:
        done[number] = request.get_output_tensor().data.copy()

    queue.set_callback(collect)

    def predict(paths: list[str]) -> Batches:
        parts = list(chunks(paths, batch))
        given = 0
        with ThreadPoolExecutor(cores()) as pool:
            photos = ahead(pool, read_photo, paths, DECODED_AHEAD)
            for number, part in enumerate(parts):
                # A short last batch keeps the shape; its other rows are dropped below.
                images = np.zeros((batch, SIZE, SIZE, 3), np.uint8)
                for i in range(len(part)):
                    images[i] = next(photos)
                queue.start_async(images, number)
                while given in done:
                    yield parts[given], done.pop(given)[: len(parts[given])]
                    given += 1
        queue.wait_all()
        for part in parts[given:]:
            yield part, done.pop(given)[: len(part)]
            given += 1

    return predict


def main() -> None:
    """Parse the command line and run."""
    parser = arguments("OpenVINO on the CPU.")
    parser.add_argument("--model", required=True, help="the file that onnx_model.py writes")
    parser.add_argument("--precision", choices=PRECISIONS, default="f32")
    parser.add_argument("--tuned", action="store_true", help="beyond the documentation")
    options = parser.parse_args()
    compiled = compile_model(options.model, options.precision, options.tuned)
    benchmark(options, load(compiled, options.tuned))
    # Now and then OpenVINO 2026.4 hangs when its compiled model is taken apart: the
    # destructor waits for a thread that waits for the lock of the interpreter.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
