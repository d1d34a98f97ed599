"""Weight files that are written anew: refused or described beforehand, and then written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ckpt_doctor.conversion.copying import SourceEndedError
from ckpt_doctor.conversion.editing import Edit
from ckpt_doctor.conversion.header import header, in_order
from ckpt_doctor.conversion.plain import plain_object, state_tensors
from ckpt_doctor.conversion.plan import (
    entries_of,
    plan_safetensors,
    read_root,
    records_of,
    refuse_absent,
    refuse_big_endian,
    refuse_defects,
    slots_of,
)
from ckpt_doctor.conversion.slots import Content
from ckpt_doctor.conversion.structure import STRUCTURE
from ckpt_doctor.conversion.to_bin import BinPlan, StateOf, plan_bin
from ckpt_doctor.conversion.torch_state import build, nested
from ckpt_doctor.conversion.writing import Advance, write_content, write_torch
from ckpt_doctor.core.actions import SharedBytes, TargetFormat
from ckpt_doctor.core.dtypes import contiguous_stride
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import Storage, TensorInfo, WeightFile
from ckpt_doctor.sources.local_file import FileSource

from .draft import Rewritten


def rewritten(
    source: Path,
    original: WeightFile,
    edit: Edit,
    *,
    format: TargetFormat,
    metadata: Mapping[str, str],
    shared: SharedBytes,
) -> Rewritten:
    """Describe the file that ``original`` becomes. Raises ``ConversionError`` if it cannot, and ``OSError``."""
    refuse_defects(original, edit.despite)
    if (edit.names or edit.without) and STRUCTURE in (original.metadata or {}):
        raise ConversionError(f"its metadata entry {STRUCTURE} records the old names: convert it to bin first")
    entry = Rewritten(source, original, edit, format, dict(metadata), shared, original)
    with FileSource(source) as opened:
        if format == "safetensors":
            content, metadata = _content(opened, entry)
            described = _described(entry, [_own_bytes(tensor) for tensor in _cast(entry)], content.nbytes, metadata)
        else:
            plan = _torch_plan(opened, entry)
            described = _described(entry, _in_storages(entry, plan), plan.nbytes, None)
    return Rewritten(source, original, edit, format, entry.metadata, shared, described)


def refuse_overflow(entry: Rewritten, names: Iterable[str]) -> None:
    """Raise ``ConversionError`` where a cast of these tensors, by their original names, would lose large values.

    Reads those tensors. Raises ``OSError``, too.
    """
    from ckpt_doctor.conversion import casting  # numpy

    casts = entry.edit.casts(entry.original)
    tensors = entry.original.by_name
    with FileSource(entry.source) as source:
        assert source.fileno is not None
        for name in names:
            cast = casts.get(entry.edit.names.get(name, name))
            if cast is not None:
                casting.refuse_overflow(source.fileno, tensors[name], cast)


def write(entry: Rewritten, path: Path, target: int, advance: Advance) -> None:
    """Write the file into ``target``, which is the empty file at ``path``, open.

    When this returns, every tensor was compared with its source, and the bytes are on the disk. Raises
    ``ConversionError`` and ``OSError``.
    """
    with FileSource(entry.source) as source:
        assert source.fileno is not None
        if source.size != entry.original.nbytes:
            raise SourceEndedError("it changed while it was read")
        if entry.format == "safetensors":
            content, _ = _content(source, entry)
            write_content(source.fileno, content, target, advance, check=True)
            return
        records = records_of(entry.original)
        write_torch(source.fileno, _torch_plan(source, entry), records, target, path, advance, check=True)


def _torch_plan(source: FileSource, entry: Rewritten) -> BinPlan:
    """The torch file that will be written. Raises ``ConversionError`` for what cannot be one."""
    refuse_big_endian(entry.original)
    file = _kept(entry)
    refuse_absent(file)
    casts = entry.edit.casts(entry.original)
    return plan_bin(file, _state_maker(source, entry, file), casts, own=_each_its_own(entry))


def _each_its_own(entry: Rewritten) -> bool:
    # What a safetensors file has once was dropped on purpose, and is put back as it was.
    return entry.shared == "clone" and not entry.original.is_safetensors


def _state_maker(source: FileSource, entry: Rewritten, file: WeightFile) -> StateOf | None:
    """What makes the state dict to be saved; ``None`` for what a safetensors file recorded of it."""
    if entry.original.is_safetensors:
        return None
    if entry.edit.bare:
        return partial(nested, file.tensors)
    return partial(build, _tree(source, entry))


def _kept(entry: Rewritten) -> WeightFile:
    """What is kept of the original, as it will be called."""
    original = state_tensors(entry.original) if entry.edit.plain else entry.original
    return entry.edit.of_file(original)


def _tree(source: FileSource, entry: Rewritten) -> Any:
    """The object that is saved again, as nodes."""
    root = read_root(source, entry.original, even_plain=True)
    if entry.edit.plain:
        plain = plain_object(root, entry.original)
        if len(plain.file.tensors) != len(state_tensors(entry.original).tensors):
            raise ConversionError("some of its tensors cannot be separated from the objects that hold them")
        root = plain.tree
    return entry.edit.of_tree(root)


def _content(source: FileSource, entry: Rewritten) -> tuple[Content, dict[str, str]]:
    """The bytes of a new safetensors file, and its metadata."""
    if not entry.original.is_safetensors:
        plan = plan_safetensors(source, entry.original, shared="clone", drop_non_tensors=False, edit=entry.edit)
        return plan.content, dict(plan.metadata)
    file = entry.edit.of_file(entry.original)
    metadata = {**(file.metadata or {}), **entry.metadata}
    entries = in_order(entries_of(list(file.tensors), entry.edit.casts(entry.original)))
    return Content(header(entries, metadata), slots_of(entries)), metadata


def _described(
    entry: Rewritten, tensors: Sequence[TensorInfo], nbytes: int, metadata: Mapping[str, str] | None
) -> WeightFile:
    """The new file as its reader will describe it, with what was found out about the values."""
    original = entry.original
    kept = state_tensors(original) if entry.edit.plain else original
    old_names = [tensor.name for tensor in kept.tensors if tensor.name not in entry.edit.without]
    scans = None
    if original.scans is not None:
        found = original.scans
        scans = {new.name: found[old] for old, new in zip(old_names, tensors, strict=True) if old in found}
        # What is not finite stays so. What became zero is seen when the new file is read.
        casts = entry.edit.casts(kept)
        scans.update({name: scans[name]._replace(digest=None) for name in casts if name in scans})
    torch = entry.format == "bin"
    return WeightFile(
        path=original.path,
        format="torch-zip" if torch else "safetensors",
        nbytes=nbytes,
        content=original.content,
        tensors=tuple(tensors),
        metadata=metadata,
        values={} if entry.edit.bare or not torch else original.values,
        scans=scans,
        plain=original.plain,
    )


def _cast(entry: Rewritten) -> list[TensorInfo]:
    """The tensors that are kept, as they will be called, with the dtypes they will have."""
    casts = entry.edit.casts(entry.original)
    return [tensor._replace(dtype=casts.get(tensor.name, tensor.dtype)) for tensor in _kept(entry).tensors]


def _own_bytes(tensor: TensorInfo) -> TensorInfo:
    storage = Storage(tensor.name, tensor.nbytes, 0)
    return tensor._replace(stride=contiguous_stride(tensor.shape), storage=storage, storage_offset=0)


def _in_storages(entry: Rewritten, plan: BinPlan) -> list[TensorInfo]:
    """The tensors that are kept, as they will lie in the storages of the torch file."""
    keys = {storage: str(key) for key, storage in enumerate(plan.storages)}
    result = []
    for tensor in _kept(entry).tensors:
        new = plan.tensors[tensor.name]
        storage = Storage(keys[new.storage], new.storage.slot.nbytes, 0)
        described = tensor._replace(dtype=new.dtype, shape=new.shape, stride=new.stride, storage=storage)
        result.append(described._replace(storage_offset=new.offset))
    return result
