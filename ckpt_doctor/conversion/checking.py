"""Comparing what was written with where it came from, on every core, and the source with its own checksums."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import Record
from ckpt_doctor.core.wording import listed

from .copying import Gather, fill
from .crew import GATHERING, one_at_a_time, work_off
from .slots import Slot

_BLOCK = 1 << 18  # bytes that are compared at once: two of them stay in the second-level cache
_SMALL = 1 << 16  # bytes up to which slots that follow each other are compared together

Read = Callable[[int], None]
"""Told how many more bytes were compared; called by several threads, one at a time."""


Job = Callable[["_Desk"], None]


def compare(
    source: int,
    target: int,
    placed: Iterable[tuple[Slot, int]],
    records: Sequence[Record],
    gather: Gather,
    read: Read,
    *,
    beside: Callable[[], None] | None = None,
) -> None:
    """Compare each slot with the bytes at its position in ``target``, and each record with its checksum.

    ``beside`` is work that waits for the disk rather than for a core: it is done meanwhile. Raises ``ConversionError``
    where anything differs, and ``OSError``.
    """
    jobs = list(_jobs(placed, records, gather))
    report = one_at_a_time(read)
    work_off(jobs, lambda stop: _Desk(source, target, report, stop), beside=beside)


def _jobs(placed: Iterable[tuple[Slot, int]], records: Sequence[Record], gather: Gather) -> Iterator[Job]:
    """The work cut into pieces that need nothing of each other, in the order of the new file."""
    unchecked = {(record.offset, record.nbytes): record for record in records}
    batch: list[tuple[Slot, Record | None]] = []
    batch_at = batch_nbytes = 0
    for slot, position in placed:
        if slot.offset is None:
            yield _view_job(slot, position, gather)
            continue
        # A tensor that is a whole record is read once for both purposes.
        record = unchecked.pop((slot.offset, slot.nbytes), None)
        if slot.nbytes > _SMALL:
            yield _range_job(slot, position, record)
            continue
        if batch and (batch_at + batch_nbytes != position or batch_nbytes + slot.nbytes > _BLOCK):
            yield _batch_job(tuple(batch), batch_at, batch_nbytes)
            batch, batch_nbytes = [], 0
        if not batch:
            batch_at = position
        batch.append((slot, record))
        batch_nbytes += slot.nbytes
    if batch:
        yield _batch_job(tuple(batch), batch_at, batch_nbytes)
    for record in unchecked.values():
        yield _record_job(record)


class _Desk:
    """The resources of one thread: both files, and a buffer for each."""

    def __init__(self, source: int, target: int, report: Read, stop: threading.Event) -> None:
        self.source = source
        self.target = target
        self.report = report
        self.stop = stop
        self.ours, self.theirs = bytearray(_BLOCK), bytearray(_BLOCK)

    def equal(self, nbytes: int) -> bool:
        """True if the first ``nbytes`` of both buffers are the same."""
        # Comparing slices copies them; comparing views of them would go element by element.
        return self.ours == self.theirs if nbytes == _BLOCK else self.ours[:nbytes] == self.theirs[:nbytes]


def _range_job(slot: Slot, position: int, record: Record | None) -> Job:
    def job(desk: _Desk) -> None:
        assert slot.offset is not None
        checksum = 0
        for start in range(0, slot.nbytes, _BLOCK):
            if desk.stop.is_set():
                return
            nbytes = min(_BLOCK, slot.nbytes - start)
            view = memoryview(desk.ours)[:nbytes]
            fill(desk.source, view, slot.offset + start)
            if record is not None:
                checksum = zlib.crc32(view, checksum)
            fill(desk.target, memoryview(desk.theirs)[:nbytes], position + start)
            if not desk.equal(nbytes):
                raise _difference([slot.name])
            desk.report(nbytes)
        if record is not None:
            _judge(record, checksum)

    return job


def _batch_job(batch: Sequence[tuple[Slot, Record | None]], position: int, nbytes: int) -> Job:
    def job(desk: _Desk) -> None:
        done = 0
        ours = memoryview(desk.ours)
        for slot, record in batch:
            view = ours[done : done + slot.nbytes]
            fill(desk.source, view, slot.offset or 0)
            if record is not None:
                _judge(record, zlib.crc32(view))
            done += slot.nbytes
        fill(desk.target, memoryview(desk.theirs)[:nbytes], position)
        if not desk.equal(nbytes):
            raise _difference([slot.name for slot, _ in batch])
        desk.report(nbytes)

    return job


def _view_job(slot: Slot, position: int, gather: Gather) -> Job:
    def job(desk: _Desk) -> None:
        with GATHERING:
            compare_view(desk)

    def compare_view(desk: _Desk) -> None:
        done = 0
        for block in gather(desk.source, slot):
            for start in range(0, len(block), _BLOCK):
                if desk.stop.is_set():
                    return
                piece = block[start : start + _BLOCK]
                desk.ours[: len(piece)] = piece
                fill(desk.target, memoryview(desk.theirs)[: len(piece)], position + done)
                if not desk.equal(len(piece)):
                    raise _difference([slot.name])
                done += len(piece)
                desk.report(len(piece))

    return job


def _record_job(record: Record) -> Job:
    def job(desk: _Desk) -> None:
        checksum = 0
        for start in range(0, record.nbytes, _BLOCK):
            if desk.stop.is_set():
                return
            view = memoryview(desk.ours)[: min(_BLOCK, record.nbytes - start)]
            fill(desk.source, view, record.offset + start)
            checksum = zlib.crc32(view, checksum)
        _judge(record, checksum)

    return job


def _judge(record: Record, checksum: int) -> None:
    if checksum != record.crc32:
        raise ConversionError(
            f"it is refused (CKD603): the checksum of {record.name} is {checksum:08x}, but "
            f"{record.crc32:08x} was recorded when it was written"
        )


def _difference(names: Sequence[str]) -> ConversionError:
    return ConversionError(
        f"{listed(names)} differ from the source after writing: the disk or the memory is faulty, or another "
        "process is writing to the source"
    )
