"""Where other programs take this one along: a callback for ``transformers.Trainer``, and a helper for tests.

>>> import ckpt_doctor.integrations
>>> sorted(ckpt_doctor.integrations.__all__)
['CheckpointCallback', 'CheckpointWarning', 'assert_fully_loaded']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .testing import assert_fully_loaded
    from .trainer import CheckpointCallback
    from .warning import CheckpointWarning

__all__ = ["CheckpointCallback", "CheckpointWarning", "assert_fully_loaded"]

_HOMES = {"CheckpointCallback": "trainer", "CheckpointWarning": "warning", "assert_fully_loaded": "testing"}


def __getattr__(name: str) -> Any:
    # The callback is a subclass of one of transformers: who wants the test helper only must not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
