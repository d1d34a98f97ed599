"""From a path that a user typed to the checkpoints that lie there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.errors import NoCheckpointError, PathNotFoundError, UnknownNameError
from ckpt_doctor.core.wording import listed

from . import lone_file
from .disk import DISK, Disk
from .found import Found, Survey
from .opening import checkpoint_of
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


def read(found: Found, disk: Disk = DISK) -> Checkpoint:
    """The checkpoint that was found, with its files read; ``disk`` is the one on which it was found."""
    checkpoint = checkpoint_of(found, disk)
    return checkpoint._replace(unread=(*checkpoint.unread, *found.unread)) if found.unread else checkpoint


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
    # A lone file needs none of the other layouts, so it does not pay for them.
    from .search import search

    found = search(path, layout, disk, layouts, force=force)
    return found._replace(found=sorted(found.found, key=lambda item: (item.path, item.layout)))


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
