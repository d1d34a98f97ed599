"""From safetensors to what ``torch.save`` writes: the one conversion that needs torch."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Callable, Mapping
from typing import Any

from ckpt_doctor.core.dtypes import DType
from ckpt_doctor.core.errors import ConversionError, MissingDependencyError
from ckpt_doctor.core.nothing import NOTHING
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.formats.recognise import recognise
from ckpt_doctor.sources.local_file import FileSource

from .header import torch_type
from .slots import Slot, slot_of
from .structure import STRUCTURE, rebuild


def import_torch() -> Any:
    """The torch module. Raises ``MissingDependencyError``."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            f"convert --to bin writes with torch, which is not there ({error}): install it with `pip install torch`"
        ) from None
    return torch


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


StateOf = Callable[[Mapping[str, Any], Any], Any]
"""Makes the object to be saved of tensors by name; the other argument is the torch module."""


def write_bin(
    source: FileSource,
    file: WeightFile,
    target: int,
    state_of: StateOf | None = None,
    casts: Mapping[str, DType] = NOTHING,
) -> int:
    """Write ``file``, read from ``source``, into the open file ``target``; returns the number of tensors.

    The tensors are views of the mapped source, so that no second copy of them is in memory unless they are strided.
    ``state_of`` says what is saved; by default it is what was saved when the safetensors file was made. Equal views of
    one storage stay one. ``casts`` maps names to the dtype that values are cast to, which copies them. Raises
    ``ConversionError``, ``MissingDependencyError`` and ``OSError``.
    """
    torch = import_torch()
    assert source.fileno is not None, "the source is closed"
    # A private mapping is one that torch may take for writable; nothing writes to it.
    with mmap.mmap(source.fileno, 0, access=mmap.ACCESS_COPY) as mapped:
        views: dict[object, Any] = {}
        tensors = {}
        for info in file.tensors:
            cast = casts.get(info.name)
            view = (info.storage.key, info.extent, info.dtype, info.shape, info.stride, cast)
            if view not in views:
                views[view] = _cast(torch, _tensor(torch, mapped, info), cast)
            tensors[info.name] = views[view]
        for name, kept in dropped_names(file).items():
            tensors[name] = tensors[kept]
        state: Any = rebuild(file.metadata or {}, tensors) if state_of is None else state_of(tensors, torch)
        with _OpenFile(target) as stream:
            try:
                torch.save(state, stream)
            except RuntimeError as error:
                # That is what torch's C++ writer makes of a disk that is full.
                raise stream.problem or ConversionError(f"torch could not write it: {error}") from None
        count = len(tensors)
        del state, tensors, views  # the mapping cannot be closed while tensors look at it
    return count


class _OpenFile(io.RawIOBase):
    """An open descriptor as a file object that does not close it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.problem: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                done += os.write(self._descriptor, view[done:])
        except OSError as problem:
            self.problem = problem
            raise
        return done


def torch_dtype(torch: Any, info: TensorInfo) -> Any:
    """What torch calls the dtype of a tensor. Raises ``ConversionError`` where bytes are not enough to make one."""
    dtype = getattr(torch, torch_type(info.dtype, info.shape)[0], None)
    if dtype is None:
        raise ConversionError(f"torch {torch.__version__} has no dtype for {info.name} ({info.dtype.safetensors})")
    if info.dtype.name.startswith(("qint", "quint")):
        raise ConversionError(f"{info.name} is quantised: its scale and zero point are not in its bytes")
    return dtype


def _tensor(torch: Any, mapped: mmap.mmap, info: TensorInfo) -> Any:
    dtype = torch_dtype(torch, info)
    _, shape = torch_type(info.dtype, info.shape)
    if info.numel == 0:
        return torch.empty(shape, dtype=dtype)
    span = info.byte_range
    assert span is not None, "the bytes are not in the file"
    # Through bytes: the elements need not be aligned in the file.
    flat = torch.frombuffer(mapped, dtype=torch.uint8, count=span[1] - span[0], offset=span[0])
    if info.is_contiguous:
        return flat.view(dtype).reshape(shape)
    return flat.view(dtype).as_strided(info.shape, info.stride).contiguous()


def _cast(torch: Any, tensor: Any, dtype: DType | None) -> Any:
    if dtype is None:
        return tensor
    # Too large values become infinite here; the check of what was written refuses them.
    cast = tensor.to(getattr(torch, dtype.name))
    # The bits that torch gives a NaN depend on where in the tensor it stands.
    return cast.masked_fill_(cast.isnan(), float("nan"))


def written_tensors(
    file: WeightFile, target: FileSource, casts: Mapping[str, DType] = NOTHING
) -> list[tuple[Slot, int]]:
    """Where the tensors of ``file``, cast as ``casts`` says, stand in the torch file that was written to ``target``.

    Raises ``ConversionError`` where the two files do not list the same tensors.
    """
    written = recognise(target, "the new file")
    if written.defects or written.format != "torch-zip":
        raise ConversionError(f"what torch wrote cannot be read back: {listed(d.message for d in written.defects)}")
    expected = {tensor.name: tensor for tensor in file.tensors}
    expected.update({name: expected[kept] for name, kept in dropped_names(file).items()})
    found = _by_name(written)
    wrong = [name for name in expected if name not in found or not _alike(expected[name], found[name], casts)]
    wrong += [name for name in found if name not in expected]
    if wrong:
        raise ConversionError(f"torch wrote {counted(len(wrong), 'tensor')} as something else: {listed(wrong)}")
    placed = []
    for name, tensor in expected.items():
        there = found[name].byte_range
        if there is not None and tensor.numel:
            placed.append((slot_of(tensor, casts.get(tensor.name)), there[0]))
    return sorted(placed, key=lambda item: item[1])


def _by_name(file: WeightFile) -> Mapping[str, TensorInfo]:
    if len({tensor.name for tensor in file.tensors}) != len(file.tensors):
        raise ConversionError("two tensors would have one name once they are nested")
    return file.by_name


def _alike(expected: TensorInfo, found: TensorInfo, casts: Mapping[str, DType]) -> bool:
    dtype = casts.get(expected.name, expected.dtype)
    return (found.dtype.name, found.shape) == torch_type(dtype, expected.shape) and found.is_contiguous
