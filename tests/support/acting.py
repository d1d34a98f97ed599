"""A standard that acts: what a checkpoint is held against runs a program, in whatever process judges it.

A worker imports this module, because it gets the path along which its parent imports.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint


class Acting(NamedTuple):
    """``programs`` has the source of a program for each of the checkpoints, by their paths, that are to run one.

    ``ballast`` is unused; a function that is defined in another one cannot be handed to another process.
    """

    programs: dict[str, str]
    ballast: Callable[[], object] | None = None

    def wants_digest(self, file: str, name: str) -> bool:
        return False

    def compared(self, checkpoint: Checkpoint) -> Checkpoint:
        exec(textwrap.dedent(self.programs.get(checkpoint.path, "")), {})
        return checkpoint
