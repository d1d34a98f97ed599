"""The checkpoint that a folder lies in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ckpt_doctor.core.layout import Layout

from .disk import Disk
from .found import Found
from .recogniser import recognised, telling
from .registry import asked_for_folders

LEVELS_UP = 3
"""How far up a checkpoint is looked for that a path lies in."""


def enclosing(path: Path, own: Sequence[Layout], disk: Disk) -> list[Found]:
    """The checkpoint that claims ``path`` as one of its inner folders; the outermost where several do."""
    kinds = (*own, *(kind for kind in asked_for_folders() if not kind.general))
    # As it was typed, and where a link leads: a link to an inner folder means the same checkpoint as the folder.
    for here in dict.fromkeys((Path(os.path.abspath(path)), Path(os.path.realpath(path)))):
        for ancestor in reversed(list(here.parents)[:LEVELS_UP]):
            inner = here.relative_to(ancestor).as_posix()
            for kind in kinds:
                folder = telling(kind, ancestor, disk)
                found = recognised(kind, folder) if folder is not None else None
                if found and inner in found.claimed:
                    return [found._replace(path=_shown(ancestor, path))]
    return []


def _shown(root: Path, asked: Path) -> str:
    """How the folder ``root`` is written: as the beginning of what the user typed, or with ``..``."""
    absolute = Path(os.path.abspath(asked))
    if root not in absolute.parents:
        return str(root)
    return os.path.normpath(asked.joinpath(*[".."] * len(absolute.relative_to(root).parts)))
