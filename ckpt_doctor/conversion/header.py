"""Safetensors headers as ``safetensors.torch.save_file`` writes them, byte for byte.

Read off safetensors 0.8: tensors are ordered by dtype, the last of the crate's ``Dtype`` enum first, then by name; the
JSON is compact, with names as UTF-8; spaces fill it up to a multiple of 8 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ckpt_doctor.core.dtypes import PACKED_FLOAT4, DType, unpacked
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.formats.limits import LIMITS

METADATA = "__metadata__"
"""The name in a header that no tensor can have."""

_ORDER = (
    *("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16"),
    *("F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8", "F6_E3M2", "F6_E2M3", "F4", "BOOL"),
)
_RANK = {code: rank for rank, code in enumerate(_ORDER)}


class Entry(NamedTuple):
    """A tensor as the header describes it: ``code`` is the dtype's name there, ``shape`` counts its elements.

    ``cast`` is the dtype that its values are cast to, if any; ``tensor`` has the old one.
    """

    tensor: TensorInfo
    code: str
    shape: tuple[int, ...]
    nbytes: int
    cast: DType | None = None


def entry_of(tensor: TensorInfo, cast: DType | None = None) -> Entry | None:
    """How safetensors describes a tensor, cast to another dtype or not; ``None`` if it has no dtype for it."""
    dtype, shape = unpacked(cast or tensor.dtype, tensor.shape)
    code = dtype.safetensors
    return None if code is None else Entry(tensor, code, shape, (cast or tensor.dtype).nbytes(tensor.numel), cast)


def torch_type(dtype: DType, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The name in torch of a safetensors dtype, and the shape that a tensor has there."""
    if dtype.safetensors == "F4" and shape and shape[-1] % 2 == 0:
        return PACKED_FLOAT4, (*shape[:-1], shape[-1] // 2)
    return dtype.name, shape


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in the order in which their bytes follow each other."""
    return sorted(entries, key=lambda entry: (_RANK[entry.code], entry.tensor.name))


def header(entries: Iterable[Entry], metadata: Mapping[str, str]) -> bytes:
    """Everything in front of the first tensor's bytes, for entries in order. Raises ``ConversionError``."""
    quoted = json.encoder.encode_basestring  # not the ASCII one: the crate escapes only what JSON demands
    pieces = [f'"{METADATA}":{json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))}']
    start = 0
    for tensor, code, shape, nbytes, _ in entries:
        end = start + nbytes
        sizes = ",".join(map(str, shape))
        pieces.append(f'{quoted(tensor.name)}:{{"dtype":"{code}","shape":[{sizes}],"data_offsets":[{start},{end}]}}')
        start = end
    try:
        document = ("{" + ",".join(pieces) + "}").encode()
    except UnicodeEncodeError:
        raise ConversionError("a name or value holds an unpaired surrogate: UTF-8 cannot encode it") from None
    document += b" " * (-len(document) % 8)
    if len(document) > LIMITS.header:
        raise ConversionError(
            f"its names and values would take a header of {len(document):,} bytes; safetensors allows {LIMITS.header:,}"
        )
    return len(document).to_bytes(8, "little") + document
