"""Torch files, written as ``torch.save`` writes them, without torch."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckpt_doctor.core.dtypes import DType
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.nothing import NOTHING
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.runtime.file_access import write_at
from ckpt_doctor.sources.local_file import FileSource

from .copying import Gather, Written, fill
from .crew import GATHERING, one_at_a_time, work_off
from .pickling import NewStorage, NewTensor, pickled
from .slots import Slot
from .storages import new_tensors
from .structure import STRUCTURE, rebuild
from .torch_archive import ALIGNMENT, Place, directory, directory_nbytes, laid_out, serialization_id

_BUFFER = 1 << 20  # bytes that are read, summed up and written at once: twice as fast as with a quarter of them
_SMALL = 1 << 16  # bytes up to which members are written together with their neighbours
_ID_NBYTES = 40

StateOf = Callable[[Mapping[str, NewTensor]], Any]
"""Makes the state dict to be saved of its tensors by name."""


def dropped_names(file: WeightFile) -> dict[str, str]:
    """Names that ``save_model`` or a conversion left out of a safetensors file, to the name that was kept for each."""
    names = {tensor.name for tensor in file.tensors}
    return {
        name: kept
        for name, kept in (file.metadata or {}).items()
        if kept in names and name not in names and name != "format"
    }


def left_out(file: WeightFile) -> list[str]:
    """Metadata entries of a file without a recorded structure, for which a state dict of torch has no place."""
    metadata = file.metadata or {}
    known = {"format", *dropped_names(file)}
    return [] if STRUCTURE in metadata else [name for name in metadata if name not in known]


@dataclass(frozen=True, slots=True)
class BinPlan:
    """A torch file that will be written: ``tensors`` by full name, ``storages`` in the order of their keys.

    ``contents`` are those of the members at ``places``: bytes, or where the bytes of a storage come from. The last
    member is the id, which the checksums of the others determine.
    """

    tensors: Mapping[str, NewTensor]
    storages: Sequence[NewStorage]
    places: Sequence[Place]
    contents: Sequence[bytes | Slot]
    nbytes: int


def plan_bin(
    file: WeightFile, state_of: StateOf | None = None, casts: Mapping[str, DType] = NOTHING, *, own: bool = False
) -> BinPlan:
    """Plan the torch file for ``file``.

    ``state_of`` says what is saved; by default it is what was saved when the safetensors file was made. ``casts`` and
    ``own`` are those of :func:`~.storages.new_tensors`. Raises ``ConversionError``.
    """
    tensors = new_tensors(file, casts, own=own)
    tensors.update((name, tensors[kept]) for name, kept in dropped_names(file).items())
    state = rebuild(file.metadata or {}, tensors) if state_of is None else state_of(tensors)
    pickle, storages = pickled(state)
    # The order in which torch writes them.
    members: list[tuple[str, bytes | Slot]] = [
        ("data.pkl", pickle),
        (".format_version", b"1"),
        (".storage_alignment", b"%d" % ALIGNMENT),
        ("byteorder", b"little"),
        *((f"data/{key}", storage.slot) for key, storage in enumerate(storages)),
        ("version", b"3\n"),
    ]
    sizes = [(name, len(content) if isinstance(content, bytes) else content.nbytes) for name, content in members]
    places = laid_out([*sizes, (".data/serialization_id", _ID_NBYTES)])
    contents = tuple(content for _, content in members)
    return BinPlan(tensors, storages, places, contents, places[-1].end + directory_nbytes(places))


def write_bin(plan: BinPlan, source: int, target: int, gather: Gather, written: Written) -> None:
    """Write the file into the empty open file ``target``, from the open file ``source``.

    The bytes are read once, and what is summed up is what is written. Raises ``ConversionError`` and ``OSError``.
    """
    checksums = [0] * len(plan.contents)
    jobs = list(_jobs(plan, checksums, gather))
    report = one_at_a_time(written)
    work_off(jobs, lambda stop: _Desk(source, target, report, stop))
    name = serialization_id(plan.places[:-1], checksums)
    checksums.append(zlib.crc32(name))
    last = plan.places[-1]
    end = b"".join((_framed(last, name, checksums[-1]), directory(plan.places, checksums)))
    write_at(target, end, last.header)
    written(len(end))


class _Desk:
    """The resources of one thread: both files, and a buffer."""

    def __init__(self, source: int, target: int, report: Written, stop: threading.Event) -> None:
        self.source = source
        self.target = target
        self.report = report
        self.stop = stop
        self.buffer = memoryview(bytearray(_BUFFER))

    def write(self, data: bytes | memoryview, position: int) -> None:
        """Write to the target, and say so."""
        write_at(self.target, data, position)
        self.report(len(data))


_Job = Callable[[_Desk], None]


def _jobs(plan: BinPlan, checksums: list[int], gather: Gather) -> Iterator[_Job]:
    """The work cut into pieces that need nothing of each other. Each fills in the checksums of its members."""
    batch: list[int] = []
    nbytes = 0
    for number, content in enumerate(plan.contents):
        place = plan.places[number]
        if isinstance(content, Slot) and (content.offset is None or content.nbytes > _SMALL):
            yield _member_job(place, content, number, checksums, gather)
            continue
        if batch and (nbytes > _BUFFER or batch[-1] != number - 1):
            yield _batch_job(plan, tuple(batch), checksums)
            batch, nbytes = [], 0
        batch.append(number)
        nbytes += place.end - place.header
    if batch:
        yield _batch_job(plan, tuple(batch), checksums)


def _batch_job(plan: BinPlan, batch: Sequence[int], checksums: list[int]) -> _Job:
    """Small members that follow each other."""

    def job(desk: _Desk) -> None:
        pieces = []
        for number in batch:
            content = plan.contents[number]
            if isinstance(content, Slot):
                view = desk.buffer[: content.nbytes]
                fill(desk.source, view, content.offset or 0)
                content = bytes(view)
            checksums[number] = zlib.crc32(content)
            pieces.append(_framed(plan.places[number], content, checksums[number]))
        desk.write(b"".join(pieces), plan.places[batch[0]].header)

    return job


def _framed(place: Place, content: bytes, checksum: int) -> bytes:
    return b"".join((place.local_header(), content, place.descriptor(checksum)))


def _member_job(place: Place, slot: Slot, number: int, checksums: list[int], gather: Gather) -> _Job:
    """One large member, or one whose bytes have to be made."""

    def job(desk: _Desk) -> None:
        desk.write(place.local_header(), place.header)
        position, checksum = place.start, 0
        for block in _blocks(desk, slot, gather):
            checksum = zlib.crc32(block, checksum)
            desk.write(block, position)
            position += len(block)
        checksums[number] = checksum
        desk.write(place.descriptor(checksum), position)

    return job


def _blocks(desk: _Desk, slot: Slot, gather: Gather) -> Iterator[memoryview]:
    """The bytes of a slot, as far as they are still wanted. Each block is valid until the next is asked for."""
    if slot.offset is None:
        with GATHERING:
            for block in gather(desk.source, slot):
                yield block
                if desk.stop.is_set():
                    return
        return
    for start in range(0, slot.nbytes, _BUFFER):
        if desk.stop.is_set():
            return
        view = desk.buffer[: slot.nbytes - start]
        fill(desk.source, view, slot.offset + start)
        yield view


def written_storages(plan: BinPlan, target: FileSource) -> list[tuple[Slot, int]]:
    """Where the bytes of each storage lie in the file that was written to ``target``, as our own reader finds them.

    Raises ``ConversionError`` if it does not find the tensors that were to be written.
    """
    written = recognise(target, "the new file")
    if written.defects or written.format != "torch-zip" or target.size != plan.nbytes:
        found = listed(defect.message for defect in written.defects) or "it is not the file that was planned"
        raise ConversionError(f"what was written cannot be read back: {found}")
    found_tensors = written.by_name
    if len(found_tensors) != len(written.tensors):
        raise ConversionError("two tensors would have one name once they are nested")
    keys = {storage: str(key) for key, storage in enumerate(plan.storages)}
    wrong = [
        name
        for name, tensor in plan.tensors.items()
        if name not in found_tensors or not _alike(tensor, keys.get(tensor.storage), found_tensors[name])
    ]
    wrong += [name for name in found_tensors if name not in plan.tensors]
    if wrong:
        raise ConversionError(f"{counted(len(wrong), 'tensor')} would be written as something else: {listed(wrong)}")
    starts = {tensor.storage.key: tensor.storage.offset for tensor in written.tensors}
    placed = []
    for storage, key in keys.items():
        start = starts.get(key)
        if start is not None and storage.slot.nbytes:
            placed.append((storage.slot, start))
    return sorted(placed, key=lambda item: item[1])


def _alike(expected: NewTensor, key: str | None, found: TensorInfo) -> bool:
    """True if the reader found what was to be written."""
    return (found.dtype.name, found.shape, found.stride, found.storage_offset, found.storage.key) == (
        *(expected.dtype.name, expected.shape, expected.stride, expected.offset, key),
    ) and found.storage.nbytes == expected.storage.slot.nbytes
