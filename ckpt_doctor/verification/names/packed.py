"""Quantised weights on disk: which tensors together are one parameter of the model, and what shapes they must have.

The names and shapes are those that the quantisers write: bitsandbytes 0.50 (8 and 4 bits), GPTQ and AWQ, compressed-
tensors 0.20 (also NVFP4), block-wise float8 as DeepSeek and Qwen publish it, MXFP4 of gpt-oss, torchao 0.18. None of
their packages is needed: compared is with the model that is not quantised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.verification.model.live import Target
from ckpt_doctor.verification.values.coded import is_code, is_float8

from .matching import PartMatch, matched_names

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]
Fits = Callable[[Shape, Shape, Mapping[str, Any]], bool]
"""Whether a tensor of the first shape can be this piece of a weight of the second one, by the quantiser's settings."""

_BITS = (2, 3, 4, 8)


def quantisation(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """What the config of a whole model says about how it is quantised; empty where it is not."""
    for part in checkpoint.parts_with("model"):
        data = (part.config.data if part.config is not None else None) or {}
        for place in (data, data.get("text_config")):
            settings = place.get("quantization_config") if isinstance(place, Mapping) else None
            if isinstance(settings, Mapping):
                return settings
    return {}


def method(settings: Mapping[str, Any]) -> str:
    """The name of the quantiser."""
    if "quant_method" in settings:
        return str(settings["quant_method"])
    return "bitsandbytes" if any(str(key).startswith("load_in_") for key in settings) else "quantised"


def add_packed(model: nn.Module, part: PartMatch, settings: Mapping[str, Any]) -> None:
    """Give the pieces of quantised weights in ``part`` their targets, in place."""
    pieces = dict(_pieces(part.tensors[0].part.tensors))
    owners = {owner for owner, _ in pieces.values()}
    found = _weights(model, part, owners)
    for name, (owner, fits) in pieces.items():
        weight = found.get(owner)
        tensor = next(item.tensor for item in part.tensors if item.tensor.name == name)
        if weight is None or (tuple(tensor.shape) == weight.shape and name in part.targets):
            continue
        part.targets[name] = _piece(
            tensor, weight, whole=is_code(name), fits=fits(tensor.shape, weight.shape, settings)
        )


def _piece(tensor: TensorInfo, weight: Target, *, whole: bool, fits: bool) -> Target:
    from ckpt_doctor.verification.values.reading import torch_dtype

    shape = tuple(tensor.shape) if fits else weight.shape
    if not fits and shape == tuple(tensor.shape):
        shape = (*shape, 0)  # never the same
    names = weight.names if whole else ()
    return Target(weight.name, names, shape, torch_dtype(tensor), weight.value, weight.trained, computed=True)


def _weights(model: nn.Module, part: PartMatch, owners: Iterable[str]) -> dict[str, Target]:
    prefix = getattr(model, "base_model_prefix", "")
    found: dict[str, Target] = {}
    for naming in part.namings:
        if naming.adapter is None:
            for targets in matched_names(owners, naming.targets, exact=True, prefix=prefix):
                found = {**targets, **found}
    return found


def _pieces(tensors: Iterable[TensorInfo]) -> Iterator[tuple[str, tuple[str, Fits]]]:
    """By tensor the weight that it is a piece of, and the test of its shape."""
    for tensor in tensors:
        for pattern, weight, fits in _PIECES:
            match = pattern.search(tensor.name)
            if match is not None and _is_packed(tensor, match[0]):
                yield tensor.name, (tensor.name[: match.start()] + weight, fits)
                break


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


def lacks(part: Part, settings: Mapping[str, Any]) -> dict[str, str]:
    """Codes without what they have to be multiplied by, and the name of that, as far as the quantiser needs it."""
    names = {tensor.name for tensor in part.tensors}
    found = {}
    for tensor in part.tensors:
        wanted = next((item for item in _partners(tensor, settings) if item not in names), None)
        begun = wanted is not None and wanted.endswith("*") and any(name.startswith(wanted[:-1]) for name in names)
        if wanted is not None and not begun:
            found[tensor.name] = wanted
    return found


def _partners(tensor: TensorInfo, settings: Mapping[str, Any]) -> list[str]:
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
