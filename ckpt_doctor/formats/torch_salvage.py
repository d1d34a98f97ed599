"""Torch archives whose end is missing: what the part that is there still tells.

``torch.save`` writes ``data.pkl`` first and the storages behind it, each with a local header; the directory comes last,
so that a file cut short has none, and no reader opens it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import Storage, WeightFile
from ckpt_doctor.core.wording import byte_size, counted

from .limits import LIMITS, Limits
from .pickle_machine import run
from .pickle_values import Budget, StorageRef
from .torch_pickle import outcome_defects, walk
from .torch_tensors import describe

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

_LOCAL = Struct("<4s5H3I2H")
_FIRST_READ = 4 << 20
_MAX_SEARCH = 4096  # most bytes from the end of one record to the next local header, with its padding


def read_without_directory(source: Source, path: str, oddities: list[str], limits: Limits = LIMITS) -> WeightFile:
    """What can be said about a zip archive without a central directory."""
    message = (
        "The archive has no central directory (torch: failed finding central directory) "
        f"in its {byte_size(source.size)}"
    )
    name, begin = _local_header(source, 0)
    if not name.lower().endswith("/data.pkl"):
        return WeightFile(
            path=path,
            format="unknown",
            nbytes=source.size,
            content="a zip archive without its end",
            defects=(Defect(DefectKind.TORCH_TRUNCATED, f"{message}: it was cut short or never finished."),),
        )
    data = source.read_at(begin, min(_FIRST_READ, limits.pickle))
    budget = Budget.for_stored(source.size, limits)
    outcome = run(data, budget, 0, source.size - begin)
    while outcome.error is not None and outcome.error.kind is DefectKind.TORCH_TRUNCATED:
        if begin + len(data) >= source.size or len(data) >= limits.pickle:
            break
        data = source.read_at(begin, 8 * len(data))
        outcome = run(data, budget, 0, source.size - begin)
    defects = [defect for defect in outcome_defects([outcome], name) if defect.kind is not DefectKind.TORCH_TRUNCATED]
    found, problem = walk(outcome.root, budget)
    if problem is not None:
        defects.append(Defect(problem.kind, f"{name}: {problem}."))
    folder = name.rpartition("/")[0]
    sizes = {
        f"{folder}/data/{node.storage.key}": node.storage.nbytes
        for _, _, node in found.tensors
        if node.storage is not None
    }
    offsets = _record_offsets(source, begin + outcome.end, sizes)

    def resolve(reference: StorageRef) -> tuple[Storage, str | None]:
        record = f"{folder}/data/{reference.key}"
        offset = offsets.get(record)
        if offset is not None and offset + reference.nbytes > source.size:
            offset = None
        return Storage(reference.key, reference.nbytes, offset, reference.device, record), None

    tensors, missing = describe(found, resolve)
    whole = sum(tensor.storage.offset is not None for tensor in tensors)
    if tensors:
        declared = sum({tensor.storage.key: tensor.storage.nbytes for tensor in tensors}.values())
        message += (
            f", of which its tensors alone should take {byte_size(declared)}: the bytes of {whole:,} of "
            f"{counted(len(tensors), 'tensor')} are there"
        )
    return WeightFile(
        path=path,
        format="torch-zip",
        nbytes=source.size,
        content="a torch archive without its end",
        tensors=tensors,
        values=found.values,
        defects=(
            Defect(
                DefectKind.TORCH_TRUNCATED,
                f"{message}.",
                evidence={"tensors": len(tensors), "whole": whole},
            ),
            *defects,
            *missing,
        ),
    )


def _local_header(source: Source, position: int) -> tuple[str, int]:
    """The name of the member whose local header stands at ``position``, and where its bytes begin."""
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
