"""Values cast to another floating-point dtype, in bounded memory. Imports numpy: import it late.

The results are those of torch's ``.to`` on a CPU, bit by bit. It rounds to nearest even and reaches the 16-bit dtypes
from float64 through float32, which rounds twice (measured with torch 2.13: one rounding gives other float16 values).
Every NaN becomes the one that Python's ``nan`` is; torch gives NaNs other bits in vector code than in scalar code.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ckpt_doctor.core.dtypes import DType
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.core.wording import counted
from ckpt_doctor.scanning.gather import gather

from .copying import read_exactly

_BLOCK = 1 << 18  # elements that are cast at once

# Little-endian as in the files; numpy has no bfloat16.
_NUMPY = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
_NAN_OF_BFLOAT16 = 0x7FC0
_INFINITY_OF_BFLOAT16 = 0x7F80
# The 8 bits of exponent of float32 and bfloat16 hold those of float16.
_CANNOT_OVERFLOW = {(narrow, wide) for narrow in ("float32", "float16", "bfloat16") for wide in ("float64", "float32")}
_CANNOT_OVERFLOW.add(("float16", "bfloat16"))

Array = npt.NDArray[Any]


def cast(descriptor: int, tensor: TensorInfo, dtype: DType) -> Iterator[memoryview]:
    """The elements of ``tensor``, in row-major order, as ``dtype``, block by block.

    Raises ``ConversionError`` for finite values that ``dtype`` has only an infinity for, after all were counted, and
    what :func:`.copying.read_exactly` raises.
    """
    lost = 0
    for numbers in _blocks(descriptor, tensor):
        result, too_large = _converted(numbers, tensor.dtype.name, dtype.name)
        lost += too_large
        if not lost:
            yield result.view(np.uint8).data
    if lost:
        raise ConversionError(f"{counted(lost, 'finite value')} of {tensor.name} would become infinite in {dtype.name}")


def refuse_overflow(descriptor: int, tensor: TensorInfo, dtype: DType) -> None:
    """Raise what :func:`cast` would raise. Reads the tensor only where the two dtypes leave that open."""
    if (tensor.dtype.name, dtype.name) not in _CANNOT_OVERFLOW:
        for _ in cast(descriptor, tensor, dtype):
            pass


def _blocks(descriptor: int, tensor: TensorInfo) -> Iterator[Array]:
    if tensor.is_contiguous:
        # In one dimension it is read in the largest pieces.
        tensor = tensor._replace(shape=(tensor.numel,), stride=(1,))
    kind = np.dtype(_NUMPY[tensor.dtype.name])
    for piece in gather(partial(read_exactly, descriptor), tensor):
        numbers = np.frombuffer(piece, dtype=kind)
        for start in range(0, len(numbers), _BLOCK):
            yield numbers[start : start + _BLOCK]


def _converted(numbers: Array, source: str, target: str) -> tuple[Array, int]:
    """The numbers in the other dtype, and how many that were finite are not any more."""
    if source == "bfloat16":
        numbers = (numbers.astype("<u4") << 16).view("<f4")
    # Overflow is counted, and numpy would warn of signalling NaNs, too.
    with np.errstate(all="ignore"):
        result = numbers.astype("<f4")
        infinite = np.isinf(result)
        if target == "bfloat16":
            result = _bfloat16(result)
            infinite = (result & 0x7FFF) == _INFINITY_OF_BFLOAT16
        elif target != "float32":
            result = result.astype(_NUMPY[target])
            infinite = np.isinf(result)
    result[np.isnan(numbers)] = _NAN_OF_BFLOAT16 if target == "bfloat16" else np.nan
    return result, int(np.count_nonzero(infinite & np.isfinite(numbers)))


def _bfloat16(numbers: Array) -> Array:
    """The upper halves of float32 numbers, rounded to nearest even; NaNs come out as anything."""
    bits = numbers.view("<u4")
    # Just less than half of what is cut off, and one more where the last bit that stays is odd. NaNs may wrap around.
    halves: Array = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    return halves.astype("<u2")
