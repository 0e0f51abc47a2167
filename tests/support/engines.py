"""What tests of the engines need of the machine."""

from __future__ import annotations

import pytest

from mnv1cli.errors import OptionError
from mnv1cli.inference.openvino_model import require_device


def require_bf16() -> None:
    """Skip a test where the processor has no bfloat16."""
    try:
        require_device("CPU", "bf16")
    except OptionError as error:
        pytest.skip(error.what)
