"""What begins while a checkpoint is verified, for whoever follows it."""

from __future__ import annotations

from collections.abc import Callable

Stage = Callable[[str, str], None]
"""Is called with what begins (``building``, ``loading``, ``judging``), and what that is done to or with."""


def untold(kind: str, name: str) -> None:
    """The stage of a load that nobody follows."""
