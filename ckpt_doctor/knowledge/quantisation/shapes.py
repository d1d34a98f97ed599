"""Which shapes the partners of packed weights have: from the shape of the codes and the numbers of the config.

Each function takes the codes and the settings and returns the shapes that are right. It returns none if the
settings do not say enough. Shapes count elements. ``rows`` are output features, ``columns`` input features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ckpt_doctor.core.weight_file import TensorInfo

from .settings import Settings

Shapes = frozenset[tuple[int, ...]]
ShapeRule = Callable[[TensorInfo, Settings], Shapes]
_NONE: Shapes = frozenset()
_BYTE = 8
_WORD = 32
# Weights for one scale, where bitsandbytes lets its user choose; 64 is the default, 128 that of older ROCm builds.
_BNB_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_BNB_NESTED_BLOCK = 256
_PACKED_BITS = (2, 4, 8)
# Others of compressed-tensors (marlin-24, sparse ones) lay out their codes in another order.
_COMPRESSED_FORMATS = frozenset(("pack-quantized", "int-quantized", "float-quantized", "naive-quantized")) | frozenset(
    ("nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp6-pack-quantized", "mxfp8-quantized")
)


def anything(codes: TensorInfo, settings: Settings) -> Shapes:
    """Nothing is known."""
    return _NONE


def exactly(*shape: int) -> ShapeRule:
    """Always the same shape."""
    return lambda codes, settings: frozenset((shape,))


def row(codes: TensorInfo, settings: Settings) -> Shapes:
    """One number for each row."""
    return frozenset((codes.shape[:1], (*codes.shape[:1], 1))) if len(codes.shape) == 2 else _NONE


def scale(codes: TensorInfo, settings: Settings) -> Shapes:
    """What the method says: blocks, rows, the ``strategy`` of compressed-tensors, or columns (EETQ transposes)."""
    if settings.method == "fp8":
        # Experts in bytes of two 4-bit floats have blocks of their own (DeepSeek-V4).
        float8 = codes.dtype.name.startswith("float8")
        return _blocks(codes, settings.given.get("weight_block_size")) if float8 else _NONE
    if settings.method == "fbgemm_fp8":
        return row(codes, settings)
    if settings.method == "eetq":
        return frozenset((codes.shape[1:],)) if len(codes.shape) == 2 else _NONE
    return _compressed_scale(codes, settings) if settings.method == "compressed-tensors" else _NONE


def dims(codes: TensorInfo, settings: Settings) -> Shapes:
    """One number for each dimension."""
    return frozenset(((len(codes.shape),),))


def bnb_absmax(codes: TensorInfo, settings: Settings) -> Shapes:
    """One number for each block of weights, two of which lie in a byte."""
    weights = codes.nbytes * 2
    return frozenset((_parts(weights, block),) for block in _BNB_BLOCKS)


def bnb_nested_absmax(codes: TensorInfo, settings: Settings) -> Shapes:
    """One number for each block of scales."""
    return frozenset((_parts(shape[0], _BNB_NESTED_BLOCK),) for shape in bnb_absmax(codes, settings))


def gptq_scales(codes: TensorInfo, settings: Settings) -> Shapes:
    """``[groups, rows]``, beside codes of ``[columns * bits / 32, rows]`` or AWQ's ``[columns, rows * bits / 32]``."""
    found = _gptq(codes, settings)
    return frozenset(((found[0], found[1]),)) if found else _NONE


def gptq_zeros(codes: TensorInfo, settings: Settings) -> Shapes:
    """``[groups, rows * bits / 32]``."""
    found, bits = _gptq(codes, settings), settings.number("bits")
    return frozenset(((found[0], _parts(found[1] * bits, _WORD)),)) if found and bits else _NONE


def gptq_group_index(codes: TensorInfo, settings: Settings) -> Shapes:
    """The group of each column."""
    bits = settings.number("bits")
    return frozenset(((codes.shape[0] * _WORD // bits,),)) if bits and _gptq(codes, settings) else _NONE


def _gptq(codes: TensorInfo, settings: Settings) -> tuple[int, int] | None:
    """Groups and rows of a layer by GPTQ, or by AWQ's ``gemm`` kernel; others lay their words out in other ways."""
    bits, size = settings.number("bits"), settings.number("group_size")
    if bits not in _PACKED_BITS or size is None or codes.dtype.name != "int32" or len(codes.shape) != 2:
        return None
    first, second = codes.shape
    layout = settings.given.get("checkpoint_format") or settings.given.get("version") or "gemm"
    if settings.method == "gptq" and str(layout).lower() in ("gptq", "gptq_v2", "gemm"):
        columns, rows = first * _WORD // bits, second
    elif settings.method == "awq" and str(layout).lower() == "gemm":
        columns, rows = first, second * _WORD // bits
    else:
        return None
    return (1 if size <= 0 else _parts(columns, size)), rows


def mxfp4_scales(codes: TensorInfo, settings: Settings) -> Shapes:
    """One byte for each 16 bytes of codes: ``[experts, rows, columns / 32]``."""
    return frozenset((codes.shape[:-1],))


def compressed_zero_point(codes: TensorInfo, settings: Settings) -> Shapes:
    """Like the scale; where the codes are packed, its rows are packed too, or with older releases not."""
    bits = settings.weights.get("num_bits")
    scales = {shape for shape in _compressed_scale(codes, settings) if len(shape) == 2}
    if not scales or bits not in _PACKED_BITS:
        return _NONE
    return frozenset(scales | {(_parts(rows * bits, _WORD), groups) for rows, groups in scales})


def _compressed_scale(codes: TensorInfo, settings: Settings) -> Shapes:
    """By the ``strategy`` of compressed-tensors: a channel, a group or a block; one for a tensor has several forms."""
    args = settings.weights
    if settings.given.get("format") not in _COMPRESSED_FORMATS:
        return _NONE
    rows, columns = _compressed(codes, args)
    size, strategy = args.get("group_size"), args.get("strategy")
    if columns is None:
        return _NONE
    if strategy == "channel":
        return frozenset(((rows, 1), (rows,)))
    if strategy in ("group", "tensor_group") and type(size) is int and size > 0:
        return frozenset(((rows, _parts(columns, size)),))
    return _blocks(codes, args.get("block_structure")) if strategy == "block" else _NONE


def _compressed(codes: TensorInfo, args: Mapping[str, Any]) -> tuple[int, int | None]:
    bits = args.get("num_bits")
    if len(codes.shape) != 2 or type(bits) is not int or not 0 < bits <= _BYTE:
        return 0, None
    rows, columns = codes.shape
    if not codes.name.endswith("_packed"):
        return rows, columns
    if codes.dtype.bits != _BYTE and bits not in _PACKED_BITS:
        return 0, None
    return rows, columns * codes.dtype.bits // bits


def _parts(count: int, size: int) -> int:
    """How many parts of this size, the last one cut; numbers from a file may be too large for a float."""
    return -(-count // size)


def _blocks(codes: TensorInfo, size: Any) -> Shapes:
    if not isinstance(size, (list, tuple)) or len(size) != 2 or len(codes.shape) != 2:
        return _NONE
    if not all(type(number) is int and number > 0 for number in size):
        return _NONE
    columns = _parts(codes.shape[1], size[1])
    whole = _parts(codes.shape[0], size[0])
    # Matrices that were quantised before they were put on top of each other have a cut block each.
    stacked = 0 if codes.shape[0] % size[0] == 0 else 2
    return frozenset((whole + more, columns) for more in range(stacked + 1))
