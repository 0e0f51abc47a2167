"""A module as a SavedModel with the tag `serve`, for TF Serving, Keras 3 and TensorFlow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError, OutputError
from mnv1cli.inference.export.description import INPUT, SIGNATURE, TAG
from mnv1cli.labels.names import FIELDS
from mnv1cli.modules.files import LABELS_ASSET
from mnv1cli.modules.savedmodel import describe_error
from mnv1cli.results.writers.delimited import encode_rows
from mnv1cli.system import tempdirs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mnv1cli.inference.export.source import ExportSource
    from mnv1cli.types import FloatArray


def write_savedmodel(source: ExportSource, network: Callable[[Any], Any], target: Path) -> None:
    """Write the folder of a SavedModel that computes `network`, with the names of its classes.

    It has a signature, and the loaded object can be called with images.

    Raises:
        ModuleError: TensorFlow cannot save the module.
        OutputError: the folder cannot be written.
    """
    import tensorflow as tf

    foreign = (tf.errors.OpError, AssertionError, KeyError, TypeError, ValueError)
    problem = f"module {source.module.handle} cannot be written as a SavedModel"
    folder = os.path.join(tempdirs.make_plain_path(target.parent), target.name)
    try:
        saved, serve = _make_object(source, network, target)
    except foreign as error:
        raise ModuleError(f"{problem}: {describe_error(error)}") from error
    try:
        tf.saved_model.save(saved, folder, signatures={SIGNATURE: serve})
    except tf.errors.OpError as error:
        # "PATH; REASON [Op:NAME]", and the path is that of a temporary file.
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OutputError(f"cannot write the SavedModel: {reason}") from error
    except foreign as error:
        raise ModuleError(f"{problem}: {describe_error(error)}") from error


def _make_object(
    source: ExportSource, network: Callable[[Any], Any], target: Path
) -> tuple[Any, Any]:
    """Make the object to save, which can be called, and the function of its signature."""
    import tensorflow as tf

    images = tf.TensorSpec([None, source.image_size, source.image_size, 3], tf.float32, name=INPUT)
    serve = tf.function(
        lambda images: {source.name: network(images)}, autograph=False, input_signature=[images]
    ).get_concrete_function()
    saved = tf.Module()
    # In a fixed order: the files then have the same bytes in every process.
    saved.network_variables = sorted(serve.variables, key=lambda variable: str(variable.name))
    saved.__call__ = tf.function(network, autograph=False, input_signature=[images])
    if source.classes:
        saved.class_names = tf.saved_model.Asset(_write_classes(source, target))
    return saved, serve


def _write_classes(source: ExportSource, target: Path) -> str:
    """Write the names of the classes beside the target, for TensorFlow to copy; return the path."""
    table = target.with_name(f"{target.name}-classes") / os.path.basename(LABELS_ASSET)
    table.parent.mkdir()
    rows = ((str(n.class_id), n.wnid, n.label, n.synonyms) for n in source.classes)
    table.write_bytes(encode_rows([FIELDS, *rows]))
    return tempdirs.make_plain_path(table)


def run_savedmodel(folder: Path, pixels: FloatArray) -> dict[str, FloatArray]:
    """Run a SavedModel through its signature, for pixels float32 [n, size, size, 3]."""
    import tensorflow as tf

    loaded = tf.saved_model.load(tempdirs.make_plain_path(folder), tags=TAG)
    results = loaded.signatures[SIGNATURE](**{INPUT: tf.constant(pixels)})
    return {name: values.numpy() for name, values in results.items()}
