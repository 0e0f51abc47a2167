"""What the `tensorflow_hub` library makes of modules; run as a program of its own.

    python hub_library.py TASK.json RESULT.json

The library keeps state for its process, and imports Keras. So all of it is asked in one
process: handles are resolved, modules are loaded, and their outputs for the pixels in an
NPY file are computed and written beside the result.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIGNATURE = "image_classification"
LOSSES = "regularization_losses"


def main(task_file: str, result_file: str) -> None:
    """Do the tasks of a JSON file; the cache is the one in `TFHUB_CACHE_DIR`.

    `resolve` has handles, `load` the directory and the NPY file with pixels of each module by
    its name, and `keras` the names of those to make a Keras layer of.
    """
    import tensorflow_hub as hub

    task = json.loads(Path(task_file).read_text())
    resolved = {handle: os.fspath(hub.resolve(handle)) for handle in task["resolve"]}
    facts, arrays = {}, {}
    for name, (path, pixels) in task["load"].items():
        images = np.load(pixels)
        facts[name], outputs = _load(path, images)
        if name in task["keras"]:
            layer = hub.KerasLayer(path, signature=SIGNATURE, output_key="default")
            outputs["keras"] = layer(images).numpy()
        arrays.update({f"{name}/{key}": value for key, value in outputs.items()})
    np.savez(task["outputs"], **arrays)
    Path(result_file).write_text(json.dumps({"resolved": resolved, "loaded": facts}))


def _load(path: str, pixels: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load both graphs of a module; return facts about them, and outputs by name."""
    import tensorflow as tf
    import tensorflow_hub as hub

    module, training = hub.load(path), hub.load(path, tags=["train"])
    images = tf.constant(pixels)
    losses = training.graph.get_collection(LOSSES)
    facts = {
        "signatures": sorted(module.signatures),
        "assets": [os.fsdecode(asset.asset_path.numpy()) for asset in module.asset_paths],
        "training_assets": [os.fsdecode(a.asset_path.numpy()) for a in training.asset_paths],
        "losses": [tensor.name for tensor in losses],
        "updates": len(training.graph.get_collection("update_ops")),
    }
    arrays = {
        "logits": module.signatures[SIGNATURE](images)["default"],
        "features": module.signatures["image_feature_vector"](images)["default"],
        "losses": tf.stack(training.prune([], losses)()),
    }
    return facts, {name: tensor.numpy() for name, tensor in arrays.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
