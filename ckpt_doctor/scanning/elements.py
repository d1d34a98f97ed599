"""What the bit patterns of each dtype mean: which are NaN or infinite, which are zero.

No float arithmetic: elements are read as integers of the same width. For the IEEE-like formats an element is not
finite exactly when its bits without the sign are at least those of infinity, so one maximum over signed and one
over unsigned integers decides for a whole block (both are vectorised and write nothing).

Formats: IEEE 754 and bfloat16; the fp8 formats of the Open Compute Project (e4m3fn has one NaN for each sign and no
infinity, e5m2 has both) and their "fnuz" variants (NaN is 0x80 alone, and there is no negative zero); e8m0 is a bare
exponent (NaN is 0xff, and nothing is zero).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ckpt_doctor.core.dtypes import DType

if TYPE_CHECKING:
    import numpy.typing as npt  # takes as long to import as a tenth of numpy

    Words: TypeAlias = npt.NDArray[np.unsignedinteger]


class ElementKind(NamedTuple):
    """How the bytes of a dtype are judged.

    An element is ``words`` unsigned integers of ``width`` bytes (two for complex numbers). ``infinity`` is the smallest
    pattern, without sign, that is not finite, if patterns are ordered like that; ``nan`` is the only NaN where they
    are not. ``magnitude`` masks what must be 0 in a zero; 0 means that the format has no zero. ``nibbles`` marks
    formats of two elements in a byte, ``comparable`` formats whose elements do not straddle words.
    """

    width: int
    words: int = 1
    infinity: int | None = None
    nan: int | None = None
    magnitude: int | None = None
    nibbles: bool = False
    comparable: bool = True

    @property
    def itemsize(self) -> int:
        """Bytes of an element, or of the byte that holds two of them."""
        return self.width * self.words

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The unsigned integers as which the bytes of a file are read: both formats are little-endian by default."""
        return np.dtype(f"<u{self.width}")

    def stored_dtype(self, *, big_endian: bool) -> np.dtype[np.unsignedinteger]:
        """The same integers as they lie in a file of either byte order."""
        return self.dtype.newbyteorder(">") if big_endian else self.dtype

    def words_of(self, block: memoryview, *, big_endian: bool = False) -> Words:
        """The bytes of ``block`` as words; a copy is made only where the file is big-endian."""
        words: Words = np.frombuffer(block, dtype=self.stored_dtype(big_endian=big_endian))
        return words.astype(self.dtype) if big_endian else words

    def any_nonfinite(self, words: Words) -> bool:
        """True if an element is NaN or infinite; a quick test for a whole block."""
        if words.size == 0:
            return False
        if self.nan is not None:
            return bool((words == self.nan).any())
        if self.infinity is None:
            return False
        sign = 1 << (8 * self.width - 1)
        signed = words.view(np.dtype(f"<i{self.width}"))
        return int(signed.max()) >= self.infinity or int(words.max()) >= self.infinity | sign

    def nonfinite(self, words: Words) -> npt.NDArray[np.bool_]:
        """For each word whether it is NaN or infinite."""
        if self.nan is not None:
            return np.asarray(words == self.nan)
        if self.infinity is None:
            return np.zeros(words.shape, dtype=np.bool_)
        without_sign = words & self.dtype.type((1 << (8 * self.width - 1)) - 1)
        return np.asarray(without_sign >= self.infinity)

    def all_zero(self, words: Words) -> bool:
        """True if every element is zero; a zero with a sign counts."""
        if self.magnitude == 0:
            return False
        if self.magnitude is None:
            return not words.any()
        # Almost always the first few decide, and the mask over all of them need not be computed.
        mask = self.dtype.type(self.magnitude)
        return not (words[:64] & mask).any() and not (words & mask).any()


def _float(width: int, infinity: int, words: int = 1) -> ElementKind:
    return ElementKind(width, words, infinity=infinity, magnitude=(1 << (8 * width - 1)) - 1)


_FLOAT16 = 0x7C00
_FLOAT32 = 0x7F80_0000
_FLOAT64 = 0x7FF0_0000_0000_0000

_FLOATS = {
    "float64": _float(8, _FLOAT64),
    "float32": _float(4, _FLOAT32),
    "float16": _float(2, _FLOAT16),
    "bfloat16": _float(2, 0x7F80),
    "complex128": _float(8, _FLOAT64, words=2),
    "complex64": _float(4, _FLOAT32, words=2),
    "complex32": _float(2, _FLOAT16, words=2),
    "float8_e4m3fn": _float(1, 0x7F),
    "float8_e5m2": _float(1, 0x7C),
    "float8_e4m3fnuz": ElementKind(1, nan=0x80),
    "float8_e5m2fnuz": ElementKind(1, nan=0x80),
    "float8_e8m0fnu": ElementKind(1, nan=0xFF, magnitude=0),
    "float4_e2m1": ElementKind(1, magnitude=0x77, nibbles=True),
    "float4_e2m1fn_x2": ElementKind(1, magnitude=0x77, nibbles=True),
    "quint4x2": ElementKind(1, nibbles=True),
    # Elements that straddle bytes can be compared with zero only.
    "float6_e2m3": ElementKind(1, comparable=False),
    "float6_e3m2": ElementKind(1, comparable=False),
    "quint2x4": ElementKind(1, comparable=False),
}


def kind_of(dtype: DType) -> ElementKind:
    """How elements of this dtype are judged; integers, bool and quantised types are always finite."""
    return _FLOATS.get(dtype.name) or ElementKind(dtype.bits // 8)
