"""Opening files and reading ranges of them, also where the operating system lacks the calls of POSIX.

Windows has no ``pread`` and no ``O_NONBLOCK``, macOS had no ``preadv`` before version 11. This module is the one place
that knows.
"""

from __future__ import annotations

import contextlib
import os
from _thread import allocate_lock
from collections.abc import Iterator

_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

_seeking = allocate_lock()


def open_to_read(path: str | os.PathLike[str], *, dir_fd: int | None = None, follow: bool = True) -> int:
    """A descriptor for reading the file at ``path``. Raises ``OSError``, and ``ValueError`` for a zero byte in it.

    Opening a FIFO that replaces a weight file does not wait for a writer. Unless ``follow`` is set, a link is refused
    where the system can tell.
    """
    return os.open(path, _READ if follow else _READ | _NO_FOLLOW, dir_fd=dir_fd)


def open_new(path: str | os.PathLike[str], mode: int = 0o666) -> int:
    """A descriptor for reading and writing a new file. Raises ``FileExistsError`` and ``OSError``."""
    return os.open(path, _NEW, mode)


def read_at(descriptor: int, nbytes: int, offset: int) -> bytes:
    """Up to ``nbytes`` bytes from ``offset``, no bytes at the end. The position of the file stays. Raises ``OSError``.

    Threads may share a descriptor.
    """
    if hasattr(os, "pread"):
        data: bytes = os.pread(descriptor, nbytes, offset)
        return data
    with _sought(descriptor, offset):
        return os.read(descriptor, nbytes)


def read_into(descriptor: int, target: memoryview, offset: int) -> int:
    """Read up to ``len(target)`` bytes from ``offset`` into ``target``; how many, 0 at the end. Raises ``OSError``."""
    if hasattr(os, "preadv"):
        count: int = os.preadv(descriptor, [target], offset)
        return count
    data = read_at(descriptor, len(target), offset)
    target[: len(data)] = data
    return len(data)


def write_at(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` from ``offset`` on. The position of the file stays. Raises ``OSError``.

    Threads may share a descriptor.
    """
    view = memoryview(data).cast("B")
    while view:
        count = _write_some(descriptor, view, offset)
        view = view[count:]
        offset += count


def _write_some(descriptor: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        count: int = os.pwrite(descriptor, data, offset)
        return count
    with _sought(descriptor, offset):
        return os.write(descriptor, data)


@contextlib.contextmanager
def _sought(descriptor: int, offset: int) -> Iterator[None]:
    """The file at ``offset``, for one thread at a time; afterwards it is where it was."""
    with _seeking:
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            os.lseek(descriptor, offset, os.SEEK_SET)
            yield
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
