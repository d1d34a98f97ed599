"""What a layout answers when it recognises a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ckpt_doctor.checkpoint import Checkpoint

from .reading import CheckpointReader


class Match(NamedTuple):
    """A checkpoint that was recognised and not yet read.

    ``claimed`` are the folders, relative to ``root``, that belong to it and hold no checkpoint of their own.
    """

    layout: str
    root: Path
    claimed: tuple[str, ...]
    build: Callable[[CheckpointReader], Checkpoint]
