"""Torch archives whose end is missing: what the part that is there still tells.

``torch.save`` writes ``data.pkl`` first and the storages behind it, each with a local header; the directory comes last,
so a file cut short has none, and no reader opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import Storage, TensorInfo, WeightFile
from ckpt_doctor.core.wording import byte_size, counted

from .limits import LIMITS, Limits
from .pickle_machine import Outcome, run
from .pickle_values import Budget, StorageRef
from .pickle_walk import Harvest
from .torch_pickle import outcome_defects, walk
from .torch_tensors import describe

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

_LOCAL = Struct("<4s5H3I2H")
_FIRST_READ = 4 << 20
_MAX_SEARCH = 4096  # most bytes from the end of one record to the next local header, with its padding


def read_without_directory(source: Source, path: str, oddities: list[str], limits: Limits = LIMITS) -> WeightFile:
    """What can be said about a zip archive without a central directory. Raises ``OSError`` of the source."""
    message = (
        "The archive has no central directory (torch: failed finding central directory) "
        f"in its {byte_size(source.size)}"
    )
    name, begin = _local_header(source, 0)
    if not name.lower().endswith("/data.pkl"):
        return _without_pickle(source, path, message)
    budget = Budget.for_stored(source.size, limits)
    outcome = _run(source, begin, budget, limits)
    found, problem = walk(outcome.root, budget)
    defects = [defect for defect in outcome_defects([outcome], name) if defect.kind is not DefectKind.TORCH_TRUNCATED]
    if problem is not None:
        defects.append(Defect(problem.kind, f"{name}: {problem}."))
    records = _Records(source, name.rpartition("/")[0], begin + outcome.end, found)
    tensors, missing = describe(found, records.storage)
    return WeightFile(
        path=path,
        format="torch-zip",
        nbytes=source.size,
        content="a torch archive without its end",
        tensors=tensors,
        values=found.values,
        defects=(_cut_short(message, tensors), *defects, *missing),
    )


def _without_pickle(source: Source, path: str, message: str) -> WeightFile:
    """An archive that does not begin as one of ``torch.save``."""
    return WeightFile(
        path=path,
        format="unknown",
        nbytes=source.size,
        content="a zip archive without its end",
        defects=(Defect(DefectKind.TORCH_TRUNCATED, f"{message}: it was cut short or never finished."),),
    )


def _run(source: Source, begin: int, budget: Budget, limits: Limits) -> Outcome:
    """Read the pickle that begins at ``begin`` and whose length is not known, in growing pieces."""
    available = source.size - begin
    data = source.read_at(begin, min(_FIRST_READ, limits.pickle))
    outcome = run(data, budget, 0, available)
    while outcome.error is not None and outcome.error.kind is DefectKind.TORCH_TRUNCATED:
        if begin + len(data) >= source.size or len(data) >= limits.pickle:
            break
        data = source.read_at(begin, 8 * len(data))
        outcome = run(data, budget, 0, available)
    return outcome


def _cut_short(message: str, tensors: Sequence[TensorInfo]) -> Defect:
    """That the end is missing, and how many tensors are whole."""
    whole = sum(tensor.storage.offset is not None for tensor in tensors)
    if tensors:
        declared = sum({tensor.storage.key: tensor.storage.nbytes for tensor in tensors}.values())
        message += (
            f", of which its tensors alone should take {byte_size(declared)}: the bytes of {whole:,} of "
            f"{counted(len(tensors), 'tensor')} are there"
        )
    evidence = {"tensors": len(tensors), "whole": whole}
    return Defect(DefectKind.TORCH_TRUNCATED, f"{message}.", evidence=evidence)


class _Records:
    """The storages behind the pickle, as far as their local headers are there."""

    def __init__(self, source: Source, folder: str, position: int, found: Harvest) -> None:
        self.size = source.size
        self.folder = folder
        sizes = {
            self.name(node.storage.key): node.storage.nbytes for _, _, node in found.tensors if node.storage is not None
        }
        self.offsets = _record_offsets(source, position, sizes)

    def name(self, key: str) -> str:
        """The name of the member that holds the storage ``key``."""
        return f"{self.folder}/data/{key}"

    def storage(self, reference: StorageRef) -> tuple[Storage, None]:
        """The storage, without an offset where its bytes are not all there: the archive's own defect says why."""
        record = self.name(reference.key)
        offset = self.offsets.get(record)
        if offset is not None and offset + reference.nbytes > self.size:
            offset = None
        return Storage(reference.key, reference.nbytes, offset, reference.device, record), None


def _local_header(source: Source, position: int) -> tuple[str, int]:
    """The name of the member whose local header begins at ``position``, and where its bytes begin."""
    raw = source.read_at(position, _LOCAL.size + 512)
    if len(raw) < _LOCAL.size or not raw.startswith(b"PK\x03\x04"):
        return "", 0
    fields = _LOCAL.unpack_from(raw)
    name_length, extra_length = fields[9], fields[10]
    name = raw[_LOCAL.size : _LOCAL.size + name_length].decode("utf-8", "replace")
    return name, position + _LOCAL.size + name_length + extra_length


def _record_offsets(source: Source, position: int, sizes: dict[str, int]) -> dict[str, int]:
    """Where the records begin whose local headers are there, walking from one to the next by their declared sizes."""
    offsets: dict[str, int] = {}
    while True:
        gap = source.read_at(position, _MAX_SEARCH).find(b"PK\x03\x04")
        if gap < 0:
            return offsets
        name, begin = _local_header(source, position + gap)
        if not name or name in offsets:
            return offsets
        offsets[name] = begin
        position = begin + max(0, sizes.get(name, 0))
