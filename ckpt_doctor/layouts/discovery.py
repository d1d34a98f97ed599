"""From a path that a user typed to the checkpoints that lie there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.errors import NoCheckpointError, PathNotFoundError, UnknownNameError
from ckpt_doctor.core.wording import listed

from . import lone_file
from .disk import DISK, Disk
from .found import Found, Survey
from .opening import read, with_contents
from .registry import LAYOUTS

if TYPE_CHECKING:
    from ckpt_doctor.core.layout import Layout

_INDEX_ENDING = ".index.json"
_CONFIGS = ("adapter_config.json", "config.json")


def discover(
    path: str | os.PathLike[str],
    layout: str | None = None,
    disk: Disk = DISK,
    layouts: Sequence[Layout] = (),
) -> list[Checkpoint]:
    """Every checkpoint at ``path``, read and ready to be judged, in the order of their paths. See :func:`find`."""
    return [read(found, disk) for found in find(path, layout, disk, layouts)]


def find(
    path: str | os.PathLike[str],
    layout: str | None = None,
    disk: Disk = DISK,
    layouts: Sequence[Layout] = (),
    *,
    force: bool = True,
) -> list[Found]:
    """Every checkpoint at ``path``, not read yet, in the order of their paths.

    A path inside a checkpoint means the whole checkpoint, and so does its index or config. ``layout`` keeps only the
    checkpoints of that layout; where there is none, the folder itself is taken for one, unless ``force`` is unset.
    ``disk`` is what is looked at, and ``layouts`` are those that a team has defined. Raises ``PathNotFoundError``,
    ``NoCheckpointError``, and ``UnknownNameError`` for a layout that does not exist.
    """
    everything = survey(path, layout, disk, layouts, force=force)
    found = [item for item in everything.found if not item.absent]
    if not found:
        raise NoCheckpointError(nothing_found(Path(path), layout, everything.unread))
    return found


def survey(
    path: str | os.PathLike[str],
    layout: str | None = None,
    disk: Disk = DISK,
    layouts: Sequence[Layout] = (),
    *,
    force: bool = True,
) -> Survey:
    """What :func:`find` finds, and what is or may hold weights there and was not read. Both may be nothing.

    A save that a tracker file names and that is gone is among what is found, marked as ``absent``.
    """
    # Path("") is the current directory: an unset variable in a script must not be taken for it.
    if not os.fspath(path):
        raise PathNotFoundError("the path is empty: is a variable unset?")
    path = Path(path)
    known = (*LAYOUTS, *(definition.name for definition in layouts))
    if layout is not None and layout not in known:
        raise UnknownNameError(f"there is no layout {layout!r}; choose one of {', '.join(known)}")
    if not disk.has_folder(path):
        if not disk.has_file(path):
            raise PathNotFoundError(f"{path} does not exist")
        if path.name in _CONFIGS or path.name.endswith(_INDEX_ENDING):
            return survey(path.parent, layout, disk, layouts, force=force)
        if layout not in (None, lone_file.KIND.name):
            raise NoCheckpointError(f"{path} is a file, and a {layout} checkpoint is a folder: name the folder")
        return Survey([lone_file.found(path, str(path))])
    found, unread = _in_folder(path, layout, disk, layouts, force=force)
    return Survey(sorted(found, key=attrgetter("path", "kind.name")), unread)


def _in_folder(path: Path, layout: str | None, disk: Disk, own: Sequence[Layout], *, force: bool) -> Survey:
    """The checkpoint that encloses the folder ``path``, or those below it."""
    # A lone file needs none of the other layouts, so it does not pay for them.
    from .enclosing import enclosing
    from .left_out import grouped
    from .loose import lone_files
    from .nesting import with_nesting
    from .search import checkpoints_below, forced

    unread: list[Unread] = []
    if layout == lone_file.KIND.name:
        return Survey(list(lone_files(disk.folder(path), unread)), grouped(unread))
    found = enclosing(path, own, disk)
    if not found:
        found = with_nesting(path, checkpoints_below(disk.folder(path), own, unread), disk)
    if layout is not None:
        # Only the names of its tensors tell a whole MemGen model from any other.
        found = [item if item.absent else with_contents(item, disk) for item in found]
        wanted = [item for item in found if item.layout == layout and not item.absent]
        # What is gone has no layout: that of the other saves in its run.
        wanted += [item for item in found if item.absent and any(item.root in other.root.parents for other in wanted)]
        found = wanted or (forced(disk.folder(path), layout, own) if force else [])
    return Survey(found, grouped(unread))


def nothing_found(path: Path, layout: str | None, unread: Sequence[Unread] = ()) -> str:
    """Why there is no checkpoint, with what lies there instead."""
    if layout is not None:
        return f"no {layout} checkpoint was found in {path}"
    if unread:
        shown = listed((f"{item.path} ({item.kind}: {item.reason})" for item in unread), 5)
        return f"nothing in {path} could be judged. Not read: {shown}"
    return (
        f"no checkpoint was found in {path}: no adapter_model.*, model*.safetensors, pytorch_model*.bin, weaver_lora/ "
        "or projections.pt, and no other file that holds tensors"
    )
