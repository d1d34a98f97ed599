"""The element types of tensors: one table for every format.

Names are torch's without the ``torch.`` in front. Safetensors codes are those of the ``Dtype`` enum in the safetensors
crate (0.8); storage class names are those that ``torch.save`` writes into a pickle as ``torch.<name>``.
"""

from __future__ import annotations

from typing import NamedTuple


class DType(NamedTuple):
    """An element type: ``bits`` for each element, and what the file formats call it."""

    name: str
    bits: int
    safetensors: str | None = None
    storage_class: str | None = None

    def nbytes(self, numel: int) -> int:
        """Bytes that ``numel`` elements take, rounded up to whole bytes."""
        return (numel * self.bits + 7) // 8


_TABLE = (
    DType("float64", 64, "F64", "DoubleStorage"),
    DType("float32", 32, "F32", "FloatStorage"),
    DType("float16", 16, "F16", "HalfStorage"),
    DType("bfloat16", 16, "BF16", "BFloat16Storage"),
    DType("float8_e4m3fn", 8, "F8_E4M3"),
    DType("float8_e4m3fnuz", 8, "F8_E4M3FNUZ"),
    DType("float8_e5m2", 8, "F8_E5M2"),
    DType("float8_e5m2fnuz", 8, "F8_E5M2FNUZ"),
    DType("float8_e8m0fnu", 8, "F8_E8M0"),
    DType("float6_e2m3", 6, "F6_E2M3"),
    DType("float6_e3m2", 6, "F6_E3M2"),
    # torch packs two 4-bit floats into one element; the safetensors code counts single 4-bit elements.
    DType("float4_e2m1fn_x2", 8),
    DType("float4_e2m1", 4, "F4"),
    DType("int64", 64, "I64", "LongStorage"),
    DType("int32", 32, "I32", "IntStorage"),
    DType("int16", 16, "I16", "ShortStorage"),
    DType("int8", 8, "I8", "CharStorage"),
    DType("uint64", 64, "U64"),
    DType("uint32", 32, "U32"),
    DType("uint16", 16, "U16"),
    DType("uint8", 8, "U8", "ByteStorage"),
    DType("bool", 8, "BOOL", "BoolStorage"),
    DType("complex128", 128, None, "ComplexDoubleStorage"),
    DType("complex64", 64, "C64", "ComplexFloatStorage"),
    DType("complex32", 32),
    DType("quint8", 8, None, "QUInt8Storage"),
    DType("qint8", 8, None, "QInt8Storage"),
    DType("qint32", 32, None, "QInt32Storage"),
    DType("quint4x2", 8, None, "QUInt4x2Storage"),
    DType("quint2x4", 8, None, "QUInt2x4Storage"),
    DType("bits16", 16),
    # torch stores one element of each of these in a whole byte.
    *(DType(f"bits{shape}", 8) for shape in ("8", "1x8", "2x4", "4x2")),
    *(DType(f"{kind}{bits}", 8) for kind in ("int", "uint") for bits in range(1, 8)),
)

BY_NAME: dict[str, DType] = {dtype.name: dtype for dtype in _TABLE}
BY_SAFETENSORS: dict[str, DType] = {dtype.safetensors: dtype for dtype in _TABLE if dtype.safetensors}
BY_STORAGE_CLASS: dict[str, DType] = {dtype.storage_class: dtype for dtype in _TABLE if dtype.storage_class}

PACKED_FLOAT4 = "float4_e2m1fn_x2"
"""The dtype in which torch packs two 4-bit floats into an element; safetensors counts them one by one."""


UNTYPED = frozenset(
    (
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", PACKED_FLOAT4),
        *("uint16", "uint32", "uint64", "complex32", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"),
    )
)
"""The dtypes that ``torch.save`` writes without a class of storage: those of ``torch.storage._new_dtypes()``."""


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor, as torch has them: a dimension of size 0 counts as 1.

    >>> contiguous_stride((2, 0, 3))
    (3, 3, 1)
    """
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def unpacked(dtype: DType, shape: tuple[int, ...]) -> tuple[DType, tuple[int, ...]]:
    """Dtype and shape as safetensors has them, with 4-bit floats counted one by one.

    >>> dtype, shape = unpacked(BY_NAME["float4_e2m1fn_x2"], (3, 8))
    >>> dtype.name, shape
    ('float4_e2m1', (3, 16))
    """
    if dtype.name == PACKED_FLOAT4 and shape:
        return BY_NAME["float4_e2m1"], (*shape[:-1], 2 * shape[-1])
    return dtype, shape
