"""The kinds of checkpoints that are built in, one file each: its record, and functions for what no data can say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint

if TYPE_CHECKING:
    from ckpt_doctor.layouts.disk import Folder


class Hooks(NamedTuple):
    """What of a kind no data can say, as functions that the recogniser and the reader call.

    ``recognises`` says of a folder that no sign fits whether it is one all the same, and ``excludes`` of one that a
    sign fits whether it is something else. ``finished`` gives the checkpoint that was read its last changes: a variant,
    parts that may be absent.
    """

    recognises: Callable[[Folder], bool] | None = None
    excludes: Callable[[Folder], bool] | None = None
    finished: Callable[[Checkpoint], Checkpoint] | None = None


NO_HOOKS = Hooks()
"""Those of a kind that its record describes completely."""
