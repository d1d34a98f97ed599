"""The checkpoints in a folder and below it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.parts import Part

from . import lone_file
from .disk import Folder
from .found import Found
from .left_out import entered, unused_blobs, whole_folder
from .loose import Looks, lone_files
from .pipelines import incomplete_components
from .recogniser import recognised
from .registry import asked_for_folders, kind_named
from .trackers import absent_saves


def checkpoints_below(top: Folder, own: Sequence[Layout], unread: list[Unread]) -> Iterator[Found]:
    """The checkpoints in ``top`` and below it; what is not read is added to ``unread``.

    ``own`` are the layouts of a team, which come before all others.
    """
    waiting = [top.path]
    looks = Looks()
    claimed: set[Path] = set()
    while waiting:
        path = waiting.pop()
        folder = top if path == top.path else top.disk.folder(path)
        # What lies in a checkpoint's folders is read with it; what lies in folders below these may be something else.
        belongs = path in claimed
        if folder.error is not None:
            if not belongs:
                yield _unreadable(folder)
            continue
        if folder is not top and _is_environment(folder):
            continue
        if not belongs:
            matches = matches_at(folder, own)
            yield from matches
            whole = None if matches else whole_folder(folder)
            if whole is not None:
                unread.append(whole)
                continue
            if not matches:
                yield from lone_files(folder, unread, looks)
            claimed.update(path / name for match in matches for name in match.claimed)
            yield from absent_saves(folder)
        unread += incomplete_components(folder)
        unread += unused_blobs(folder)
        waiting += [path / name for name in entered(folder, unread)]
    if looks.skipped:
        reason = "a sample of each folder was read, and no file in it begins like weights"
        unread.append(Unread(str(top.path), "many files of one ending", 0, reason, files=looks.skipped))


def _is_environment(folder: Folder) -> bool:
    """True if Python or conda installs packages into this folder: nobody could miss what a search leaves out there."""
    return "pyvenv.cfg" in folder.files or "conda-meta" in folder.folders


def matches_at(folder: Folder, own: Sequence[Layout] = ()) -> list[Found]:
    """The checkpoints that this very folder is, without lone files; ``own`` are a team's layouts, which come first."""
    matches = [found for kind in own if (found := recognised(kind, folder))]
    if matches:
        return matches
    for kind in asked_for_folders():
        if kind.general and matches:
            break
        found = recognised(kind, folder)
        if found:
            matches.append(found)
            if kind.alone or kind.general:
                break
    return matches


def forced(folder: Folder, layout: str, own: Sequence[Layout]) -> list[Found]:
    """The folder itself as what the user says it is, though it does not look so; nothing where it is empty."""
    kind = next((kind for kind in own if kind.name == layout), None) or kind_named(layout)
    found = recognised(kind, folder, forced=True) if folder.files or folder.folders else None
    return [found] if found else []


def _unreadable(folder: Folder) -> Found:
    part = Part(folder.name, "file", files=(folder.as_unreadable_file("."),))
    shown = os.path.normpath(folder.path)
    return lone_file.given(Checkpoint(folder.path, shown, lone_file.KIND, "unreadable folder", (part,)))
