"""A probe of the scores of a module: whether they are logits, or probabilities already.

Nothing in a module says which they are. A softmax at its end shows in its results.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mnv1cli.modules import artifacts

if TYPE_CHECKING:
    from mnv1cli.inference.models import Model
    from mnv1cli.modules.hub_module import HubModule
    from mnv1cli.modules.signatures import Output
    from mnv1cli.types import FloatArray

# Raise this with every change of the probe: modules are then probed again.
_REVISION = 1
_KEY = "probabilities"

_IMAGES = 3
# The sum of a thousand probabilities in float16 is off by less.
_TOLERANCE = 1e-3


def gives_probabilities(module: HubModule, output: Output, model: Model) -> bool:
    """Return whether a module's scores are probabilities, from the cache or by a probe.

    `model` is the module in float32; it runs three images of noise where the outcome is not in
    the cache. The outcome is the same for every engine and image size, so it is kept once.
    """
    outcome = read_outcome(module, output)
    if outcome is None:
        outcome = _probe(output, model)
        artifacts.write_record(module.fingerprint, _make_key(output), {_KEY: outcome})
    return outcome


def read_outcome(module: HubModule, output: Output) -> bool | None:
    """Return the outcome of an earlier probe, None where there was none."""
    outcome = artifacts.read_record(module.fingerprint, _make_key(output)).get(_KEY)
    return outcome if isinstance(outcome, bool) else None


def are_probabilities(scores: FloatArray) -> bool:
    """Return whether all rows of scores [n, classes] are at least 0 and sum to 1."""
    import numpy as np

    sums = scores.sum(axis=1, dtype=np.float64)
    # NaN is neither.
    return bool((scores >= 0).all() and (abs(sums - 1) <= _TOLERANCE).all())


def _probe(output: Output, model: Model) -> bool:
    import numpy as np

    size = output.images.shape[1]
    noise = np.random.default_rng(0).random((_IMAGES, size, size, 3), dtype=np.float32)
    scores = model(noise)[output.name]
    return are_probabilities(scores.reshape(_IMAGES, -1))


def _make_key(output: Output) -> str:
    # A module may have several outputs that could be taken for its scores.
    return json.dumps(["scores", _REVISION, output.result.tensor])
