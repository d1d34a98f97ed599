"""The checkpoints in a folder: the one that it lies in, or else all that lie below it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.parts import Part

from . import memgen, peft, transformers, trigger, weaver
from .disk import Disk
from .folder import Folder
from .left_out import entered, grouped, unused_blobs, whole_folder
from .loose import Looks, lone_files
from .match import Found, Match, Survey
from .pipelines import incomplete_components
from .reading import CheckpointReader
from .registry import FILE, MEMGEN, PEFT, TRANSFORMERS, TRIGGER, WEAVER
from .trackers import absent_saves

if TYPE_CHECKING:
    from ckpt_doctor.core.layout import Layout

# In the order in which they are asked. What upstream MemGen writes contains folders that look like a weaver's, and a
# folder can be a weaver and a trigger at once; PEFT and transformers take what is left. A team's own come before all.
_FAMILY = {MEMGEN.name: memgen.match, WEAVER.name: weaver.match, TRIGGER.name: trigger.match}
_GENERAL = {PEFT.name: peft.match, TRANSFORMERS.name: transformers.match}

LEVELS_UP = 3
"""How far up a checkpoint is looked for that a path lies in."""


_Matchers = Mapping[str, Callable[..., "Match | None"]]
_NONE: _Matchers = {}


def search(path: Path, layout: str | None, disk: Disk, layouts: Iterable[Layout] = (), *, force: bool = True) -> Survey:
    """The checkpoint that encloses the folder ``path``, or those below it; only those of ``layout`` if one is given.

    ``layouts`` are those of a team, which come before all others. ``force`` takes the folder itself for one of
    ``layout`` where none is there.
    """
    unread: list[Unread] = []
    if layout == FILE.name:
        found = list(lone_files(Folder(path, disk), unread))
        return Survey(found, _shown_below(path, unread))
    own = {definition.name: _matcher(definition) for definition in layouts}
    matches = _enclosing(path, own, disk) or list(_matches_below(Folder(path, disk), own, unread))
    nested = _nested_below(path, matches, disk)
    found = [item if isinstance(item, Found) else _found(item, path, disk, nested) for item in matches]
    if layout is not None:
        # Only the names of its tensors tell a whole MemGen model from any other.
        found = [item if item.absent else _already_read(item, item.read()) for item in found]
        wanted = [item for item in found if item.layout == layout and not item.absent]
        # What is gone has no layout: that of the other saves in its run.
        wanted += [item for item in found if item.absent and any(item.root in other.root.parents for other in wanted)]
        found = wanted or (_forced(Folder(path, disk), layout, own) if force else [])
    return Survey(found, _shown_below(path, unread))


def _shown_below(path: Path, unread: Iterable[Unread]) -> tuple[Unread, ...]:
    """What was not read, with paths as they are shown."""
    return grouped(item._replace(path=Path(os.path.normpath(item.path)).as_posix()) for item in unread)


def _nested_below(path: Path, matches: Iterable[Match | Found], disk: Disk) -> Path | None:
    """The folder of a lone adapter right below the one that was asked for, where a loader would look in that one.

    Asked once for a tree: it looks at every folder there.
    """
    here = os.path.abspath(path)
    adapters = [item for item in matches if item.kind is PEFT and os.path.abspath(item.root.parent) == here]
    if len(adapters) != 1:
        return None
    name = peft.nested_below(Folder(path, disk))
    return adapters[0].root if name == adapters[0].root.name else None


def _matcher(definition: Layout) -> Callable[..., Match | None]:
    from . import custom  # nobody without layouts of their own pays for it

    return partial(custom.match, definition)


def _found(match: Match, asked: Path, disk: Disk, nested: Path | None = None) -> Found:
    shown = _shown(match.root, asked)
    is_nested = nested is not None and match.root == nested
    return Found(match.kind, match.root, shown, match.claimed, partial(_read, match, shown, is_nested, disk))


def _already_read(found: Found, checkpoint: Checkpoint) -> Found:
    return found._replace(kind=checkpoint.kind, read=partial(_given, checkpoint))


def _given(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint


def _enclosing(path: Path, own: _Matchers, disk: Disk) -> list[Match | Found]:
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


def _matches_below(top: Folder, own: _Matchers, unread: list[Unread]) -> Iterator[Match | Found]:
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


def matches_at(folder: Folder, own: _Matchers = _NONE) -> list[Match]:
    """The checkpoints that this very folder is, without lone files; ``own`` are the matchers of a team's layouts."""
    matches = _asked(own, folder) or _asked(_FAMILY, folder)
    if matches and matches[0].kind is MEMGEN:
        return matches[:1]
    return matches or _asked(_GENERAL, folder)[:1]


def _asked(matchers: _Matchers, folder: Folder) -> list[Match]:
    return [match for matcher in matchers.values() if (match := matcher(folder))]


def _forced(folder: Folder, layout: str, own: _Matchers) -> list[Found]:
    """The folder itself as what the user says it is, though it does not look so; nothing where it is empty."""
    matcher = {**_FAMILY, **_GENERAL, **own}[layout]
    match = matcher(folder, forced=True) if folder.files or folder.folders else None
    return [_found(match, folder.path, folder.disk)] if match else []


def _read(match: Match, shown: str, is_nested: bool, disk: Disk) -> Checkpoint:
    checkpoint = match.build(CheckpointReader(match.root, shown, disk))
    return _note_nesting(checkpoint) if is_nested else checkpoint


def _shown(root: Path, asked: Path) -> str:
    """How ``root`` is written: below what the user typed, or as its beginning, or with ``..``."""
    absolute = Path(os.path.abspath(asked))
    root = Path(os.path.abspath(root))
    if absolute == root or absolute in root.parents:
        return os.path.normpath(asked / root.relative_to(absolute))
    if root not in absolute.parents:
        return str(root)
    return os.path.normpath(asked.joinpath(*[".."] * len(absolute.relative_to(root).parts)))


def _note_nesting(checkpoint: Checkpoint) -> Checkpoint:
    """Tell a lone adapter below the folder that was asked for that a loader would look in that folder."""
    parts = tuple(part._replace(nested_from="..") if part.role == "adapter" else part for part in checkpoint.parts)
    return checkpoint._replace(parts=parts)


def _unreadable(folder: Folder) -> Found:
    part = Part(folder.name, "file", files=(folder.as_unreadable_file("."),))
    shown = os.path.normpath(folder.path)
    checkpoint = Checkpoint(folder.path, shown, FILE, "unreadable folder", (part,))
    return Found(FILE, folder.path, shown, (), partial(_given, checkpoint))
