"""Weights in float8: the numbers themselves, or codes that mean nothing without the scale beside them.

Block-wise float8 (``weight_scale_inv``: DeepSeek, Qwen3-FP8) and per-tensor or per-row float8 (``weight_scale``,
ComfyUI's ``scale_weight``) stretch each weight over the range of the format: the codes reach its largest number. Who
loads these without their scale gets weights that are hundreds of times too large, without any message. A plain cast to
float8 needs no scale; its values are those of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.coverage import MISSING, RESTORED
from ckpt_doctor.verification.names.quantisers import is_float8

from .comparing import Verdict
from .reading import TensorReader
from .row import Row

if TYPE_CHECKING:
    import torch

_SCALES = ("weight_scale_inv", "weight_scale", "scale_weight", "weight.scale", "scale")
_STRETCHED = 0.9  # of the largest number of the format: weights themselves are never near it
_SAMPLES = 16  # matrices; the others of a checkpoint were written in the same way
# What the result of other arithmetic may differ by, relative to the weight: two units in the last place.
_TOLERANCE = {"bfloat16": 2**-7, "float16": 2**-9}
CODES = "float8 codes"
"""How the reason begins for which a float8 weight has not arrived."""
_USED = f"{CODES}, multiplied by their scale"


def judge_codes(rows: Iterable[Row], settings: Mapping[str, Any], reader: TensorReader, *, values: bool) -> None:
    """Complete the rows of float8 weights and of their scales, in place.

    Without ``values`` names decide; only of float8 weights that no name explains are a few looked at.
    """
    rows = list(rows)
    by_name = {row.wanted.tensor.name: row for row in rows}
    codes = [row for row in rows if _may_be_code(row)]
    scales = {id(row): _scale(row, by_name) for row in codes}
    scaled = any(scales.values()) or str(settings.get("quant_method", "")).endswith("fp8")
    stretched = not scaled and _are_stretched(codes, reader)
    for row in codes:
        scale = scales[id(row)]
        if scale is None:
            if (scaled and _is_quantised_here(row, settings)) or stretched:
                _lose(row, f"{CODES}, but their scale is not in the checkpoint: they mean nothing without it")
        else:
            _judge_scaled(row, scale, reader if values else None)


def _judge_scaled(row: Row, scale: Row, reader: TensorReader | None) -> None:
    arrived = row.arrived
    if scale.target is not None:
        if arrived and not scale.arrived:
            _lose(row, f"{CODES}, and their scale {scale.wanted.tensor.name} did not arrive")
        return
    if arrived:  # bit by bit, and not multiplied
        _lose(row, f"{CODES}, loaded without their scale {scale.wanted.tensor.name}")
    elif reader is not None and row.target is not None and _holds_product(row, scale, reader):
        scale.target = replace(row.target, names=(), computed=True)
        for item in (row, scale):
            item.verdict, item.status, item.detail = Verdict.EQUAL, RESTORED, _USED


def _lose(row: Row, detail: str) -> None:
    if row.arrived:
        row.status, row.detail = MISSING, detail
        row.verdict = Verdict.DIFFERENT if row.verdict is not None else None


def _may_be_code(row: Row) -> bool:
    tensor = row.wanted.tensor
    return is_float8(tensor.dtype.name) and len(tensor.shape) >= 2 and row.wanted.part.role in ("model", "file")


def _is_quantised_here(row: Row, settings: Mapping[str, Any]) -> bool:
    """True if the quantiser's settings do not leave this module out."""
    skipped = settings.get("modules_to_not_convert") or settings.get("ignored_layers") or settings.get("ignore") or ()
    stem = row.wanted.tensor.name.rpartition(".")[0]
    return not any(isinstance(item, str) and item and item in stem for item in skipped)


def _scale_names(name: str) -> list[str]:
    """The possible names of the weight's scale."""
    stem = name.removesuffix("weight")
    return [stem + ending for ending in _SCALES] + [f"{name}_scale_inv", f"{name}_scale"]


def _scale(row: Row, by_name: Mapping[str, Row]) -> Row | None:
    return next((by_name[name] for name in _scale_names(row.wanted.tensor.name) if name in by_name), None)


def _are_stretched(codes: list[Row], reader: TensorReader) -> bool:
    """True if most of the matrices reach the largest number of their format."""
    some = codes[:: max(1, len(codes) // _SAMPLES)]
    reach = [_reaches_end(row, reader) for row in some]
    return bool(reach) and sum(reach) * 2 > len(reach)


def _reaches_end(row: Row, reader: TensorReader) -> bool:
    import torch

    tensor = row.wanted.tensor
    try:
        values = reader.whole(row.wanted.file.path, tensor)
    except (OSError, ValueError):
        return False
    largest = torch.finfo(values.dtype).max
    return bool(values.numel() and values.float().abs().max() >= _STRETCHED * largest)


def _holds_product(row: Row, scale: Row, reader: TensorReader) -> bool:
    """True if the parameter holds the codes times their scale, up to rounding."""
    import torch

    if row.target is None or row.target.shape != tuple(row.wanted.tensor.shape):
        return False
    live = row.target.value()
    if live.device.type == "meta" or not live.is_floating_point():
        return False
    try:
        codes, factors = (reader.whole(item.wanted.file.path, item.wanted.tensor) for item in (row, scale))
    except (OSError, ValueError):
        return False
    stretched = _stretched_to(factors.float(), tuple(codes.shape))
    if stretched is None:
        return False
    product = codes.float() * stretched
    tolerance = _TOLERANCE.get(str(live.dtype).removeprefix("torch."), 1e-5)
    return torch.allclose(live.float().cpu(), product, rtol=tolerance, atol=tolerance * float(product.abs().mean()))


def _stretched_to(scale: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor | None:
    """The scale of every element: of one for the tensor, for each row or for each block."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.dim() == 1 and scale.shape[0] == shape[0]:
        scale = scale.reshape(-1, *[1] * (len(shape) - 1))
    if scale.dim() != len(shape):
        return None
    for dim, size in enumerate(shape):
        step = -(-size // scale.shape[dim])
        # A last block may be cut: guess the usual sizes of blocks first.
        step = next((item for item in (128, 64, 32, 16) if -(-size // item) == scale.shape[dim]), step)
        scale = scale.repeat_interleave(step, dim).narrow(dim, 0, size) if scale.shape[dim] != 1 else scale
    return scale
