"""The module that training starts from: its variables, and which MobileNet V1 it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError, WeightsError
from mnv1cli.modules import weights
from mnv1cli.modules.hub_module import TF1
from mnv1cli.system import tempdirs

if TYPE_CHECKING:
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.types import Variant

_REMEDY = "name a TF1 Hub module of MobileNet V1, of any size, such as 'bundled'"


def read_base(module: HubModule, image_size: int) -> tuple[dict[str, Any], Variant]:
    """Read the variables of a module's network, without those of its head, and its variant.

    Raises:
        SignatureError: it gives no features.
        ModuleError: it is a TF2 SavedModel, or another network.
    """
    if module.format != TF1:
        raise ModuleError(f"module {module.handle} is a {module.format}, not a {TF1}", _REMEDY)
    module.features()
    prefix = Path(tempdirs.make_plain_path(module.path)) / "variables" / "variables"
    variables = weights.remove_head(weights.read_checkpoint(prefix))
    try:
        variant = weights.infer_variant(variables, image_size=image_size)
        weights.check_shapes(variables, weights.list_shapes(variant.depth_multiplier, None))
    except WeightsError as error:
        difference = _describe_foreign_variables(prefix) or error.what
        raise ModuleError(
            f"module {module.handle} is no MobileNet V1: {difference}", _REMEDY
        ) from error
    return variables, variant


def _describe_foreign_variables(prefix: Path) -> str:
    """Name variables of a checkpoint that are not MobileNet V1's; empty where it has none."""
    import tensorflow as tf

    names = [name for name, _ in tf.train.list_variables(str(prefix))]
    foreign = [name for name in names if not name.startswith(f"{weights.SCOPE}/")]
    return f"it has the variables {', '.join(foreign[:3])}, ..." if foreign else ""
