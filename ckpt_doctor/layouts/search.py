"""The checkpoints in a folder: the one that it lies in, or else all that lie below it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.checkpoint import Checkpoint, Part

from . import lone_file, memgen, peft, transformers, trigger, weaver
from .disk import Disk
from .folder import Folder
from .match import Match
from .names import has_weight_ending, is_training_state
from .reading import CheckpointReader, is_foreign

if TYPE_CHECKING:
    from ckpt_doctor.layout_definition import LayoutDefinition

# In the order in which they are asked. What upstream MemGen writes contains folders that look like a weaver's, and a
# folder can be a weaver and a trigger at once; PEFT and transformers take what is left. A team's own come before all.
_FAMILY = {memgen.NAME: memgen.match, weaver.NAME: weaver.match, trigger.NAME: trigger.match}
_GENERAL = {peft.NAME: peft.match, transformers.NAME: transformers.match}

LEVELS_UP = 3
"""How far up a checkpoint is looked for that a path lies in."""


_Matchers = Mapping[str, Callable[..., "Match | None"]]
_NONE: _Matchers = {}


def search(path: Path, layout: str | None, disk: Disk, layouts: Iterable[LayoutDefinition] = ()) -> list[Checkpoint]:
    """The checkpoint that encloses the folder ``path``, or those below it; only those of ``layout`` if one is given.

    ``layouts`` are those of a team, which come before all others.
    """
    if layout == lone_file.NAME:
        return list(lone_files(Folder(path, disk)))
    own = {definition.name: _matcher(definition) for definition in layouts}
    matches = _enclosing(path, own, disk) or _matches_below(Folder(path, disk), own)
    found = [item if isinstance(item, Checkpoint) else _read(item, path, disk) for item in matches]
    if layout is not None:
        found = [item for item in found if item.layout == layout] or _forced(Folder(path, disk), layout, own)
    return [_note_nesting(checkpoint, path, disk) for checkpoint in found]


def _matcher(definition: LayoutDefinition) -> Callable[..., Match | None]:
    from . import custom  # nobody without layouts of their own pays for it

    return partial(custom.match, definition)


def _enclosing(path: Path, own: _Matchers, disk: Disk) -> list[Match | Checkpoint]:
    """The checkpoint that claims ``path`` as one of its inner folders; the outermost where several do."""
    # As it was typed, and where a link leads: a link to an inner folder means the same checkpoint as the folder.
    for here in dict.fromkeys((Path(os.path.abspath(path)), Path(os.path.realpath(path)))):
        for ancestor in reversed(list(here.parents)[:LEVELS_UP]):
            inner = here.relative_to(ancestor).as_posix()
            for matcher in (*own.values(), *_FAMILY.values()):
                match = matcher(Folder(ancestor, disk))
                if match and inner in match.claimed:
                    return [match]
    return []


def _matches_below(top: Folder, own: _Matchers) -> Iterator[Match | Checkpoint]:
    waiting = [top]
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
            if not matches:
                yield from lone_files(folder)
            claimed.update(folder.path / name for match in matches for name in match.claimed)
        # Links to folders are left out: what they lead to is found where it lies, and a loop would have no end.
        waiting += [
            folder.child(name)
            for name in folder.folders
            if not name.startswith(".") and not (folder.path / name).is_symlink()
        ]


def matches_at(folder: Folder, own: _Matchers = _NONE) -> list[Match]:
    """The checkpoints that this very folder is, without lone files; ``own`` are the matchers of a team's layouts."""
    matches = _asked(own, folder) or _asked(_FAMILY, folder)
    if matches and matches[0].layout == memgen.NAME:
        return matches[:1]
    return matches or _asked(_GENERAL, folder)[:1]


def _asked(matchers: _Matchers, folder: Folder) -> list[Match]:
    return [match for matcher in matchers.values() if (match := matcher(folder))]


def _forced(folder: Folder, layout: str, own: _Matchers) -> list[Checkpoint]:
    """The folder itself as what the user says it is, though it does not look so; nothing where it is empty."""
    matcher = {**_FAMILY, **_GENERAL, **own}[layout]
    match = matcher(folder, forced=True) if folder.files or folder.folders else None
    return [_read(match, folder.path, folder.disk)] if match else []


def lone_files(folder: Folder) -> Iterator[Checkpoint]:
    """The weight files in a folder that is no checkpoint, each as one of its own."""
    for name in folder.files:
        if not has_weight_ending(name) or is_training_state(name):
            continue
        checkpoint = lone_file.build(folder.path / name, os.path.normpath(folder.path / name), folder.disk)
        # ".bin" is everybody's ending: in a folder of anything, only what holds tensors counts as a weight file.
        if not (name.endswith(".bin") and is_foreign(checkpoint.files[0])):
            yield checkpoint


def _read(match: Match, asked: Path, disk: Disk) -> Checkpoint:
    return match.build(CheckpointReader(match.root, _shown(match.root, asked), disk))


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


def _unreadable(folder: Folder) -> Checkpoint:
    part = Part(folder.name, "file", files=(folder.as_unreadable_file("."),))
    return Checkpoint(folder.path, os.path.normpath(folder.path), lone_file.NAME, "unreadable folder", (part,))
