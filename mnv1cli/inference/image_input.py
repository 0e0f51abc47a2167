"""The image input of a module: refused where it cannot be fed, and given its size.

The signature of a module may leave height and width open, as version 3 of the family does. What
compiles or traces a module needs them, so they are settled before it is run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError, SignatureError
from mnv1cli.modules.hub_module import TF2
from mnv1cli.modules.signatures import (
    FEATURES_SIGNATURE,
    FLOATS,
    IMAGES_REMEDY,
    INPUT,
    LOGITS_SIGNATURE,
    require_image_shape,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output, Signature, TensorSpec

# The signatures that are run; others may take anything.
_RUN = (LOGITS_SIGNATURE, FEATURES_SIGNATURE)

_CHANNELS = 3
_DTYPE = "float32"


def settle_image_size(module: HubModule, wanted: int | None) -> tuple[HubModule, int]:
    """Return the module with the size of its images in its signatures, and that size in pixels.

    `module.image_size` stays what the module states.

    Raises:
        SignatureError: the module has neither logits nor features.
        ModuleError: it takes other images than square ones in colour, as float32; or neither it
            nor `wanted` has a size.
        OptionError: `wanted` is not its size.
    """
    inputs = _list_image_inputs(module)
    for spec in inputs:
        _check_kind(spec, module.handle)
    for output in module.main_outputs():
        _check_result(output, module.handle)
    size = module.choose_image_size(wanted)
    for spec in inputs:
        _check_sides(spec, size, module.handle)
    signatures = {
        name: _settle_signature(signature, size) if name in _RUN else signature
        for name, signature in module.signatures.items()
    }
    return replace(module, signatures=signatures), size


def _list_image_inputs(module: HubModule) -> list[TensorSpec]:
    signatures = [module.signatures[name] for name in _RUN if name in module.signatures]
    if not signatures and module.format == TF2:
        raise SignatureError(
            f"module {module.handle} gives {_list_outputs(module)}, and it is not clear which are "
            "the scores of classes",
            "export it with one output, or name one of them 'logits' or 'probabilities'",
        )
    if not signatures:
        names = ", ".join(sorted(module.signatures)) or "none"
        raise SignatureError(
            f"module {module.handle} has neither a signature {LOGITS_SIGNATURE!r} "
            f"nor {FEATURES_SIGNATURE!r}",
            f"it has {names}",
        )
    if not module.main_outputs():
        # Says what it has instead.
        (module.logits if LOGITS_SIGNATURE in module.signatures else module.features)()
    return [signature.inputs[INPUT] for signature in signatures if INPUT in signature.inputs]


def _list_outputs(module: HubModule) -> str:
    return ", ".join(
        key if spec.dtype in FLOATS else f"{key} as {spec.dtype}"
        for signature in module.signatures.values()
        for key, spec in signature.outputs.items()
    )


def _check_kind(spec: TensorSpec, handle: str) -> None:
    """Raise ModuleError for images that are not float32 with three channels."""
    if spec.dtype != _DTYPE:
        raise ModuleError(
            f"module {handle} takes images as {spec.dtype}, which is not supported", IMAGES_REMEDY
        )
    require_image_shape(spec, handle)
    channels = spec.shape[-1]
    if channels not in (-1, _CHANNELS):
        noun = "channel" if channels == 1 else "channels"
        raise ModuleError(
            f"module {handle} takes images of {channels} {noun}, which is not supported",
            IMAGES_REMEDY,
        )


def _check_result(output: Output, handle: str) -> None:
    """Raise ModuleError for an output that has no values for each image."""
    shape = output.result.shape
    if not shape or 0 in shape:
        raise ModuleError(f"module {handle} gives {output.name} of the shape {list(shape)}")


def _check_sides(spec: TensorSpec, size: int, handle: str) -> None:
    height, width = spec.shape[1:3]
    if not {height, width} <= {-1, size}:
        sides = "x".join("?" if side < 0 else str(side) for side in (height, width))
        raise ModuleError(
            f"module {handle} takes images of {sides}, not {size}x{size}", IMAGES_REMEDY
        )


def _settle_signature(signature: Signature, size: int) -> Signature:
    return replace(signature, inputs=_settle_inputs(signature.inputs, size))


def _settle_inputs(inputs: Mapping[str, TensorSpec], size: int) -> dict[str, TensorSpec]:
    shape = (-1, size, size, _CHANNELS)
    return {
        key: replace(spec, shape=shape) if key == INPUT else spec for key, spec in inputs.items()
    }
