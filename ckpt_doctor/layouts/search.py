"""The checkpoints in a folder: the one that it lies in, or else all that lie below it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ckpt_doctor.checkpoint import Checkpoint, Part

from . import lone_file, memgen, peft, transformers, trigger, weaver
from .disk import Disk
from .folder import Folder
from .match import Found, Match
from .names import has_weight_ending, is_training_state
from .reading import CheckpointReader, is_foreign

# In the order in which they are asked. What upstream MemGen writes contains folders that look like a weaver's, and a
# folder can be a weaver and a trigger at once; PEFT and transformers take what is left.
_FAMILY = {memgen.NAME: memgen.match, weaver.NAME: weaver.match, trigger.NAME: trigger.match}
_GENERAL = {peft.NAME: peft.match, transformers.NAME: transformers.match}

_LEVELS_UP = 3


def search(path: Path, layout: str | None, disk: Disk, *, force: bool) -> list[Found]:
    """The checkpoint that encloses the folder ``path``, or those below it; only those of ``layout`` if one is given.

    ``force`` takes the folder itself for one of that layout where none is there.
    """
    if layout == lone_file.NAME:
        return list(_lone_files(Folder(path, disk)))
    matches = _enclosing(path, disk) or _matches_below(Folder(path, disk))
    found = [item if isinstance(item, Found) else _found(item, path, disk) for item in matches]
    if layout is None:
        return found
    # Only the names of its tensors tell a whole MemGen model from any other.
    found = [_already_read(item, item.read()) for item in found]
    wanted = [item for item in found if item.layout == layout]
    return wanted or (_forced(Folder(path, disk), layout) if force else [])


def _found(match: Match, asked: Path, disk: Disk) -> Found:
    shown = _shown(match.root, asked)
    return Found(match.layout, match.root, shown, match.claimed, partial(_read, match, shown, asked, disk))


def _already_read(found: Found, checkpoint: Checkpoint) -> Found:
    return found._replace(layout=checkpoint.layout, read=partial(_given, checkpoint))


def _given(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint


def _enclosing(path: Path, disk: Disk) -> list[Match | Found]:
    """The checkpoint that claims ``path`` as one of its inner folders; the outermost where several do."""
    # As it was typed, and where a link leads: a link to an inner folder means the same checkpoint as the folder.
    for here in dict.fromkeys((Path(os.path.abspath(path)), Path(os.path.realpath(path)))):
        for ancestor in reversed(list(here.parents)[:_LEVELS_UP]):
            inner = here.relative_to(ancestor).as_posix()
            for matcher in _FAMILY.values():
                match = matcher(Folder(ancestor, disk))
                if match and inner in match.claimed:
                    return [match]
    return []


def _matches_below(top: Folder) -> Iterator[Match | Found]:
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        if folder.listing_error() is not None:
            yield _unreadable(folder)
            continue
        matches = _matches(folder)
        yield from matches
        if not matches:
            yield from _lone_files(folder)
        claimed = {name for match in matches for name in match.claimed}
        # Links to folders are left out: what they lead to is found where it lies, and a loop would have no end.
        waiting += [
            folder.child(name)
            for name in folder.folders
            if name not in claimed and not name.startswith(".") and not (folder.path / name).is_symlink()
        ]


def _matches(folder: Folder) -> list[Match]:
    matches = [match for matcher in _FAMILY.values() if (match := matcher(folder))]
    if matches and matches[0].layout == memgen.NAME:
        return matches[:1]
    if not matches:
        matches = [match for matcher in _GENERAL.values() if (match := matcher(folder))][:1]
    return matches


def _forced(folder: Folder, layout: str) -> list[Found]:
    """The folder itself as what the user says it is, though it does not look so; nothing where it is empty."""
    match = {**_FAMILY, **_GENERAL}[layout](folder, forced=True) if folder.files or folder.folders else None
    return [_found(match, folder.path, folder.disk)] if match else []


def _lone_files(folder: Folder) -> Iterator[Found]:
    for name in folder.files:
        if not has_weight_ending(name) or is_training_state(name):
            continue
        found = lone_file.found(folder.path / name, os.path.normpath(folder.path / name), folder.disk)
        # ".bin" is everybody's ending: in a folder of anything, only what holds tensors counts as a weight file.
        if name.endswith(".bin"):
            checkpoint = found.read()
            if is_foreign(checkpoint.files[0]):
                continue
            found = _already_read(found, checkpoint)
        yield found


def _read(match: Match, shown: str, asked: Path, disk: Disk) -> Checkpoint:
    return _note_nesting(match.build(CheckpointReader(match.root, shown, disk)), asked, disk)


def _shown(root: Path, asked: Path) -> str:
    """How ``root`` is written: below what the user typed, or as its beginning, or with ``..``."""
    absolute = Path(os.path.abspath(asked))
    root = Path(os.path.abspath(root))
    if absolute == root or absolute in root.parents:
        return os.path.normpath(asked / root.relative_to(absolute))
    if root not in absolute.parents:
        return str(root)
    return os.path.normpath(asked.joinpath(*[".."] * len(absolute.relative_to(root).parts)))


def _note_nesting(checkpoint: Checkpoint, asked: Path, disk: Disk) -> Checkpoint:
    """Tell a lone adapter below the folder that was asked for that a loader would look in that folder."""
    if checkpoint.layout != peft.NAME or os.path.abspath(asked) != os.path.abspath(checkpoint.root.parent):
        return checkpoint
    if peft.nested_below(Folder(asked, disk)) != checkpoint.root.name:
        return checkpoint
    parts = tuple(part._replace(nested_from="..") if part.role == "adapter" else part for part in checkpoint.parts)
    return checkpoint._replace(parts=parts)


def _unreadable(folder: Folder) -> Found:
    part = Part(folder.name, "file", files=(folder.as_unreadable_file("."),))
    shown = os.path.normpath(folder.path)
    checkpoint = Checkpoint(folder.path, shown, lone_file.NAME, "unreadable folder", (part,))
    return Found(lone_file.NAME, folder.path, shown, (), partial(_given, checkpoint))
