"""Tensors that do not lie contiguously: transposed, sliced, expanded and overlapping views, in bounded memory.

Elements are visited in the order in which they lie in the file, piece by piece; the index that a view gives to an
element is computed only for those that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckpt_doctor.core.weight_file import TensorInfo

from .elements import ElementKind
from .gather import ReadRange, gather
from .tally import Tally

if TYPE_CHECKING:
    from .elements import Words

_PIECE = 1 << 18  # bytes: of the file that are read at once, and of elements that are looked at at once
_MIN_COST = 2048  # bytes: what the smallest piece is charged, because each takes time however small it is
_MAX_NUMEL = 1 << 60  # flat indexes must fit in 64 bits; only an expanded view of a few bytes could have more

Fill = Callable[[int, int], memoryview]
"""Reads ``(absolute offset, bytes)``, and raises ``OSError`` where fewer are there. Valid until the next call."""


class BudgetExceededError(Exception):
    """The views of a file overlap so much that looking at all of them would take unreasonably long."""


class Budget:
    """How many bytes may still be looked at; a file that describes more is refused instead of being worked off."""

    def __init__(self, nbytes: int) -> None:
        self._left = nbytes

    def spend(self, nbytes: int) -> None:
        """Take ``nbytes`` off, or raise :class:`BudgetExceededError` and leave the rest to what costs less."""
        cost = max(nbytes, _MIN_COST)
        if cost > self._left:
            raise BudgetExceededError
        self._left -= cost


class _Dim(NamedTuple):
    """One dimension: its size, the step in the storage and the step of the flat row-major index, in elements."""

    size: int
    stride: int
    weight: int


_Piece = tuple[int, int, tuple[_Dim, ...]]
"""Position in the storage relative to the view's first element, flat index of the first element, dimensions."""


def scan_view(
    tensor: TensorInfo, kind: ElementKind, read: Fill, budget: Budget, *, big_endian: bool, tally: Tally
) -> int:
    """Put the elements of ``tensor`` into ``tally``; returns how often each of them stands in the tensor.

    Raises ``OSError`` from ``read`` and :class:`BudgetExceededError`.
    """
    if tensor.numel > _MAX_NUMEL:
        raise BudgetExceededError
    dims = _dims(tensor)
    repeat = 1
    for dim in dims:
        if dim.stride == 0:
            repeat *= dim.size
    # An expanded dimension shows the same bytes again; its first index is the lowest of all.
    distinct = tuple(sorted((dim for dim in dims if dim.stride), key=lambda dim: -dim.stride))
    begin = _begin(tensor)
    stored = kind.stored_dtype(big_endian=big_endian)
    for position, index, part in _pieces(distinct, extent_limit=_PIECE // kind.itemsize, limit=_PIECE // kind.itemsize):
        nbytes = _extent(part) * kind.itemsize
        budget.spend(max(nbytes, _numel(part) * kind.itemsize))
        words = _gather(read(begin + position * kind.itemsize, nbytes), part, kind, stored)
        bad = kind.nonfinite(words).any(axis=-1)
        if bad.any():
            weights = np.array([dim.weight for dim in part], dtype=np.int64)
            flat = np.argwhere(bad) @ weights
            tally.add_nonfinite(len(flat), index + int(flat.min()))
        tally.add_values(words.reshape(-1))
    return repeat


def digest_view(
    tensor: TensorInfo, kind: ElementKind, read: ReadRange, budget: Budget, *, big_endian: bool, tally: Tally
) -> None:
    """Put the bytes of ``tensor``, as they would lie contiguously, into the hash of ``tally``. Raises as above."""
    assert tally.hasher is not None

    def charged(offset: int, nbytes: int) -> bytes | bytearray:
        budget.spend(nbytes)
        return read(offset, nbytes)

    budget.spend(tensor.nbytes)
    for block in gather(charged, tensor):
        tally.hasher.update(kind.words_of(block, big_endian=big_endian).data)


def _begin(tensor: TensorInfo) -> int:
    """Absolute position of the first element."""
    byte_range = tensor.byte_range
    assert byte_range is not None, "the bytes are not in the file"
    return byte_range[0]


def _dims(tensor: TensorInfo) -> tuple[_Dim, ...]:
    dims = []
    weight = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if size != 1:
            dims.append(_Dim(size, stride, weight))
        weight *= size
    return tuple(reversed(dims))


def _gather(data: memoryview, part: tuple[_Dim, ...], kind: ElementKind, stored: np.dtype[Any]) -> Words:
    """The words of one piece, with a last dimension for the words of an element; a copy, in the order of ``part``."""
    shape = (*(dim.size for dim in part), kind.words)
    strides = (*(dim.stride * kind.itemsize for dim in part), kind.width)
    view: Words = np.ndarray(shape, dtype=stored, buffer=data, strides=strides)
    return view.astype(kind.dtype, order="C")


def _extent(dims: tuple[_Dim, ...]) -> int:
    """Elements of the storage from the first to behind the last one that is touched."""
    return 1 + sum((dim.size - 1) * dim.stride for dim in dims)


def _numel(dims: tuple[_Dim, ...]) -> int:
    numel = 1
    for dim in dims:
        numel *= dim.size
    return numel


def _pieces(
    dims: tuple[_Dim, ...], *, extent_limit: int, limit: int, position: int = 0, index: int = 0
) -> Iterator[_Piece]:
    """Cut a view along its first dimensions until each piece is small in the file and in memory (limits: elements)."""
    numel = _numel(dims)
    if not dims or (_extent(dims) <= extent_limit and numel <= limit):
        yield position, index, dims
        return
    first, rest = dims[0], dims[1:]
    by_extent = (extent_limit - _extent(rest)) // first.stride + 1 if first.stride else first.size
    step = max(1, min(by_extent, limit // (numel // first.size), first.size))
    for start in range(0, first.size, step):
        size = min(step, first.size - start)
        cut = rest if size == 1 else (_Dim(size, first.stride, first.weight), *rest)
        yield from _pieces(
            cut,
            extent_limit=extent_limit,
            limit=limit,
            position=position + start * first.stride,
            index=index + start * first.weight,
        )
