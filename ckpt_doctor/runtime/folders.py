"""Folders and the names in them: real ones, synced ones, second names, owners."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.ENOTSUP})
# Asked once, of the system's own function.
_LINKS_LINKS = os.link in os.supports_follow_symlinks
_NO_SYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF})


def is_real_folder(path: Path) -> bool:
    """True if a directory is there, and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def can_open_folders() -> bool:
    """True if this system opens folders as files, to lock and to sync them. Windows does not."""
    return hasattr(os, "O_DIRECTORY")


def open_folder(folder: Path, *, follow: bool = True) -> int:
    """A descriptor of the folder. Unless ``follow`` is set, a link to one is refused. Raises ``OSError``."""
    flags: int = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
    return os.open(folder, flags if follow else flags | getattr(os, "O_NOFOLLOW", 0))


def sync_folder(folder: Path) -> None:
    """Get the entries of a folder onto the disk, where system and file system can. Raises ``OSError``."""
    if not can_open_folders():
        return
    descriptor = open_folder(folder)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot sync folders; the file itself is on the disk.
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def try_link(path: Path, target: Path, *, follow: bool = True) -> bool:
    """Give the file at ``path`` a second name; ``False`` where the file system has no hard links.

    Unless ``follow`` is set, a symlink itself gets the second name. Raises ``FileExistsError`` and ``OSError``.
    """
    try:
        if follow or not _LINKS_LINKS:
            os.link(path, target)
        else:
            os.link(path, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def give_owner(path: Path, status: os.stat_result) -> None:
    """Give the file at ``path`` to the owner and group in ``status``, where that is allowed and known here."""
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):  # only root may give files away
            os.chown(path, status.st_uid, status.st_gid)
