"""The numbers that elements of each dtype stand for, widened so none of them is rounded.

Formats: as in ``elements.py``. What numpy has no dtype for is looked up in a table of all its bit patterns, or, for
bfloat16, is the upper half of a float32. Sub-byte floats lie two in a byte, the first one in the lower half.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt  # takes as long to import as a tenth of numpy

    from .elements import Words

    Numbers: TypeAlias = npt.NDArray[np.float64 | np.complex128]
    Reals: TypeAlias = npt.NDArray[np.float64]
    Flags: TypeAlias = npt.NDArray[np.bool_]

_NUMPY = {
    **{f"float{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "complex32": "<f2",
    "complex64": "<f4",
    "complex128": "<f8",
}
_LONG_INTEGERS = {"int64", "uint64"}


def is_number(dtype: str) -> bool:
    """True if the elements of the dtype of this name are numbers by themselves, which those of quantised types are not.

    >>> is_number("bfloat16"), is_number("qint8")
    (True, False)
    """
    return dtype in _NUMPY or dtype in _SMALL or dtype in ("bfloat16", "bool")


def widened(words: Words, dtype: str) -> Numbers:
    """The elements in ``words`` (see ``ElementKind``) as float64, or as complex128 where they are complex.

    Only integers of more than 53 bits are rounded. ``dtype`` must be one of which :func:`is_number` is true.
    """
    numbers: Reals
    with np.errstate(invalid="ignore"):  # numpy would warn of signalling NaNs
        if dtype == "bfloat16":
            numbers = (words.astype("<u4") << 16).view("<f4").astype(np.float64)
        elif dtype == "bool":
            numbers = (words != 0).astype(np.float64)
        elif dtype in _SMALL:
            codes = np.stack([words & 0xF, words >> 4], axis=1).reshape(-1) if dtype.startswith("float4") else words
            numbers = _table(dtype)[codes]
        else:
            numbers = words.view(_NUMPY[dtype]).astype(np.float64)
    return numbers.view(np.complex128) if dtype.startswith("complex") else numbers


def equal_numbers(first: Words, first_dtype: str, second: Words, second_dtype: str) -> Flags:
    """For each element whether both are the same number, exactly. Any NaN equals any other, and 0 equals -0."""
    if {first_dtype, second_dtype} == _LONG_INTEGERS:
        # The same bits are the same number where the highest one is not set: one of both has a sign there.
        return np.asarray((first == second) & (first >> np.uint64(63) == 0))
    ours, theirs = widened(first, first_dtype), widened(second, second_dtype)
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    return np.asarray(same & _exact(first, first_dtype) & _exact(second, second_dtype))


def distances(first: Words, first_dtype: str, second: Words, second_dtype: str) -> Reals:
    """For each element how far both numbers lie apart; NaN or infinite where one of them is that."""
    if first_dtype == second_dtype and first_dtype in _LONG_INTEGERS:
        ours, theirs = first.view(_NUMPY[first_dtype]), second.view(_NUMPY[first_dtype])
        # Unsigned numbers wrap around, so the difference is right where int64 has no room for it.
        apart = np.maximum(ours, theirs).view("<u8") - np.minimum(ours, theirs).view("<u8")
        return np.asarray(apart, dtype=np.float64)
    with np.errstate(all="ignore"):  # infinity minus infinity, and differences that are too large
        return np.asarray(np.abs(widened(first, first_dtype) - widened(second, second_dtype)))


def _exact(words: Words, dtype: str) -> Flags:
    """For each element whether widening kept it: what was rounded equals no number of another dtype."""
    if dtype not in _LONG_INTEGERS:
        return np.ones(1, dtype=np.bool_)  # for all of them
    integers = words.view(_NUMPY[dtype])
    numbers = integers.astype(np.float64)
    inside = numbers < (2.0**63 if dtype == "int64" else 2.0**64)
    return np.asarray(inside & (np.where(inside, numbers, 0.0).astype(integers.dtype) == integers))


class _Small(NamedTuple):
    """A float of at most a byte; ``nan`` lists the patterns that are NaN, and ``infinity`` the positive infinity."""

    exponent: int
    mantissa: int
    bias: int
    nan: tuple[int, ...] = ()
    infinity: int | None = None

    def table(self) -> Reals:
        """The number of every bit pattern."""
        sign_bit = 1 << (self.exponent + self.mantissa)
        numbers = []
        for code in range(2 * sign_bit):
            power, fraction = (code % sign_bit) >> self.mantissa, code % (1 << self.mantissa)
            # Without a leading 1 where the exponent is zero.
            whole = fraction + (1 << self.mantissa) * (power > 0)
            number = whole * 2.0 ** (max(power, 1) - self.bias - self.mantissa)
            if self.infinity == code % sign_bit:
                number = float("inf")
            numbers.append(float("nan") if code in self.nan else -number if code >= sign_bit else number)
        return np.array(numbers)


_SMALL = {
    "float8_e4m3fn": _Small(4, 3, 7, nan=(0x7F, 0xFF)),
    "float8_e4m3fnuz": _Small(4, 3, 8, nan=(0x80,)),
    "float8_e5m2": _Small(5, 2, 15, nan=(0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF), infinity=0x7C),
    "float8_e5m2fnuz": _Small(5, 2, 16, nan=(0x80,)),
    "float8_e8m0fnu": None,
    "float4_e2m1": _Small(2, 1, 1),
}


@cache
def _table(dtype: str) -> Reals:
    small = _SMALL[dtype]
    if small is None:  # a bare exponent, the last of which is NaN
        return np.array([*(2.0 ** (code - 127) for code in range(255)), float("nan")])
    return small.table()
