"""TF2 SavedModels loaded as functions: versions 4 and 5 of the family, and others like them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError
from mnv1cli.modules.signatures import OUTPUT
from mnv1cli.system import tempdirs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SERVING = "serving_default"


# Calling what another program has saved can end in any of them, or in an error of TensorFlow's.
_PROBLEMS = (TypeError, ValueError, LookupError, AttributeError, AssertionError, RuntimeError)
# The lines of TensorFlow's errors that say nothing, and those that say what failed.
_HEADINGS = ("Graph execution error", "Detected at node", "File ", "<stack traces")
_NAMED_ERROR = re.compile(r"[A-Za-z]+Error: ")
# Signatures of this kind are TensorFlow's own.
_INTERNAL = "__"


@lru_cache(maxsize=1)
def load_function(path: Path, image_size: int, dtype: str = "float32", channels: int = 3) -> Any:
    """Load a model as a concrete function of images [batch, size, size, channels].

    The saved object is called if it can be, with `training=False` if it accepts
    that; else its signature is. The structured output of the function maps names to tensors;
    a tensor without a name is `default`.

    Raises:
        ModuleError: the model cannot be loaded, or does not accept such images.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(tempdirs.make_plain_path(path))
    except Exception as error:  # a graph made for it brings TensorFlow to raise anything
        raise _unusable(path, error) from error
    spec = tf.TensorSpec([None, image_size, image_size, channels], dtype)
    problem: Exception | None = None
    for call in _list_calls(loaded):
        try:
            function = tf.function(_with_named_outputs(call)).get_concrete_function(spec)
        except (*_PROBLEMS, tf.errors.OpError) as error:
            # That of the last way, the signature, is the clearest.
            problem = error
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
    name = choose_signature(loaded.signatures)
    if name is not None:
        signature = loaded.signatures[name]
        (_, keywords) = signature.structured_input_signature
        if len(keywords) == 1:
            (key,) = keywords
            calls.append(lambda images: signature(**{key: images}))
    return calls


def choose_signature(names: Iterable[str]) -> str | None:
    """Choose the signature that serves: `serving_default`, else the only one; None without it."""
    own = list_signatures(names)
    if SERVING in own:
        return SERVING
    return own[0] if len(own) == 1 else None


def list_signatures(names: Iterable[str]) -> list[str]:
    """List the signatures that are not TensorFlow's own."""
    return sorted(name for name in names if not name.startswith(_INTERNAL))


def is_callable(graph: Any) -> bool:
    """Return whether the saved object of a graph can be called, by its record of objects."""
    nodes = graph.object_graph_def.nodes
    return bool(nodes) and any(child.local_name == "__call__" for child in nodes[0].children)


def _with_named_outputs(call: Any) -> Any:
    """Wrap a call so that it returns its tensors by their names."""
    import tensorflow as tf

    def function(images: Any) -> dict[str, Any]:
        results = call(images)
        if isinstance(results, list | tuple) and len(results) == 1:
            (results,) = results
        if isinstance(results, tf.Tensor):
            results = {OUTPUT: results}
        if not isinstance(results, Mapping):
            # Of a signature even they have names.
            raise TypeError(f"it returns a {type(results).__name__}, and no tensors with names")
        tensors = {key: result for key, result in results.items() if isinstance(result, tf.Tensor)}
        if not tensors:
            raise TypeError(f"it returns no tensors, but {', '.join(map(str, results))}")
        return tensors

    return function


def _unusable(path: Path, error: Exception) -> ModuleError:
    return ModuleError(f"the SavedModel in {path} cannot be used: {describe_error(error)}")


def describe_error(error: Exception) -> str:
    """Return the telling line of an error of TensorFlow's, without the headings before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].startswith("in user code"):
        named = [line for line in lines if _NAMED_ERROR.match(line)]
        return (named or lines)[-1][:300]
    telling = [line for line in lines if not line.startswith(_HEADINGS)]
    return (telling or [type(error).__name__])[0][:300]
