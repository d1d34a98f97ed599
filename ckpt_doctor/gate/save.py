"""One save of a run, as the gate sees it."""

from __future__ import annotations

from typing import NamedTuple

from ckpt_doctor.layouts import Found


class Save(NamedTuple):
    """The files of one save.

    ``path`` is the checkpoint as it is shown: of a weaver and a trigger that were saved together, the weaver, and of
    several others in one numbered folder, that folder. ``found`` are its checkpoints, and none for a folder that has
    the name of a save and nothing in it that could be loaded.
    ``names`` are those of the folders that lead to it, from the tree down. ``written`` is the time at which the last of
    its weights was written, in nanoseconds since 1970. ``base_of`` are the paths of the saves whose adapters name this
    one as their base model. ``gone`` says who names a save that is not there.
    """

    path: str
    found: tuple[Found, ...]
    names: tuple[str, ...]
    written: int
    base_of: tuple[str, ...] = ()
    gone: str = ""
