"""Strided, expanded and overlapping tensors, made contiguous in bounded memory. Imports numpy: import it late.

The elements are produced in row-major order in pieces of at most 16 MB. For each piece the file is read in the order
in which the elements lie there: ranges that lie close together in one go, ranges that lie far apart one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ckpt_doctor.core.weight_file import TensorInfo

if TYPE_CHECKING:
    import numpy.typing as npt  # takes as long to import as a tenth of numpy

    Array: TypeAlias = npt.NDArray[Any]

_PIECE = 16 << 20  # bytes of elements that are made at once
_READ = 4 << 20  # bytes that are read at once
_GAP = 16 << 10  # bytes that are read rather than skipped: a system call takes as long

ReadRange = Callable[[int, int], bytes | bytearray]
"""Reads ``(absolute offset, bytes)``, and raises where fewer are there."""


class _Dim(NamedTuple):
    """Number of elements along a dimension, and the step between them in the storage, in elements."""

    size: int
    stride: int


def gather(read: ReadRange, tensor: TensorInfo) -> Iterator[memoryview]:
    """The bytes of ``tensor`` as they would lie contiguously, block by block.

    Each block is valid until the next is asked for. Raises what ``read`` raises.
    """
    span = tensor.byte_range
    assert span is not None, "the bytes are not in the file"
    itemsize = tensor.dtype.bits // 8
    dims = tuple(_Dim(*dim) for dim in zip(tensor.shape, tensor.stride, strict=True) if dim[0] != 1)
    limit = _PIECE // itemsize
    buffer: Array = np.empty(min(limit, tensor.numel), dtype=f"V{itemsize}")
    for position, part in _pieces(dims, limit, 0):
        flat = buffer[: _numel(part)]
        _fill(read, span[0] + position * itemsize, part, flat.reshape([dim.size for dim in part]))
        yield flat.view(np.uint8).data


def _pieces(dims: tuple[_Dim, ...], limit: int, position: int) -> Iterator[tuple[int, tuple[_Dim, ...]]]:
    """Cut a tensor along its first dimensions into pieces of at most ``limit`` elements, in row-major order."""
    numel = _numel(dims)
    if numel <= limit:
        yield position, dims
        return
    first, rest = dims[0], dims[1:]
    step = max(1, limit // (numel // first.size))
    for start in range(0, first.size, step):
        size = min(step, first.size - start)
        cut = rest if size == 1 else (_Dim(size, first.stride), *rest)
        yield from _pieces(cut, limit, position + start * first.stride)


def _fill(read: ReadRange, offset: int, dims: tuple[_Dim, ...], out: Array) -> None:
    """Put the elements of one piece, the first of which stands at ``offset``, where they belong in ``out``."""
    itemsize = out.itemsize
    extent = _extent(dims) * itemsize
    widest = max(range(len(dims)), key=lambda axis: dims[axis].stride, default=None)
    if widest is None or dims[widest].stride == 0 or not _worth_cutting(dims, widest, extent, itemsize):
        data = read(offset, extent)
        strides = [dim.stride * itemsize for dim in dims]
        out[...] = np.ndarray(out.shape, dtype=out.dtype, buffer=data, strides=strides)
        return
    size, stride = dims[widest]
    rest = (*dims[:widest], *dims[widest + 1 :])
    inner = _extent(rest) * itemsize
    # Far apart: each by itself. Close together: as many as may be held at once.
    far = stride * itemsize - inner > _GAP
    step = 1 if far else max(1, (_READ - inner) // (stride * itemsize) + 1)
    for start in range(0, size, step):
        count = min(step, size - start)
        window = (slice(None),) * widest + (slice(start, start + count),)
        begin = offset + start * stride * itemsize
        if count == 1:
            _fill(read, begin, rest, out[window].squeeze(widest))
        else:
            _fill(read, begin, (*dims[:widest], _Dim(count, stride), *dims[widest + 1 :]), out[window])


def _worth_cutting(dims: tuple[_Dim, ...], widest: int, extent: int, itemsize: int) -> bool:
    if extent > _READ:
        return True
    inner = _extent((*dims[:widest], *dims[widest + 1 :])) * itemsize
    return dims[widest].stride * itemsize - inner > _GAP


def _numel(dims: tuple[_Dim, ...]) -> int:
    numel = 1
    for dim in dims:
        numel *= dim.size
    return numel


def _extent(dims: tuple[_Dim, ...]) -> int:
    """Elements of the storage from the first to behind the last one that is touched."""
    return 1 + sum((dim.size - 1) * dim.stride for dim in dims)
