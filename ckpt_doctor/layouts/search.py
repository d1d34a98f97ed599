"""The checkpoints in a folder: the one that it lies in, or else all that lie below it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.parts import Part

from . import lone_file
from .disk import Disk
from .folder import Folder
from .found import Found, Survey
from .left_out import entered, grouped, unused_blobs, whole_folder
from .loose import Looks, lone_files
from .opening import checkpoint_of
from .pipelines import incomplete_components
from .recogniser import recognised
from .registry import asked_for_folders, kind_named
from .trackers import absent_saves

LEVELS_UP = 3
"""How far up a checkpoint is looked for that a path lies in."""


def search(path: Path, layout: str | None, disk: Disk, layouts: Iterable[Layout] = (), *, force: bool = True) -> Survey:
    """The checkpoint that encloses the folder ``path``, or those below it; only those of ``layout`` if one is given.

    ``layouts`` are those of a team, which come before all others. ``force`` takes the folder itself for one of
    ``layout`` where none is there.
    """
    unread: list[Unread] = []
    if layout == lone_file.KIND.name:
        found = list(lone_files(Folder(path, disk), unread))
        return Survey(found, _shown_below(path, unread))
    from .nesting import with_nesting

    own = tuple(layouts)
    matches = _enclosing(path, own, disk) or list(_matches_below(Folder(path, disk), own, unread))
    found = [_as_shown(item, path) for item in with_nesting(path, matches, disk)]
    if layout is not None:
        # Only the names of its tensors tell a whole MemGen model from any other.
        found = [item if item.absent else _read(item, disk) for item in found]
        wanted = [item for item in found if item.layout == layout and not item.absent]
        # What is gone has no layout: that of the other saves in its run.
        wanted += [item for item in found if item.absent and any(item.root in other.root.parents for other in wanted)]
        found = wanted or (_forced(Folder(path, disk), layout, own) if force else [])
    return Survey(found, _shown_below(path, unread))


def _shown_below(path: Path, unread: Iterable[Unread]) -> tuple[Unread, ...]:
    """What was not read, with paths as they are shown."""
    return grouped(item._replace(path=Path(os.path.normpath(item.path)).as_posix()) for item in unread)


def _read(found: Found, disk: Disk) -> Found:
    """The same, read: what its files hold may make it another kind."""
    if found.kind.grain == "file":
        return found
    checkpoint = checkpoint_of(found, disk)
    return found._replace(kind=checkpoint.kind, known=checkpoint)


def _enclosing(path: Path, own: Sequence[Layout], disk: Disk) -> list[Found]:
    """The checkpoint that claims ``path`` as one of its inner folders; the outermost where several do."""
    # As it was typed, and where a link leads: a link to an inner folder means the same checkpoint as the folder.
    for here in dict.fromkeys((Path(os.path.abspath(path)), Path(os.path.realpath(path)))):
        for ancestor in reversed(list(here.parents)[:LEVELS_UP]):
            inner = here.relative_to(ancestor).as_posix()
            for kind in (*own, *(kind for kind in asked_for_folders() if not kind.general)):
                found = recognised(kind, Folder(ancestor, disk))
                if found and inner in found.claimed:
                    return [found]
    return []


def _matches_below(top: Folder, own: Sequence[Layout], unread: list[Unread]) -> Iterator[Found]:
    waiting = [top]
    looks = Looks()
    claimed: set[Path] = set()
    while waiting:
        folder = waiting.pop()
        # What lies in a checkpoint's folders is read with it; what lies in folders below these may be something else.
        belongs = folder.path in claimed
        if folder.listing_error() is not None:
            if not belongs:
                yield _unreadable(folder)
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
            claimed.update(folder.path / name for match in matches for name in match.claimed)
            yield from absent_saves(folder)
        unread += unused_blobs(folder)
        unread += incomplete_components(folder)
        waiting += [folder.child(name) for name in entered(folder, unread)]
    if looks.skipped:
        reason = "a sample of each folder was looked into, and no file in it begins like weights"
        unread.append(Unread(str(top.path), "many files of one ending", 0, reason, files=looks.skipped))


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


def _forced(folder: Folder, layout: str, own: Sequence[Layout]) -> list[Found]:
    """The folder itself as what the user says it is, though it does not look so; nothing where it is empty."""
    kind = next((kind for kind in own if kind.name == layout), None) or kind_named(layout)
    found = recognised(kind, folder, forced=True) if folder.files or folder.folders else None
    return [_as_shown(found, folder.path)] if found else []


def _as_shown(found: Found, asked: Path) -> Found:
    """The checkpoint with its path as it is shown; what is known of it already has that."""
    if found.known is not None or found.kind.grain == "file":
        return found
    return found._replace(path=_shown(found.root, asked))


def _shown(root: Path, asked: Path) -> str:
    """How ``root`` is written: below what the user typed, or as its beginning, or with ``..``."""
    absolute = Path(os.path.abspath(asked))
    root = Path(os.path.abspath(root))
    if absolute == root or absolute in root.parents:
        return os.path.normpath(asked / root.relative_to(absolute))
    if root not in absolute.parents:
        return str(root)
    return os.path.normpath(asked.joinpath(*[".."] * len(absolute.relative_to(root).parts)))


def _unreadable(folder: Folder) -> Found:
    part = Part(folder.name, "file", files=(folder.as_unreadable_file("."),))
    shown = os.path.normpath(folder.path)
    return lone_file.given(Checkpoint(folder.path, shown, lone_file.KIND, "unreadable folder", (part,)))
