"""A local file as a source."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ckpt_doctor.runtime.file_access import open_to_read
from ckpt_doctor.runtime.file_access import read_at as read_range


class FileSource:
    """A :class:`~ckpt_doctor.sources.source.Source`: a regular file, opened read-only. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        descriptor = open_to_read(path)
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
        """See :class:`~ckpt_doctor.sources.source.Source`."""
        assert self.fileno is not None, "the source is closed"
        if not 0 <= offset < self.size:
            return b""  # also what the operating system could not count
        nbytes = min(nbytes, self.size - offset)
        chunks = []
        while nbytes > 0:
            chunk = read_range(self.fileno, nbytes, offset)
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
