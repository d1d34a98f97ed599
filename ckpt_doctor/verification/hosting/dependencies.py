"""The libraries that only loads need, imported at the point of use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ckpt_doctor.core.errors import MissingDependencyError


def require(module: str) -> Any:
    """Import ``torch``, ``peft`` or ``transformers``. Raises ``MissingDependencyError`` with what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingDependencyError(
            f"a load needs {package}, which cannot be imported ({error}): install it with `pip install {package}`"
        ) from None
