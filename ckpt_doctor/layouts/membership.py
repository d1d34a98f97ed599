"""True if a folder is part of a checkpoint: what lies there came with the weights, and has no say over them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .disk import DISK
from .enclosing import LEVELS_UP
from .loose import lone_files
from .search import matches_at


def is_part_of_inspected(folder: Path, paths: Iterable[str | os.PathLike[str]]) -> bool:
    """True if ``folder`` lies in a checkpoint that looking at ``paths`` finds.

    The checkpoint may lie at one of the paths, below it, or around it. A folder with weight files that belong to no
    other checkpoint counts as one.
    """
    here = Path(os.path.realpath(folder))
    asked = {_folder_of(path) for path in paths}
    for root in (here, *here.parents):
        if not any(_are_near(root, path) for path in asked):
            continue
        for match in matches_at(DISK.folder(root)):
            inner = {root, *(root / name for name in match.claimed)}
            if any(path in inner or path in root.parents for path in asked):
                return True
    is_asked = any(path == here or path in here.parents for path in asked)
    return is_asked and next(lone_files(DISK.folder(here)), None) is not None


def _folder_of(path: str | os.PathLike[str]) -> Path:
    real = Path(os.path.realpath(path))
    return real if DISK.has_folder(real) else real.parent


def _are_near(root: Path, path: Path) -> bool:
    """True if asking for ``path`` could mean a checkpoint at ``root``."""
    if path == root or path in root.parents:
        return True
    return root in path.parents and len(path.relative_to(root).parts) <= LEVELS_UP
