"""The plain script of a user: the hub's module and tf.data, nothing tuned.

    python plain_script.py photos.txt -o rows.csv --name plain --module DIR --parallel autotune

`--parallel` is how its author wrote `num_parallel_calls`: left to tf.data's
autotuning, or a call a core. The better of both is the script's best mode.
`tf.image.resize` samples at the middle of each step, which moves a label in five
against what the network was trained with; `--legacy` is for comparing labels and
takes as long.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from common import SIZE, arguments, benchmark, cores

if TYPE_CHECKING:
    from common import Batches, Predict

BATCH = 32


def read_photo(path: Any, legacy: bool) -> tuple[Any, Any]:
    """Read one photo, crop and resize it; float32 in [0, 1]."""
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    top, left = height // 16, width // 16
    image = image[top : height - top, left : width - left]
    resize = tf.compat.v1.image.resize if legacy else tf.image.resize
    return path, resize(image, [SIZE, SIZE]) / 255.0


def load(directory: str, calls: int, legacy: bool) -> Predict:
    """Return the module's signature behind a tf.data pipeline."""
    module = tf.saved_model.load(directory, tags=[])

    def predict(paths: list[str]) -> Batches:
        photos = tf.data.Dataset.from_tensor_slices(paths)
        photos = photos.map(lambda path: read_photo(path, legacy), num_parallel_calls=calls)
        for names, images in photos.batch(BATCH).prefetch(tf.data.AUTOTUNE):
            logits = module.signatures["default"](images=images)["default"]
            yield [name.decode() for name in names.numpy()], logits.numpy()

    return predict


def main() -> int:
    """Parse the command line and run."""
    parser = arguments("The plain script of a user.")
    parser.add_argument("--module", required=True, help="directory of the TF1 Hub module")
    parser.add_argument("--parallel", choices=("autotune", "cores"), default="autotune")
    parser.add_argument("--legacy", action="store_true", help="sample as TensorFlow 1 did")
    options = parser.parse_args()
    calls = cores() if options.parallel == "cores" else tf.data.AUTOTUNE
    benchmark(options, load(options.module, calls, options.legacy))
    return 0


if __name__ == "__main__":
    sys.exit(main())
