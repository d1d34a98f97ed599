"""The record of a repair: written before the first file changes, so it can be taken back at any time.

``.ckpt-doctor/backup-<time>-<id>/journal.json`` beside the checkpoint, with ``old/`` (what stood in the way) and
``new/`` (what is to come). ``state`` is ``committing`` until everything has its name, then ``done``; ``undoing`` once
it is being taken back. Without a journal the folder holds nothing that counts.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ckpt_doctor.core.errors import RepairError
from ckpt_doctor.runtime.folders import sync_folder

COMMITTING, DONE, UNDOING = "committing", "done", "undoing"
_NAME = "journal.json"
_VERSION = 1
_LIMIT = 8 << 20  # bytes; a journal has about 200 for each file


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells whether a file is still the one that it was: size in bytes, time of the last change, inode."""

    nbytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Identity | None:
        """The identity of what is at ``path``, links not followed; ``None`` if nothing is. Raises ``OSError``."""
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(frozen=True, slots=True)
class Replacement:
    """One file, by its path below the folder of the repair: what was there ``before``, and what is there ``after``."""

    path: str
    before: Identity | None
    after: Identity | None


@dataclass(frozen=True, slots=True)
class Journal:
    """The replacements of one repair, in the order in which they are made, and the folders it makes for them."""

    state: str
    replacements: tuple[Replacement, ...]
    folders: tuple[str, ...] = ()

    def in_state(self, state: str) -> Journal:
        """The same journal, one step on."""
        return replace(self, state=state)

    def write(self, folder: Path) -> None:
        """Put the journal into ``folder``, whole and on the disk when this returns. Raises ``OSError``."""
        temporary = folder / f"{_NAME}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"version": _VERSION, **asdict(self)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / _NAME)
        sync_folder(folder)


def read_journal(folder: Path) -> Journal | None:
    """The journal in ``folder``; ``None`` if there is none.

    A checkpoint from elsewhere can bring a folder of this kind along, so nothing in it is trusted: every path must stay
    below the folder of the repair. Raises ``RepairError`` and ``OSError``.
    """
    path = folder / _NAME
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LIMIT:
        raise RepairError(
            f"{path} is not a journal of ckpt-doctor: nothing was done. Remove {folder} if it is not yours"
        )
    raw = path.read_bytes()
    try:
        data = json.loads(raw)
        if data["version"] != _VERSION or data["state"] not in (COMMITTING, DONE, UNDOING):
            raise RepairError(f"{path} was written by another version of ckpt-doctor")
        replacements = tuple(
            Replacement(_checked(item["path"]), _identity(item["before"]), _identity(item["after"]))
            for item in data["replacements"]
        )
        return Journal(data["state"], replacements, tuple(_checked(name) for name in data["folders"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise RepairError(
            f"{path} is damaged ({type(error).__name__}): nothing was done. If the folder came with the "
            "checkpoint, remove it"
        ) from None


def _checked(path: Any) -> str:
    if not isinstance(path, str):
        raise TypeError("a path is text")
    parts = path.split("/")
    if os.sep != "/" and (os.sep in path or ":" in path):
        raise ValueError("a path of Windows, which may leave the folder")
    if "\0" in path or path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError("a path that leaves the folder")
    os.fsencode(path)
    return path


def _identity(data: Mapping[str, Any] | None) -> Identity | None:
    return None if data is None else Identity(int(data["nbytes"]), int(data["mtime_ns"]), int(data["inode"]))
