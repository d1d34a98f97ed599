"""Bytes from file to file: inside the kernel where it can, through a buffer where it cannot."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable

from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.runtime.file_access import read_at, read_into

from .slots import Slot

_CHUNK = 64 << 20  # bytes that one system call is asked to copy: Ctrl-C and the progress bar wait no longer than that
_BUFFER = 1 << 20
_SMALL = 1 << 16  # bytes up to which reading and gathering in a buffer is cheaper than a system call for each tensor

# What kernels and file systems answer that cannot copy in this way, though they can read and write: unknown call,
# different or special file systems, a security filter. ENOSPC, EIO and the like are real and are not in here.
_UNSUPPORTED = frozenset(
    (
        errno.ENOSYS,
        errno.EXDEV,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.ENOTSUP,
        errno.EPERM,
        errno.EBADF,
        errno.ENOTSOCK,
        errno.ETXTBSY,
    )
)

Written = Callable[[int], None]
"""Told how many more bytes were written."""

Gather = Callable[[int, Slot], Iterable[memoryview]]
"""The bytes of a slot that do not lie in one run in the open file, or not as they are; block by block."""


class SourceEndedError(ConversionError):
    """The source has fewer bytes than it had when its header was read."""


class Copier:
    """Copies ranges of one open file to the current position of another.

    The fastest way is tried first; what turns out not to work on these files is not tried again.
    """

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        ways: list[Callable[[int, int], int]] = [self._buffered]
        if hasattr(os, "sendfile"):
            ways.append(self._sendfile)
        if hasattr(os, "copy_file_range"):
            ways.append(self._copy_file_range)
        self._ways = ways  # the last one is used

    def copy(self, offset: int, nbytes: int, written: Written) -> None:
        """Copy ``nbytes`` from ``offset`` of the source. Raises ``OSError`` and :class:`SourceEndedError`."""
        while nbytes > 0:
            count = self._step(offset, min(nbytes, _CHUNK))
            offset += count
            nbytes -= count
            written(count)

    def _step(self, offset: int, nbytes: int) -> int:
        while True:
            try:
                count = self._ways[-1](offset, nbytes)
            except OSError as error:
                if len(self._ways) == 1 or error.errno not in _UNSUPPORTED:
                    raise
                count = 0
            if count:
                return count
            if len(self._ways) == 1:
                raise SourceEndedError("the file became shorter while it was read")
            # Some file systems answer 0 to what they do not support; only reading tells whether the end is there.
            self._ways.pop()

    def _copy_file_range(self, offset: int, nbytes: int) -> int:
        assert hasattr(os, "copy_file_range")
        count: int = os.copy_file_range(self.source, self.target, nbytes, offset_src=offset)
        return count

    def _sendfile(self, offset: int, nbytes: int) -> int:
        assert hasattr(os, "sendfile")
        count: int = os.sendfile(self.target, self.source, offset, nbytes)
        return count

    def _buffered(self, offset: int, nbytes: int) -> int:
        data = read_at(self.source, min(nbytes, _BUFFER), offset)
        write_all(self.target, data)
        return len(data)


def write_all(target: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` at the current position. Raises ``OSError``."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(target, view) :]


def write_slots(slots: Iterable[Slot], copier: Copier, gather: Gather, written: Written) -> None:
    """Write the slots one behind the other. Raises ``OSError`` and :class:`SourceEndedError`."""
    pending: list[bytes] = []
    pending_nbytes = 0

    def flush() -> None:
        nonlocal pending_nbytes
        if pending:
            write_all(copier.target, b"".join(pending))
            written(pending_nbytes)
            pending.clear()
            pending_nbytes = 0

    for slot in slots:
        if slot.offset is not None and slot.nbytes <= _SMALL:
            data = read_exactly(copier.source, slot.offset, slot.nbytes) if slot.nbytes else b""
            pending.append(data)
            pending_nbytes += len(data)
            if pending_nbytes >= _BUFFER:
                flush()
            continue
        flush()
        if slot.offset is not None:
            copier.copy(slot.offset, slot.nbytes, written)
        else:
            for block in gather(copier.source, slot):
                write_all(copier.target, block)
                written(len(block))
    flush()


def read_exactly(descriptor: int, offset: int, nbytes: int) -> bytes:
    """The bytes from ``offset``. Raises ``OSError`` and :class:`SourceEndedError`."""
    data = read_at(descriptor, nbytes, offset)
    while len(data) < nbytes:
        more = read_at(descriptor, nbytes - len(data), offset + len(data))
        if not more:
            raise SourceEndedError("the file became shorter while it was read")
        data += more
    return data


def fill(descriptor: int, target: memoryview, offset: int) -> None:
    """Fill ``target`` with the bytes from ``offset``. Raises ``OSError`` and :class:`SourceEndedError`."""
    done = 0
    while done < len(target):
        count = read_into(descriptor, target[done:], offset + done)
        if count == 0:
            raise SourceEndedError("the file became shorter while it was read")
        done += count
