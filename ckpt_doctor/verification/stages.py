"""The stages of a verification, reported to a callback as they begin."""

from __future__ import annotations

from collections.abc import Callable

Stage = Callable[[str, str], None]
"""Is called with what begins (``building``, ``loading``, ``judging``), and what that is done to or with."""


def untold(kind: str, name: str) -> None:
    """The stage callback that does nothing."""
