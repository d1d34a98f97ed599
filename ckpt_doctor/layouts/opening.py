"""A checkpoint that was found, read."""

from __future__ import annotations

from ckpt_doctor.core.checkpoint import Checkpoint

from . import lone_file
from .disk import DISK, Disk
from .found import Found


def read(found: Found, disk: Disk = DISK) -> Checkpoint:
    """The checkpoint that was found, with its files read; ``disk`` is the one on which it was found."""
    if found.known is not None:
        checkpoint = found.known
    elif found.kind.grain == "file":
        checkpoint = lone_file.build(found, disk)
    else:
        from .composing import compose
        from .contents import contents_of

        checkpoint = compose(found, contents_of(found, disk))
    return checkpoint._replace(unread=(*checkpoint.unread, *found.unread)) if found.unread else checkpoint


def with_contents(found: Found, disk: Disk) -> Found:
    """The same, read: what its files hold may make it another kind."""
    if found.known is not None or found.kind.grain == "file":
        return found
    checkpoint = read(found, disk)
    return found._replace(kind=checkpoint.kind, known=checkpoint)
