"""Locks between processes: the kernel's, or a lock file where the system has none.

The kernel takes its locks back however the process ends. A lock file on Windows goes with its last descriptor, too;
on any other system without locks it stays after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from .folders import can_open_folders, open_folder

_LOCK_FILE = "lock"


def _flock() -> tuple[Callable[[int, int], None], int] | None:
    """The system's call and the flags for an exclusive lock without waiting; ``None`` if it has none."""
    try:
        import fcntl
    except ImportError:
        return None
    call: Callable[[int, int], None] | None = getattr(fcntl, "flock", None)
    return None if call is None else (call, getattr(fcntl, "LOCK_EX", 0) | getattr(fcntl, "LOCK_NB", 0))


def has_locks() -> bool:
    """True if this system locks open files."""
    return _flock() is not None


def lock(descriptor: int) -> None:
    """Lock an open file or folder until it is closed.

    Raises ``BlockingIOError`` if another process has the lock, and ``OSError`` where there are no locks here.
    """
    found = _flock()
    if found is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    call, flags = found
    call(descriptor, flags)


class FolderLock:
    """A lock on a folder, held until :meth:`release`.

    Raises ``BlockingIOError`` if another process has it (its ``filename`` is the lock file, if that is what it has),
    ``FileNotFoundError`` where the folder is gone, and ``OSError``.
    On a file system without locks it holds nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Path | None = None
        if has_locks() and can_open_folders():
            self._descriptor = _locked_folder(folder)
        else:
            self._file = folder / _LOCK_FILE
            self._descriptor = _new_lock_file(self._file)

    def release(self) -> None:
        """Give the lock up, and remove the folder where nothing lies in it."""
        if self._file is None:
            _remove_empty(self._folder)  # before anybody else has the lock
            os.close(self._descriptor)
            return
        os.close(self._descriptor)
        with contextlib.suppress(OSError):
            self._file.unlink()
        _remove_empty(self._folder)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _locked_folder(folder: Path) -> int:
    """A descriptor of the folder, locked. Raises as :class:`FolderLock`."""
    descriptor = open_folder(folder, follow=False)
    try:
        try:
            lock(descriptor)
        except BlockingIOError:
            raise
        except OSError:
            pass  # a file system without locks
        # Whoever had it may have removed the folder at its end.
        if not os.path.samestat(folder.lstat(), os.fstat(descriptor)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _new_lock_file(file: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_TEMPORARY", 0)
    try:
        return os.open(file, flags, 0o600)
    except FileExistsError:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(file)) from None
