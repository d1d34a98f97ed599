"""Putting a checkpoint back as it was before a repair."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ckpt_doctor.core.errors import PathNotFoundError, RepairError
from ckpt_doctor.core.wording import complaint
from ckpt_doctor.layouts.disk import OWN_FOLDER
from ckpt_doctor.runtime.folders import is_real_folder

from .journal import DONE, read_journal
from .transaction import PREFIX, locked, roll_back, take_back


def undo(backup: str | os.PathLike[str]) -> tuple[str, ...]:
    """Put back the originals in the folder ``backup``, which a repair named; the paths of the files, as they are now.

    All of them or none; the backup is used up. Raises ``PathNotFoundError``, ``RepairError`` where something has
    changed since the repair, and ``OSError``.
    """
    folder = Path(os.path.abspath(backup))
    try:
        return _undo(folder)
    except OSError as error:
        raise RepairError(
            f"{complaint(error)}. The other originals are in {folder}: run the same command again to continue"
        ) from error


def _undo(folder: Path) -> tuple[str, ...]:
    if not is_real_folder(folder):
        raise PathNotFoundError(f"{folder} is not a folder")
    if folder.parent.name != OWN_FOLDER or not folder.name.startswith(PREFIX):
        raise RepairError(f"{folder} is not a backup: backups are called {OWN_FOLDER}/{PREFIX}…")
    base = folder.parent.parent
    with locked(base):
        journal = read_journal(folder)
        if journal is None:
            raise RepairError(f"{folder} has no journal: nothing was changed")
        if journal.state == DONE:
            take_back(base, folder, journal)
        else:
            roll_back(base, folder, journal)
            shutil.rmtree(folder)
    return tuple(str(base / item.path) for item in journal.replacements if item.before is not None)
