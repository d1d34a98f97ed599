"""One tensor of a checkpoint against one of the model, in bounded memory."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.weight_file import TensorInfo
from ckpt_doctor.verification.model.dtypes import torch_dtype

from .reading import TensorReader

if TYPE_CHECKING:
    import torch


class Verdict(Enum):
    """How the values compare, from best to worst."""

    EQUAL = 0
    """Bit by bit, after a cast that lost nothing."""
    ROUNDED = 1
    """Bit by bit after a cast that changed values."""
    OVERFLOWN = 2
    """As before, and finite values became infinite."""
    DIFFERENT = 3


class Comparison(NamedTuple):
    """How the values compare, and the dtypes that they passed through, from the checkpoint's to the parameter's."""

    verdict: Verdict
    dtypes: str = ""


def compare(
    reader: TensorReader, file: str, info: TensorInfo, live: torch.Tensor, *, computed: bool = False
) -> Comparison:
    """Compare the checkpoint's tensor with ``live``, which has its shape.

    A value that was ``computed`` from parameters on saving need only be equal up to rounding. Where the values differ,
    they may have passed through a narrower dtype on their way (a model in half precision that was cast up again).
    """
    if live.device.type == "meta":
        return Comparison(Verdict.DIFFERENT)
    try:
        dtype = torch_dtype(info)
    except ValueError:
        return Comparison(Verdict.DIFFERENT)
    floating = dtype.is_floating_point and live.dtype.is_floating_point
    for between in (None, *(_narrower(dtype, live.dtype) if floating else ())):
        verdict = _through(reader, file, info, live, between)
        if verdict is not Verdict.DIFFERENT:
            way = [str(item).removeprefix("torch.") for item in (dtype, between, live.dtype) if item is not None]
            return Comparison(verdict, " to ".join(way))
    if computed and floating:
        import torch

        near = torch.allclose(reader.whole(file, info).double(), live.double().cpu(), rtol=1e-4, atol=1e-6)
        return Comparison(Verdict.EQUAL if near else Verdict.DIFFERENT)
    return Comparison(Verdict.DIFFERENT)


def same_bytes(reader: TensorReader, first: tuple[str, TensorInfo], second: tuple[str, TensorInfo]) -> bool:
    """True if two tensors on disk, each with its file, hold the same values. Raises what reading them raises."""
    (file, info), (other, twin) = first, second
    if info.dtype != twin.dtype or info.shape != twin.shape:
        return False
    if file == other and info.storage == twin.storage and info.stride == twin.stride:
        return True
    with TensorReader(reader.root) as aside:
        pairs = zip(reader.chunks(file, info), aside.chunks(other, twin), strict=True)
        return all(_same_bits(ours, theirs) for (_, ours), (_, theirs) in pairs)


def _narrower(first: torch.dtype, second: torch.dtype) -> list[torch.dtype]:
    import torch

    return [item for item in (torch.bfloat16, torch.float16, torch.float32) if item not in (first, second)]


def _through(
    reader: TensorReader, file: str, info: TensorInfo, live: torch.Tensor, between: torch.dtype | None
) -> Verdict:
    import torch

    dtype = torch_dtype(info)
    flat = _Flat(live)
    worst = Verdict.EQUAL
    for first, data in reader.chunks(file, info):
        saved = data if data.dtype == dtype else data.view(dtype)
        there = flat.part(first, saved.numel())
        if dtype == live.dtype and between is None:
            if not _same_bits(saved, there):
                return Verdict.DIFFERENT
            continue
        cast = (saved if between is None else saved.to(between)).to(live.dtype)
        if not _same_bits(cast, there):
            return Verdict.DIFFERENT
        back = cast.to(dtype)
        if not _same_bits(back, saved):
            lost = dtype.is_floating_point and live.dtype.is_floating_point
            overflown = lost and bool((torch.isfinite(_wide(saved)) & ~torch.isfinite(_wide(cast))).any())
            found = Verdict.OVERFLOWN if overflown else Verdict.ROUNDED
            worst = max(worst, found, key=lambda verdict: verdict.value)
    return worst


def _wide(values: torch.Tensor) -> torch.Tensor:
    # float8 has no isfinite.
    return values.float() if values.element_size() == 1 else values


def _same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """True if two flat tensors on the CPU hold the same bytes; eight at a time, which is many times faster."""
    import numpy as np

    if first.dtype != second.dtype or len(first) != len(second):
        return False
    ours, theirs = _as_bytes(first), _as_bytes(second)
    whole = len(ours) // 8 * 8
    words = np.array_equal(ours[:whole].view(np.uint64), theirs[:whole].view(np.uint64))
    return words and np.array_equal(ours[whole:], theirs[whole:])


def _as_bytes(values: torch.Tensor) -> Any:
    import torch

    return values.contiguous().view(torch.uint8).numpy()


class _Flat:
    """Runs of elements of a tensor in row-major order, on the CPU, with no copy of the whole."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._contiguous = tensor.is_contiguous()
        self._tensor = tensor.view(-1) if self._contiguous else tensor
        self._row = tensor[0].numel() if tensor.dim() and len(tensor) else 1

    def part(self, first: int, count: int) -> torch.Tensor:
        if self._contiguous:
            return self._tensor[first : first + count].cpu()
        start, end = first // self._row, -(-(first + count) // self._row)
        rows = self._tensor[start:end].reshape(-1)
        begin = first - start * self._row
        return rows[begin : begin + count].cpu()
