"""A module made ready to be trained step by step, through its own graph for training.

That graph normalises by the statistics of each batch, and its `update_ops`
move the averages that the graph for inference uses.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mnv1cli.inference.tf_model import TensorFlowModel
from mnv1cli.modules.mobilenet import BATCH_NORM_DECAY
from mnv1cli.modules.weights import HEAD
from mnv1cli.system.tempdirs import make_plain_path

if TYPE_CHECKING:
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.types import FloatArray

# The share of all steps in which the learning rate rises.
_WARM_UP = 0.05
# The module's own averages take ten thousand steps to move, which suits a training of
# weeks. Here each step keeps this share of them, so that they keep up with the weights.
_DECAY = 0.9


class Network:
    """A module's two graphs: one to train, one to infer with the same variables.

    Attributes:
        variables: the variables that are trained, by their TF-Slim names with `:0`.
        rate: the learning rate of the next step.
        optimizer: Adam, whose state is part of a checkpoint.
        step: trains on a batch, as `_step` does.
    """

    def __init__(self, module: HubModule, threads: int = 1) -> None:
        import tensorflow as tf

        self._inference = TensorFlowModel(module, [module.logits()], threads)
        training = tf.saved_model.load(make_plain_path(module.path), tags=["train"])
        self.variables = {variable.name: variable for variable in training.variables}
        self._trainable = [v for v in training.variables if v.trainable]
        self._averages = [v for v in training.variables if not v.trainable]
        features = module.features()
        updates = training.graph.get_collection("update_ops")
        self._forward = training.prune(features.images.tensor, [features.result.tensor, updates])
        self._head = [self.variables[f"{HEAD}/{name}:0"] for name in ("weights", "biases")]
        self.rate = tf.Variable(0.0, trainable=False)
        # TensorFlow's own: Keras takes no variables of a loaded module.
        self.optimizer = tf.compat.v1.train.AdamOptimizer(lambda: self.rate)
        self.step = tf.function(self._step)

    def _step(self, pixels: Any, classes: Any, balance: Any) -> tuple[Any, Any]:
        """Train on a batch, and return its loss and how many of its images were right.

        `pixels` is float32 [n, size, size, 3] in [0, 1], `classes` int64 [n], and
        `balance` float32 [n], the weight of each image in the loss.
        """
        import tensorflow as tf

        before = [tf.identity(average) for average in self._averages]
        with tf.GradientTape() as tape:
            # Not the logits of the graph: its dropout of one in a thousand has no seed.
            weights, biases = self._head
            logits = self._forward(pixels)[0] @ weights[0, 0] + biases
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
            loss = tf.reduce_mean(losses * balance)
        gradients = tape.gradient(loss, self._trainable)
        self.optimizer.apply_gradients(zip(gradients, self._trainable, strict=True))
        faster = (1 - _DECAY) / (1 - BATCH_NORM_DECAY)
        for average, old in zip(self._averages, before, strict=True):
            average.assign(old + (average - old) * faster)
        right = tf.argmax(logits, axis=1) == classes
        return loss, tf.reduce_sum(tf.cast(right, tf.int64))

    def compute_logits(self, pixels: FloatArray) -> FloatArray:
        """Compute the logits [n, classes] in the graph for inference, as of the last `settle`."""
        return self._inference(pixels)["logits"]

    def settle(self) -> None:
        """Copy the variables as they are now into the graph for inference."""
        for variable in self._inference.owner.variables:
            variable.assign(self.variables[variable.name])


def compute_learning_rate(step: int, steps: int, highest: float) -> float:
    """Compute the rate of a step: it rises in the first twentieth, then falls as half a cosine.

    Loshchilov and Hutter, "SGDR" (arXiv:1608.03983), equation 5, without restarts.
    """
    warm = max(round(_WARM_UP * steps), 1)
    if step < warm:
        return highest * (step + 1) / warm
    return highest * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2
