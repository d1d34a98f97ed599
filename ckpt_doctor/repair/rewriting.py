"""Weight files that are written anew: refused or described beforehand, and then written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ckpt_doctor.conversion.checking import compare
from ckpt_doctor.conversion.copying import SourceEndedError
from ckpt_doctor.conversion.editing import Edit
from ckpt_doctor.conversion.header import header, in_order
from ckpt_doctor.conversion.plain import plain_object, state_tensors
from ckpt_doctor.conversion.plan import (
    entries_of,
    plan_safetensors,
    read_root,
    refuse_absent,
    refuse_big_endian,
    refuse_defects,
    slots_of,
)
from ckpt_doctor.conversion.slots import Content, slot_of
from ckpt_doctor.conversion.structure import STRUCTURE
from ckpt_doctor.conversion.to_bin import StateOf, import_torch, torch_dtype, write_bin, written_tensors
from ckpt_doctor.conversion.torch_state import build, check_buildable, nested
from ckpt_doctor.conversion.writing import Advance, gathered, write_content
from ckpt_doctor.core.actions import SharedBytes, TargetFormat
from ckpt_doctor.core.dtypes import DType
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
    """Describe the file that ``original`` becomes. Raises ``ConversionError`` where it cannot, and ``OSError``."""
    refuse_defects(original, edit.despite)
    if (edit.names or edit.without) and STRUCTURE in (original.metadata or {}):
        raise ConversionError(f"its metadata entry {STRUCTURE} records the old names: convert it to bin first")
    entry = Rewritten(source, original, edit, format, dict(metadata), shared, original)
    with FileSource(source) as opened:
        if format == "safetensors":
            content, metadata = _content(opened, entry)
            nbytes = content.nbytes
        else:
            _check_torch(opened, entry)
            nbytes = None
            metadata = {}
    return Rewritten(source, original, edit, format, entry.metadata, shared, _described(entry, metadata, nbytes))


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
    ``ConversionError``, ``MissingDependencyError`` and ``OSError``.
    """
    with FileSource(entry.source) as source:
        assert source.fileno is not None
        if source.size != entry.original.nbytes:
            raise SourceEndedError("it changed while it was read")
        if entry.format == "safetensors":
            content, _ = _content(source, entry)
            write_content(source.fileno, content, target, advance, check=True)
            return
        file = _kept(entry)
        casts = entry.edit.casts(entry.original)
        write_bin(source, file, target, _state_maker(source, entry, file), casts)
        advance(source.size)
        with FileSource(path) as written:
            placed = written_tensors(file, written, casts)
        compare(source.fileno, target, placed, (), gathered, advance)
        os.fsync(target)


def _state_maker(source: FileSource, entry: Rewritten, file: WeightFile) -> StateOf | None:
    """What makes the object that torch saves; ``None`` for what a safetensors file recorded of it."""
    if entry.original.is_safetensors:
        return None
    tensors_only = entry.edit.bare
    root = None if tensors_only else _tree(source, entry)

    def state(tensors: Mapping[str, Any], torch: Any) -> Any:
        if entry.shared == "clone":
            tensors = _cloned(tensors)
        if tensors_only:
            return nested(file.tensors, tensors)
        return build(root, tensors, torch)

    return state


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


def _cloned(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The same, where no two are one tensor."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        own[name] = tensor.clone() if id(tensor) in seen else tensor
        seen.add(id(tensor))
    return own


def _content(source: FileSource, entry: Rewritten) -> tuple[Content, dict[str, str]]:
    """The bytes of a new safetensors file, and its metadata."""
    if not entry.original.is_safetensors:
        plan = plan_safetensors(source, entry.original, shared="clone", drop_non_tensors=False, edit=entry.edit)
        return plan.content, dict(plan.metadata)
    file = entry.edit.of_file(entry.original)
    metadata = {**(file.metadata or {}), **entry.metadata}
    entries = in_order(entries_of(list(file.tensors), entry.edit.casts(entry.original)))
    return Content(header(entries, metadata), slots_of(entries)), metadata


def _check_torch(source: FileSource, entry: Rewritten) -> None:
    """Refuse what could not be written as a torch file with the same content."""
    torch = import_torch()
    refuse_big_endian(entry.original)
    file = _kept(entry)
    refuse_absent(file)
    for tensor in file.tensors:
        slot_of(tensor)  # refuses what its bytes do not say
        torch_dtype(torch, tensor)
    if not entry.original.is_safetensors and not entry.edit.bare:
        check_buildable(_tree(source, entry))


def _described(entry: Rewritten, metadata: Mapping[str, str], nbytes: int | None) -> WeightFile:
    """The new file as its reader will describe it, with what was found out about the values."""
    original = entry.original
    if entry.edit.plain:
        original = state_tensors(original)
    old_names = [tensor.name for tensor in original.tensors if tensor.name not in entry.edit.without]
    casts = entry.edit.casts(original)
    tensors = tuple(_own_bytes(tensor, entry, casts) for tensor in entry.edit.of_file(original).tensors)
    scans = None
    if original.scans is not None:
        found = original.scans
        scans = {new.name: found[old] for old, new in zip(old_names, tensors, strict=True) if old in found}
        # What is not finite stays so. What became zero is seen when the new file is read.
        scans.update({name: scans[name]._replace(digest=None) for name in casts if name in scans})
    torch = entry.format == "bin"
    return WeightFile(
        path=original.path,
        format="torch-zip" if torch else "safetensors",
        nbytes=sum(tensor.nbytes for tensor in tensors) if nbytes is None else nbytes,
        content=original.content,
        tensors=tensors,
        metadata=None if torch else metadata,
        values={} if entry.edit.bare or not torch else original.values,
        scans=scans,
        plain=original.plain,
    )


def _own_bytes(tensor: TensorInfo, entry: Rewritten, casts: Mapping[str, DType]) -> TensorInfo:
    tensor, uncast = tensor._replace(dtype=casts.get(tensor.name, tensor.dtype)), tensor
    key: object = tensor.name
    if entry.format == "bin" and entry.shared == "keep":
        # Equal views stay one storage; other views of the same bytes get their own.
        key = (uncast.storage.key, uncast.extent, uncast.dtype.name, tensor.dtype.name, tensor.shape, tensor.stride)
    strides = []
    step = 1
    for size in reversed(tensor.shape):
        strides.append(step)
        step *= size
    return tensor._replace(
        stride=tuple(reversed(strides)), storage=Storage(str(key), tensor.nbytes, 0), storage_offset=0
    )
