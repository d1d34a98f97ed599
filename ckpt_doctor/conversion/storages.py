"""Which tensors of a new torch file share a storage, and where the bytes of each storage come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ckpt_doctor.analysis.aliasing import alias_groups
from ckpt_doctor.core.dtypes import BY_NAME, UNTYPED, DType, contiguous_stride
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.nothing import NOTHING
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile

from .header import torch_type
from .pickling import NewStorage, NewTensor
from .slots import Slot, slot_of


def new_tensors(file: WeightFile, casts: Mapping[str, DType] = NOTHING, *, own: bool = False) -> dict[str, NewTensor]:
    """What becomes of each tensor of ``file``, by name; ``casts`` maps names to the dtypes of the new values.

    Each is contiguous and has its own storage. Unless ``own`` is set, equal views stay one tensor, and views that
    overlap share one storage, in which they keep their offsets and strides. Raises ``ConversionError`` for what torch
    has no dtype for, and for tensors whose bytes are not their values.
    """
    made: dict[str, NewTensor] = {}
    equal: dict[object, NewTensor] = {}
    overlapping = NOTHING if own else _overlapping(file, casts)
    for info in file.tensors:
        cast = casts.get(info.name)
        view = (info.storage.key, info.extent, info.dtype, info.shape, info.stride, cast)
        tensor = None if own else equal.get(view)
        if tensor is None:
            shared = overlapping.get(info.name)
            tensor = _alone(info, cast) if shared is None else _inside(info, *shared)
            equal[view] = tensor
        made[info.name] = tensor
    return made


def torch_dtype(dtype: DType, name: str) -> DType:
    """The dtype, if ``torch.save`` can write it. Raises ``ConversionError``; ``name`` is that of the tensor."""
    if dtype.name.startswith(("qint", "quint")):
        raise ConversionError(f"{name} is quantised: its scale and zero point are not in its bytes")
    if dtype.storage_class is None and dtype.name not in UNTYPED:
        raise ConversionError(f"torch has no dtype for {name} ({dtype.safetensors or dtype.name})")
    return dtype


def _alone(info: TensorInfo, cast: DType | None) -> NewTensor:
    torch_name, shape = torch_type(info.dtype, info.shape)
    dtype = torch_dtype(BY_NAME[torch_name], info.name)
    return NewTensor(cast or dtype, shape, contiguous_stride(shape), NewStorage(slot_of(info, cast)))


def _inside(info: TensorInfo, storage: NewStorage, begin: int) -> NewTensor:
    offset = (info.extent[0] - begin) * 8 // info.dtype.bits
    return NewTensor(torch_dtype(info.dtype, info.name), info.shape, info.stride, storage, offset)


def _overlapping(file: WeightFile, casts: Mapping[str, Any]) -> dict[str, tuple[NewStorage, int]]:
    """The storages of tensors that overlap without being the same, each with where it begins in the old storage.

    torch refuses to save one storage as two dtypes, and a cast of it as a whole would cast what no tensor shows.
    """
    found: dict[str, tuple[NewStorage, int]] = {}
    by_name = file.by_name
    for group in alias_groups(file):
        tensors = [by_name[name] for name in group.names]
        if group.identical or len({tensor.dtype for tensor in tensors}) > 1 or not casts.keys().isdisjoint(group.names):
            continue
        shared = _spanning(tensors)
        found.update((name, shared) for name in group.names)
    return found


def _spanning(tensors: Sequence[TensorInfo]) -> tuple[NewStorage, int]:
    for tensor in tensors:
        slot_of(tensor)  # refuses what its bytes do not say
    begin = min(tensor.extent[0] for tensor in tensors)
    end = max(tensor.extent[1] for tensor in tensors)
    start = tensors[0].storage.offset
    assert start is not None, "the bytes are not in the file"
    return NewStorage(Slot(tensors[0].name, end - begin, start + begin)), begin
