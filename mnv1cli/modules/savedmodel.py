"""TF2 SavedModels loaded as functions: versions 4 and 5 of the family, and others like them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError
from mnv1cli.system import tempdirs

if TYPE_CHECKING:
    from pathlib import Path

SERVING = "serving_default"


@lru_cache(maxsize=1)
def load_function(path: Path, image_size: int) -> Any:
    """Load a model as a concrete function of images float32 [batch, size, size, 3].

    The saved object is called if it can be, with `training=False` if it accepts
    that; else its signature `serving_default` is. The function has one
    structured output, a tensor.

    Raises:
        ModuleError: the model cannot be loaded, or does not accept such images.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(tempdirs.make_plain_path(path))
    except Exception as error:  # a graph made for it brings TensorFlow to raise anything
        raise _unusable(path, error) from error
    spec = tf.TensorSpec([None, image_size, image_size, 3], tf.float32)
    problem: Exception | None = None
    for call in _list_calls(loaded):
        try:
            function = tf.function(_with_single_output(call)).get_concrete_function(spec)
        except (TypeError, ValueError, tf.errors.OpError) as error:
            problem = problem or error
            continue
        # The variables live as long as the object that they were loaded with.
        function.mnv1_owner = loaded
        return function
    raise _unusable(path, problem or TypeError("it has neither a call nor a signature"))


def _list_calls(loaded: Any) -> list[Any]:
    """List the ways to call a model for inference, best first."""
    calls: list[Any] = []
    if callable(loaded):
        calls += [lambda images: loaded(images, training=False), loaded]
    signature = loaded.signatures.get(SERVING)
    if signature is not None:
        (_, keywords) = signature.structured_input_signature
        if len(keywords) == 1:
            (key,) = keywords
            calls.append(lambda images: signature(**{key: images}))
    return calls


def _with_single_output(call: Any) -> Any:
    """Wrap a call so that its result is a tensor: `default` of several by name, or the only one."""

    def function(images: Any) -> Any:
        result = call(images)
        if not isinstance(result, dict):
            return result
        if "default" in result:
            return result["default"]
        if len(result) != 1:
            raise ValueError(f"it returns {', '.join(sorted(result))}, and none is the default")
        (only,) = result.values()
        return only

    return function


def _unusable(path: Path, error: Exception) -> ModuleError:
    return ModuleError(f"the SavedModel in {path} cannot be used: {describe_error(error)}")


def describe_error(error: Exception) -> str:
    """Return the telling line of an error of TensorFlow's, without the headings before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("in user code"):
        return lines[-1][:300]
    telling = [
        line
        for line in lines
        if line and not line.startswith(("Graph execution error", "Detected at node", "File "))
    ]
    return (telling or [type(error).__name__])[0][:300]
