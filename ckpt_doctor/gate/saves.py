"""What the runs below a folder have saved: their checkpoints, and folders in which one should be and is not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ckpt_doctor.core.errors import NoCheckpointError
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.layouts import Found, nothing_found, read, survey, trackers
from ckpt_doctor.layouts.disk import DISK, Folder
from ckpt_doctor.layouts.names import has_weight_ending, is_training_state
from ckpt_doctor.layouts.registry import family

from .bases import with_bases
from .names import counter_of, family_of
from .save import Save

_DEFAULT = Policy()


def saves(tree: str | os.PathLike[str], policy: Policy = _DEFAULT) -> list[Save]:
    """Every save in ``tree``, in the order of their paths; of ``policy`` only the layouts count.

    Raises ``NoCheckpointError`` if no checkpoint is there at all, and what ``find`` raises.
    """
    everything, unread = survey(tree, policy.layout, layouts=policy.layouts, force=False)
    if not everything:
        raise NoCheckpointError(nothing_found(Path(tree), policy.layout, unread))
    found = [item for item in everything if not item.absent]
    complete = [_save(tree, group) for group in _groups(found)]
    gone = [_gone(tree, item) for item in everything if item.absent]
    known = {save.path for save in gone}
    empty = [save for save in _without_checkpoint(tree, found) if save.path not in known]
    # A base model is no part of the save that it lies in: first it must be known which ones these are.
    return sorted(_by_step(tree, with_bases([*complete, *gone, *empty], tree)), key=lambda save: save.path)


def _groups(found: Iterable[Found]) -> Iterable[list[Found]]:
    """The checkpoints that were saved together: a weaver and the trigger beside it, an adapter and those below it."""
    groups: dict[tuple[Path, str], list[Found]] = {}
    for item in sorted(found, key=lambda item: item.path):
        place, kind = Path(os.path.abspath(item.path)), item.kind.family or item.layout
        if item.kind.family:
            place = place.parent if place.name in [other.folder for other in family(item.kind)] else place
        elif (place.parent, kind) in groups and item.kind.nests and family_of(place.name) is None:
            place = place.parent
        groups.setdefault((place, kind), []).append(item)
    return groups.values()


def _save(tree: str | os.PathLike[str], group: list[Found]) -> Save:
    kinds = [kind.name for kind in family(group[0].kind)]
    group.sort(key=lambda item: kinds.index(item.layout) if kinds else 0)
    return Save(group[0].path, tuple(group), _names(tree, group[0]), max(map(_written, group)))


def _by_step(tree: str | os.PathLike[str], saves: Iterable[Save]) -> Iterator[Save]:
    """The saves, where all that lies in one numbered folder is one: the files of many ranks, an actor and a critic."""
    steps: dict[tuple[str, ...], list[Save]] = {}
    for save in saves:
        steps.setdefault(_step(save.names) if save.found and not save.base_of else (), []).append(save)
    for names, together in steps.items():
        outer = [save for save in together if save.names == names]
        if not names or len(together) == 1 or len(outer) > 1:
            yield from together
        else:
            path = outer[0].path if outer else os.path.normpath(Path(tree).joinpath(*names))
            together.sort(key=lambda save: save.names != names)
            found = tuple(item for save in together for item in save.found)
            yield Save(path, found, names, max(save.written for save in together))


def _step(names: tuple[str, ...]) -> tuple[str, ...]:
    """The innermost folder in these names that is numbered like a save; what is numbered itself is no part of one."""
    for depth in reversed(range(len(names))):
        if counter_of(names[depth]):
            return names[: depth + 1]
    return ()


def _gone(tree: str | os.PathLike[str], found: Found) -> Save:
    (statement,) = read(found).unfinished
    return Save(found.path, (), _names(tree, found), trackers.written(found.root, DISK), gone=statement)


def _names(tree: str | os.PathLike[str], found: Found) -> tuple[str, ...]:
    here, path = Path(os.path.abspath(tree)), Path(os.path.abspath(found.path))
    if here not in path.parents:
        return ()
    if found.kind.grain == "file":
        path = path.with_suffix("")
    return path.relative_to(here).parts


def _written(found: Found) -> int:
    if found.kind.grain == "file":
        return DISK.modified(Path(found.path))
    files = [folder.path / name for folder in _folders(found) for name in folder.files]
    weights = [path for path in files if has_weight_ending(path.name) and not is_training_state(path.name)]
    return max(map(DISK.modified, weights or files or [found.root]))


def _folders(found: Found) -> Iterator[Folder]:
    for name in ("", *found.claimed):
        yield DISK.folder(found.root / name)


def _without_checkpoint(tree: str | os.PathLike[str], found: list[Found]) -> Iterator[Save]:
    """Folders that are named like those beside them that hold a checkpoint, and hold none.

    A run that has just begun, or whose save was interrupted, must not be skipped for an older one silently.
    What is named otherwise (``logs``, ``evaluation``) is no save; nor is anything below a folder without checkpoints.
    """
    here = Path(os.path.abspath(tree))
    families: dict[tuple[str, ...], set[str | None]] = {}
    holding: set[tuple[str, ...]] = set()
    for names in (_names(tree, item) for item in found):
        for depth in range(len(names)):
            families.setdefault(names[:depth], set()).add(family_of(names[depth]))
            holding.add(names[: depth + 1])
    claimed = {Path(os.path.abspath(item.root / name)) for item in found for name in item.claimed}
    for above, wanted in families.items():
        folder = DISK.folder(here.joinpath(*above))
        for name in folder.folders:
            path = folder.path / name
            if (*above, name) in holding or path in claimed or name.startswith(".") or path.is_symlink():
                continue
            if family_of(name) in wanted - {None}:
                inside = DISK.folder(path)
                entries = [path / entry for entry in (*inside.files, *inside.folders)]
                shown = os.path.normpath(Path(tree).joinpath(*above, name))
                yield Save(shown, (), (*above, name), max(map(DISK.modified, [path, *entries])))
