"""From what a search found to the checkpoint, with its files read."""

from __future__ import annotations

from ckpt_doctor.core.checkpoint import Checkpoint

from . import lone_file
from .disk import Disk
from .found import Found


def checkpoint_of(found: Found, disk: Disk) -> Checkpoint:
    """The checkpoint that was found, read now if that has not been done; ``disk`` is the one on which it was found."""
    if found.known is not None:
        return found.known
    if found.kind.grain == "file":
        return lone_file.build(found, disk)
    # A lone file needs none of the other layouts, so it does not pay for them.
    from .composing import compose

    return compose(found, disk)
