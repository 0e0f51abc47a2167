"""TF2 SavedModels of MobileNet V1, as programs of TF2 export them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnv1cli.modules import weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def export_module(
    directory: Path,
    variables: Mapping[str, Any],
    rename: Callable[[str], str] = lambda name: name,
    size: int = 128,
) -> Path:
    """Export variables as a `tf.Module` that calls the network; `rename` names its variables."""
    import tensorflow as tf

    network = tf.Module()
    # In a list, so that the checkpoint has them by number.
    network.held = [
        tf.Variable(value, name=rename(name), trainable="moving" not in name)
        for name, value in variables.items()
    ]
    call = tf.function(
        lambda inputs: compute(dict(zip(variables, network.held, strict=True)), inputs),
        input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32, name="inputs")],
    )
    network.__call__ = call
    tf.saved_model.save(network, str(directory), signatures=call.get_concrete_function())
    return directory


def export_wrapped(directory: Path, module: Path) -> Path:
    """Export a TF1 Hub module's graph as a TF2 SavedModel, wrapped as the hub's authors did."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(module), tags=[])
    wrapped = loaded.signatures["default"]
    export = tf.Module()
    export.variables_of_graph = loaded.variables
    export.call = tf.function(
        lambda inputs: wrapped(images=inputs)["default"],
        input_signature=[tf.TensorSpec([None, 128, 128, 3], tf.float32, name="inputs")],
    )
    tf.saved_model.save(export, str(directory), signatures=export.call.get_concrete_function())
    return directory


def compute(values: Mapping[str, Any], images: Any) -> Any:
    """Compute logits, or features without a head: arXiv:1704.04861, table 1."""
    import tensorflow as tf

    depth = values[f"{weights.SCOPE}/Conv2d_0/weights"].shape[3] / 32
    net = images * 2.0 - 1.0
    for layer in weights.list_layers(depth):
        scope = f"{weights.SCOPE}/{layer.name}"
        kernel = values[f"{scope}/{layer.kernel}"]
        if layer.depthwise:
            strides = [1, layer.stride, layer.stride, 1]
            net = tf.nn.depthwise_conv2d(net, kernel, strides, "SAME")
        else:
            net = tf.nn.conv2d(net, kernel, layer.stride, "SAME")
        mean, variance, beta, gamma = (
            values[f"{scope}/BatchNorm/{name}"]
            for name in ("moving_mean", "moving_variance", "beta", "gamma")
        )
        net = tf.nn.relu6(tf.nn.batch_normalization(net, mean, variance, beta, gamma, 0.001))
    features = tf.reduce_mean(net, [1, 2])
    if f"{weights.HEAD}/weights" not in values:
        return features
    return features @ values[f"{weights.HEAD}/weights"][0, 0] + values[f"{weights.HEAD}/biases"]
