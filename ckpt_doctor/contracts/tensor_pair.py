"""Two tensors, element by element, in bounded memory. Imports numpy: import it late."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.runtime.crew import Stopped
from ckpt_doctor.scanning.elements import kind_of
from ckpt_doctor.scanning.gather import gather
from ckpt_doctor.scanning.numbers import distances, equal_numbers, is_number
from ckpt_doctor.scanning.strided import Budget, BudgetExceededError
from ckpt_doctor.scanning.sweep import BLOCK, Reader

from .contents import Held

if TYPE_CHECKING:
    from ckpt_doctor.scanning.elements import Words
    from ckpt_doctor.scanning.numbers import Flags

_STRETCH = 32 << 20  # bytes of one side after which another thread may take over
_PIECE = 1 << 14  # elements
_ONE_VIEW = threading.Lock()  # of a view: it takes some 20 MB for each side

Readers = tuple[Reader, Reader]
"""One thread's way to both files."""

Job = Callable[[Readers, Stopped], None]
"""A part of the comparison of two tensors; may raise ``OSError``."""


def obstacle(held: Held) -> str | None:
    """Why the values of a tensor cannot be read from its file, as a clause about it; ``None`` if they can."""
    tensor = held.tensor
    if tensor.pending:
        return f"torch's {' and '.join(tensor.pending)} is set: the stored bytes are not the values"
    if not tensor.numel:
        return None
    span = tensor.byte_range
    if span is None or not 0 <= span[0] <= span[1] <= held.file.nbytes:
        return "the bytes are not in the file as they are"
    if not tensor.is_contiguous and tensor.dtype.bits % 8:
        return "its elements do not lie on whole bytes"
    return None


def comparable(first: Held, second: Held) -> bool:
    """True if elements of these two dtypes can be told to be equal."""
    if first.dtype == second.dtype:
        return True
    whole = all(BY_NAME[held.dtype].bits % 8 == 0 for held in (first, second))
    return whole and is_number(first.dtype) and is_number(second.dtype)


class TensorPair:
    """Two tensors of one shape, and what is known of their differences so far."""

    def __init__(self, first: Held, second: Held) -> None:
        self.first = first
        self.second = second
        self.same_dtype = first.dtype == second.dtype
        self.kinds = kind_of(BY_NAME[first.dtype]), kind_of(BY_NAME[second.dtype])
        self.numbers = is_number(first.dtype) and is_number(second.dtype)
        self.differing = 0
        self.first_index: int | None = None
        self.largest: float | None = None
        self.nonfinite = 0
        self._left = -1  # jobs that are not done; not yet known
        self._lock = threading.Lock()
        self._as_stored = self.same_dtype and _big_endian(first.file) == _big_endian(second.file)

    @property
    def done(self) -> bool:
        """True if every job has come to its end."""
        return self._left == 0

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.first.tensor.nbytes + self.second.tensor.nbytes

    def jobs(self, budget: Budget) -> list[Job]:
        """The comparison, in pieces that any thread may run; none of them is done where the budget is spent."""
        try:
            budget.spend(self.nbytes)
        except BudgetExceededError:
            return []
        if not self.first.tensor.numel:
            found: list[Job] = []
        elif not (self.first.tensor.is_contiguous and self.second.tensor.is_contiguous):
            found = [partial(self._view_job, budget)]
        else:
            units = self.first.tensor.nbytes // self.kinds[0].itemsize
            step = _STRETCH // max(kind.itemsize for kind in self.kinds)
            found = [self._range_job(start, min(start + step, units)) for start in range(0, units, step)]
        self._left = len(found)
        return found

    def _range_job(self, start: int, end: int) -> Job:
        begins = _begin(self.first), _begin(self.second)
        sizes = self.kinds[0].itemsize, self.kinds[1].itemsize
        step = BLOCK // max(sizes)

        def job(readers: Readers, stopped: Stopped) -> None:
            for position in range(start, end, step):
                if stopped():
                    return
                units = min(step, end - position)
                ours = readers[0].fill(begins[0] + position * sizes[0], units * sizes[0])
                theirs = readers[1].fill(begins[1] + position * sizes[1], units * sizes[1])
                self._compare(position, ours, theirs)
            self._finish()

        return job

    def _view_job(self, budget: Budget, readers: Readers, stopped: Stopped) -> None:
        with _ONE_VIEW, contextlib.suppress(BudgetExceededError):
            position = 0
            first = _stream(readers[0], self.first.tensor, budget)
            second = _stream(readers[1], self.second.tensor, budget)
            for ours, theirs in _in_step(first, second, self.kinds[0].itemsize, self.kinds[1].itemsize):
                if stopped():
                    return
                self._compare(position, ours, theirs)
                position += len(ours) // self.kinds[0].itemsize
            self._finish()

    def _finish(self) -> None:
        with self._lock:
            self._left -= 1

    def _compare(self, position: int, ours: memoryview, theirs: memoryview) -> None:
        """Take in the same run of elements of both; ``position`` counts those before it."""
        if self._as_stored and _same_bytes(ours, theirs):
            return
        first = self.kinds[0].words_of(ours, big_endian=_big_endian(self.first.file))
        second = self.kinds[1].words_of(theirs, big_endian=_big_endian(self.second.file))
        units = len(ours) // self.kinds[0].itemsize
        # As float64 they take up to eight times as much: small pieces stay in the second-level cache.
        for start in range(0, units, _PIECE):
            mine, other = (
                words[start * kind.words : (start + _PIECE) * kind.words]
                for words, kind in zip((first, second), self.kinds, strict=True)
            )
            self._count(position + start, mine, other)

    def _count(self, position: int, first: Words, second: Words) -> None:
        differ = self._differing(first, second)
        count = int(np.count_nonzero(differ))
        if not count:
            return
        largest, nonfinite = self._distance(first, second, differ) if self.numbers else (None, 0)
        index = position * (2 if self.kinds[0].nibbles else 1) + int(differ.argmax())
        with self._lock:
            self.differing += count
            self.first_index = index if self.first_index is None else min(index, self.first_index)
            self.nonfinite += nonfinite
            if largest is not None:
                self.largest = max(largest, self.largest or 0.0)

    def _differing(self, first: Words, second: Words) -> Flags:
        kind = self.kinds[0]
        if not self.same_dtype:
            return ~equal_numbers(first, self.first.dtype, second, self.second.dtype)
        if kind.nibbles:
            bits = first ^ second
            return np.asarray(np.stack([bits & 0xF, bits >> 4], axis=1).reshape(-1) != 0)
        differ = np.asarray(first != second)
        return differ if kind.words == 1 else np.asarray(differ.reshape(-1, kind.words).any(axis=1))

    def _distance(self, first: Words, second: Words, differ: Flags) -> tuple[float | None, int]:
        """The largest finite distance among the elements that differ, and how many of them have none."""
        apart = distances(first, self.first.dtype, second, self.second.dtype)
        largest = float(apart.max())
        if math.isfinite(largest):  # so all are, and what does not differ is 0
            return largest, 0
        apart = apart[differ]
        finite = apart[np.isfinite(apart)]
        return float(finite.max()) if len(finite) else None, len(apart) - len(finite)


def _same_bytes(ours: memoryview, theirs: memoryview) -> bool:
    whole = len(ours) // 8 * 8
    words = np.frombuffer(ours[:whole], np.uint64) == np.frombuffer(theirs[:whole], np.uint64)
    return bool(words.all()) and ours[whole:] == theirs[whole:]


def _big_endian(file: WeightFile) -> bool:
    return file.metadata is not None and file.metadata.get("byteorder") == "big"


def _begin(held: Held) -> int:
    span = held.tensor.byte_range
    assert span is not None, "the bytes are not in the file"
    return span[0]


def _stream(reader: Reader, tensor: TensorInfo, budget: Budget) -> Iterator[memoryview]:
    """The bytes of a tensor as they would lie contiguously, block by block; each is valid until the next."""

    def charged(offset: int, nbytes: int) -> bytearray:
        budget.spend(nbytes)
        return reader.read(offset, nbytes)

    if not tensor.is_contiguous:
        yield from gather(charged, tensor)
        return
    start, end = tensor.byte_range or (0, 0)
    for position in range(start, end, BLOCK):
        yield reader.fill(position, min(BLOCK, end - position))


def _in_step(
    first: Iterator[memoryview], second: Iterator[memoryview], first_size: int, second_size: int
) -> Iterator[tuple[memoryview, memoryview]]:
    """Pieces of two streams with equally many elements, whose sizes in bytes are given."""
    ours = theirs = memoryview(b"")
    while True:
        ours = ours or next(first, ours)
        theirs = theirs or next(second, theirs)
        count = min(len(ours) // first_size, len(theirs) // second_size)
        if not count:
            return
        yield ours[: count * first_size], theirs[: count * second_size]
        ours, theirs = ours[count * first_size :], theirs[count * second_size :]
