"""Reading a stretch of a file once, block by block, for everything that wants to see bytes of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from ckpt_doctor.core.weight_file import Record
from ckpt_doctor.runtime.file_access import read_into

from .tally import Tally

BLOCK = 1 << 18
"""Bytes that are read at once: they stay in the second-level cache while they are looked at."""

_LARGEST_ELEMENT = 16  # bytes; an element may begin in one block and end in the next


class Reader:
    """One thread's way to the bytes of an open file: a buffer that is used again and again.

    Not ``mmap``: pages of a mapped file count as resident memory, and an I/O error in one kills the process.
    """

    def __init__(self, descriptor: int, on_read: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._on_read = on_read
        self._buffer = memoryview(bytearray(BLOCK + _LARGEST_ELEMENT))

    def fill(self, offset: int, nbytes: int) -> memoryview:
        """The bytes from ``offset``, valid until the next call; at most ``BLOCK`` and one element.

        Raises ``OSError``, also where the file ends earlier.
        """
        target = self._buffer[:nbytes]
        self._read_into(target, offset)
        return target

    def read(self, offset: int, nbytes: int) -> bytearray:
        """Any number of bytes from ``offset``, in memory of their own. Raises as :meth:`fill`."""
        data = bytearray(nbytes)
        self._read_into(memoryview(data), offset)
        return data

    def _read_into(self, target: memoryview, offset: int) -> None:
        done = 0
        while done < len(target):
            count = read_into(self._descriptor, target[done:], offset + done)
            if count == 0:
                raise OSError(f"it ends at byte {offset + done:,}, earlier than when its header was read")
            done += count
        self._on_read(done)


class Consumer(Protocol):
    """Something that wants the bytes from ``start`` to ``end``, both absolute, in order; ``done`` once it has them."""

    start: int
    end: int
    done: bool

    def feed(self, block: memoryview, first: int, last: int) -> None:
        """Take what is wanted of ``block``, which begins at ``first``; what begins at ``last`` comes with the next."""


class TensorRun:
    """The bytes of a contiguous tensor."""

    def __init__(self, start: int, end: int, tally: Tally, *, big_endian: bool) -> None:
        self.start = start
        self.end = end
        self.done = False
        self.tally = tally
        self._big_endian = big_endian

    def feed(self, block: memoryview, first: int, last: int) -> None:
        """See :class:`Consumer`: takes the elements that begin in this block."""
        size = self.tally.kind.itemsize
        begin = self.start if self.start >= first else self.start + -(-(first - self.start) // size) * size
        end = min(self.end, self.start + -(-(last - self.start) // size) * size)
        if begin < end:
            words = self.tally.kind.words_of(block[begin - first : end - first], big_endian=self._big_endian)
            self.tally.add_run(words)


class ChecksumRun:
    """The bytes of an archive member, whose CRC32 was recorded."""

    def __init__(self, record: Record) -> None:
        self.start = record.offset
        self.end = record.offset + record.nbytes
        self.done = False
        self.record = record
        self.computed = 0

    def feed(self, block: memoryview, first: int, last: int) -> None:
        """See :class:`Consumer`."""
        begin, end = max(self.start, first), min(self.end, last)
        self.computed = zlib.crc32(block[begin - first : end - first], self.computed)


def sweep(consumers: Sequence[Consumer], reader: Reader, stopped: Callable[[], bool]) -> None:
    """Read from the first to the last byte that ``consumers`` (sorted by start) want, and feed them.

    Raises ``OSError`` from ``reader``. Ends early once ``stopped()`` is true: then not all of them are ``done``.
    """
    position = consumers[0].start
    stop = max(consumer.end for consumer in consumers)
    active: list[Consumer] = []
    upcoming = 0
    while position < stop and not stopped():
        last = min(position + BLOCK, stop)
        block = reader.fill(position, min(BLOCK + _LARGEST_ELEMENT, stop - position))
        while upcoming < len(consumers) and consumers[upcoming].start < last:
            active.append(consumers[upcoming])
            upcoming += 1
        for consumer in active:
            consumer.feed(block, position, last)
            consumer.done = consumer.end <= last
        active = [consumer for consumer in active if consumer.end > last]
        position = last


_GAP = 1 << 16  # bytes that are rather read than skipped
_STRETCH = 32 << 20  # bytes after which another thread may take over


def stretches(consumers: Sequence[Consumer]) -> list[list[Consumer]]:
    """Group consumers into stretches of the file that can be read independently of each other, in file order."""
    groups: list[list[Consumer]] = []
    begin = reached = 0
    for consumer in sorted(consumers, key=lambda item: (item.start, item.end)):
        long_enough = consumer.start >= reached and reached - begin >= _STRETCH
        if not groups or consumer.start > reached + _GAP or long_enough:
            groups.append([])
            begin = reached = consumer.start
        groups[-1].append(consumer)
        reached = max(reached, consumer.end)
    return groups
