"""Where a reader gets its bytes from.

Readers ask for ranges and never for a whole file, so that a remote object can stand behind the same three members
later. ``read_at`` returns fewer bytes only at the end of the source.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol


class Source(Protocol):
    """A sequence of bytes of known size. ``fileno`` is ``None`` where no operating system file stands behind it."""

    size: int
    fileno: int | None

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """Up to ``nbytes`` bytes from ``offset``; fewer only where the source ends. Raises ``OSError``.

        Offsets outside the source, such as a file may claim, give no bytes.
        """


class FileSource:
    """A regular file, opened read-only. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        # O_NONBLOCK: opening a FIFO that somebody put in the place of a weight file must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                raise OSError(f"it is {kind}")
        except OSError:
            os.close(descriptor)
            raise
        self.fileno: int | None = descriptor
        self.size = status.st_size

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See :class:`Source`."""
        assert self.fileno is not None, "the source is closed"
        if not 0 <= offset < self.size:
            return b""  # also what the operating system could not count
        nbytes = min(nbytes, self.size - offset)
        chunks = []
        while nbytes > 0:
            chunk = os.pread(self.fileno, nbytes, offset)
            if not chunk:
                break
            chunks.append(chunk)
            offset += len(chunk)
            nbytes -= len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self.fileno is not None:
            os.close(self.fileno)
            self.fileno = None

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BytesSource:
    """Bytes in memory, for nested data and for tests."""

    fileno: int | None = None

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, nbytes: int) -> bytes:
        """See :class:`Source`."""
        return self.data[offset : offset + nbytes] if offset >= 0 else b""
