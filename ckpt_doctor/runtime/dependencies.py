"""The libraries that only an extra brings, imported where they are used: what is absent is named, with the extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ckpt_doctor.core.errors import MissingDependencyError


def require(module: str, extra: str = "verify") -> Any:
    """Import a module that only this extra of the package brings. Raises ``MissingDependencyError``, which names it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingDependencyError(
            f"this needs {package}, which cannot be imported ({error}). Install it with "
            f"`pip install 'ckpt-doctor[{extra}]'`"
        ) from None
