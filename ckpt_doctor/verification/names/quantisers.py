"""What each quantiser writes in place of a weight: the names of the pieces, their shapes, and what each needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import ceil, prod
from typing import Any, NamedTuple

from ckpt_doctor.core.weight_file import TensorInfo

# bitsandbytes 0.50 (8 and 4 bits), GPTQ and AWQ, compressed-tensors 0.20 (also NVFP4), block-wise float8 as DeepSeek
# and Qwen publish it, MXFP4 of gpt-oss, torchao 0.18. None of their packages is needed.

Shape = tuple[int, ...]
Fits = Callable[[Shape, Shape, Mapping[str, Any]], bool]
"""True if a tensor of the first shape can be this piece of a weight of the second one, by the quantiser's settings."""

_BITS = (2, 3, 4, 8)


class Piece(NamedTuple):
    """A tensor that means a ``weight`` together with others, and the test of its shape."""

    tensor: TensorInfo
    weight: str
    fits: Fits

    @property
    def is_code(self) -> bool:
        """True if it holds the codes themselves, and not what explains them."""
        return self.tensor.name.endswith((".weight", ".weight_packed", ".qweight", "_blocks", "data"))


def method(settings: Mapping[str, Any]) -> str:
    """The name of the quantiser."""
    if "quant_method" in settings:
        return str(settings["quant_method"])
    return "bitsandbytes" if any(str(key).startswith("load_in_") for key in settings) else "quantised"


def pieces(tensors: Iterable[TensorInfo]) -> Iterator[Piece]:
    """The tensors that are pieces of quantised weights, by their names."""
    for tensor in tensors:
        for pattern, weight, fits in _PIECES:
            match = pattern.search(tensor.name)
            if match is not None and _is_packed(tensor, match[0]):
                yield Piece(tensor, tensor.name[: match.start()] + weight, fits)
                break


def partners(tensor: TensorInfo, settings: Mapping[str, Any]) -> list[str]:
    """The factors of the codes: names, of which one that ends in ``*`` means any that begins so."""
    stem, _, ending = tensor.name.rpartition(".")
    if ending == "qweight":
        return [f"{stem}.scales", f"{stem}.qzeros"] if method(settings) == "awq" else [f"{stem}.scales"]
    if ending == "weight_packed":
        return [f"{stem}.weight_scale"]
    if tensor.name.endswith("weight_qdata"):
        return [tensor.name.removesuffix("qdata") + "scale"]
    if tensor.name.endswith("_blocks"):
        return [f"{tensor.name.removesuffix('_blocks')}_scales"]
    if ending == "weight" and method(settings) == "bitsandbytes":
        if tensor.dtype.name == "int8":
            return [f"{stem}.SCB"]
        if tensor.dtype.name == "uint8":
            return [f"{tensor.name}.absmax", f"{tensor.name}.quant_map", f"{tensor.name}.quant_state.*"]
    return []


def is_float8(dtype: str) -> bool:
    """True if this is one of torch's floats of one byte that hold weights."""
    return dtype.startswith(("float8_e4m3", "float8_e5m2"))


def _is_packed(tensor: TensorInfo, ending: str) -> bool:
    """A plain ``weight`` is a piece only where it holds codes."""
    return ending != ".weight" or tensor.dtype.name in ("int8", "uint8") or is_float8(tensor.dtype.name)


def _codes(shape: Shape, weight: Shape, _: Mapping[str, Any]) -> bool:
    # Whole bytes, two codes in one (bitsandbytes 4 bit: a column of them), four in one (BitNet).
    halves = ceil(prod(weight) / 2)
    return shape in (weight, (halves, 1), (1, halves)) or (
        len(weight) == 2 and shape == (ceil(weight[0] / 4), weight[1])
    )


def _number(shape: Shape, _: Shape, __: Mapping[str, Any]) -> bool:
    return prod(shape) == 1


def _vector(shape: Shape, _: Shape, __: Mapping[str, Any]) -> bool:
    return len(shape) == 1


def _row(shape: Shape, weight: Shape, _: Mapping[str, Any]) -> bool:
    return shape == weight[:1]


def _column(shape: Shape, weight: Shape, _: Mapping[str, Any]) -> bool:
    return len(weight) == 2 and shape == weight[1:]


def _blocks_of(shape: Shape, weight: Shape, settings: Mapping[str, Any]) -> bool:
    size = settings.get("bnb_4bit_blocksize")
    sizes = (size,) if isinstance(size, int) and size > 0 else (32, 64, 128, 256, 512, 1024, 2048, 4096)
    return shape in {(ceil(prod(weight) / size),) for size in sizes}


def _grouped_scale(shape: Shape, weight: Shape, settings: Mapping[str, Any]) -> bool:
    """One for the tensor, one for each row, for groups in a row, or for blocks."""
    if prod(shape) == 1 or shape in (weight[:1], (*weight[:-1], 1)):
        return True
    block: Any = settings.get("weight_block_size")
    if _is_block(block):
        return shape == (*weight[:-2], ceil(weight[-2] / block[0]), ceil(weight[-1] / block[1]))
    return len(shape) == len(weight) and all(0 < here <= there for here, there in zip(shape, weight, strict=True))


def _is_block(block: Any) -> bool:
    return isinstance(block, (list, tuple)) and len(block) == 2 and all(isinstance(n, int) and n > 0 for n in block)


def _packed_rows(shape: Shape, weight: Shape, _: Mapping[str, Any]) -> bool:
    """Words of 32 bits along the columns, or bytes of two codes."""
    *rest, columns = weight
    return shape in {(*rest, ceil(columns * bits / 32)) for bits in (*_BITS, 1, 5, 6, 7)} | {(*rest, ceil(columns / 2))}


def _zero_points(shape: Shape, weight: Shape, settings: Mapping[str, Any]) -> bool:
    rows = {ceil(weight[0] * bits / 32) for bits in _BITS} | {weight[0], 1}
    return _grouped_scale(shape, weight, settings) or (bool(shape) and shape[0] in rows)


def _qweight(shape: Shape, weight: Shape, settings: Mapping[str, Any]) -> bool:
    if len(weight) != 2:
        return False
    rows, columns = weight
    gptq = {(ceil(columns * bits / 32), rows) for bits in _BITS}
    awq = {(columns, ceil(rows * bits / 32)) for bits in _BITS}
    return shape in (awq if method(settings) == "awq" else gptq if method(settings) == "gptq" else gptq | awq)


def _groups(weight: Shape, settings: Mapping[str, Any]) -> int | None:
    size = settings.get("group_size")
    if not isinstance(size, int):
        return None
    return 1 if size <= 0 else ceil(weight[1] / size)


def _qzeros(shape: Shape, weight: Shape, settings: Mapping[str, Any]) -> bool:
    words = {ceil(weight[0] * bits / 32) for bits in _BITS}
    return len(shape) == len(weight) == 2 and shape[1] in words and _groups(weight, settings) in (None, shape[0])


def _scales(shape: Shape, weight: Shape, settings: Mapping[str, Any]) -> bool:
    return len(shape) == len(weight) == 2 and shape[1] == weight[0] and _groups(weight, settings) in (None, shape[0])


def _mxfp4(shape: Shape, weight: Shape, _: Mapping[str, Any]) -> bool:
    """Sixteen bytes for 32 columns; the parameter is transposed."""
    return len(weight) == 3 and shape == (weight[0], weight[2], ceil(weight[1] / 32), 16)


def _mxfp4_scales(shape: Shape, weight: Shape, _: Mapping[str, Any]) -> bool:
    return len(weight) == 3 and shape == (weight[0], weight[2], ceil(weight[1] / 32))


def _halves(shape: Shape, weight: Shape, _: Mapping[str, Any]) -> bool:
    return shape in (weight, (*weight[:-1], ceil(weight[-1] / 2)))


_ENDINGS: tuple[tuple[str, str, Fits], ...] = (
    (r"\.weight\.absmax", ".weight", _blocks_of),
    (r"\.weight\.(?:nested_absmax|(?:nested_)?quant_map)", ".weight", _vector),
    (r"\.weight\.quant_state\.bitsandbytes__\w+", ".weight", _vector),
    (r"\.SCB", ".weight", _row),
    (r"\.weight_format", ".weight", _number),
    (r"\.weight", ".weight", _codes),
    (r"\.weight_scale(?:_inv|s)?", ".weight", _grouped_scale),
    (r"\.weight_zero_point", ".weight", _zero_points),
    (r"\.weight_packed", ".weight", _packed_rows),
    (r"\.weight_shape", ".weight", lambda shape, weight, _: shape == (len(weight),)),
    (r"\.weight_g_idx", ".weight", _column),
    (
        r"\.(?:weight_global_scale|weight_scale_2|(?:input|activation|output)(?:_global)?_scale|input_zero_point)",
        ".weight",
        _number,
    ),
    (r"\.qweight", ".weight", _qweight),
    (r"\.qzeros", ".weight", _qzeros),
    (r"\.scales", ".weight", _scales),
    (r"\.g_idx", ".weight", _column),
    (r"_blocks", "", _mxfp4),
    (r"_scales", "", _mxfp4_scales),
    (r"\._?weight[:_.]_?(?:q?data)", ".weight", _halves),
    (r"\._?weight[:_.]_?(?:scale|zero_point)", ".weight", _zero_points),
)
_PIECES = tuple((re.compile(f"{ending}$"), weight, fits) for ending, weight, fits in _ENDINGS)
