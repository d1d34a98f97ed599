"""Single elements of tensors: which ones are looked at, what a checkpoint has for them, and when two are alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.weight_file import TensorInfo

from .reading import TensorReader

if TYPE_CHECKING:
    import torch

_ALIKE = 0.25  # relative: values that a cast through a narrow dtype could make the same
_TINY, _HUGE = 1e-4, 400.0  # and those that it could make zero, or infinite

Index = tuple[int, ...]


def saved_elements(
    root: Path, tensors: Iterable[tuple[str, TensorInfo]]
) -> dict[tuple[str, str], dict[Index, torch.Tensor]]:
    """By file and name what stands at the :func:`indices` of each tensor; nothing of one that cannot be read."""
    found: dict[tuple[str, str], dict[Index, torch.Tensor]] = {}
    with TensorReader(root) as reader:
        for file, info in tensors:
            wanted = indices(tuple(info.shape)) if info.numel else ()
            try:
                found[file, info.name] = {index: reader.element(file, info, index) for index in wanted}
            except (OSError, ValueError):  # the comparison after the load will say so
                found[file, info.name] = {}
    return found


def can_be_marked(tensor: torch.Tensor) -> bool:
    """True if it has elements, and memory for them."""
    import torch

    if torch.nn.parameter.is_lazy(tensor):  # its shape comes with the first forward pass
        return False
    if tensor.device.type == "meta" or tensor.layout is not torch.strided or tensor.is_quantized:
        return False
    return tensor.numel() > 0


def indices(shape: tuple[int, ...]) -> set[Index]:
    """The first, the middle and the last index of a tensor of this shape."""
    return {
        tuple(0 for _ in shape),
        tuple(size // 2 for size in shape),
        tuple(size - 1 for size in shape),
    }


def number_in(element: torch.Tensor) -> Any:
    """The element as a number; of floats of one byte, which have no arithmetic, that byte."""
    import torch

    packed = element.element_size() == 1 and element.is_floating_point()
    return (element.view(torch.uint8) if packed else element).item()


def are_alike(first: torch.Tensor, second: torch.Tensor) -> bool:
    """True if two elements of one dtype are the same, or could be after casts."""
    one, other = number_in(first), number_in(second)
    if not first.is_floating_point() and not first.is_complex():
        return bool(one == other)
    if first.element_size() == 1:
        return bool(abs(one - other) <= 1)
    if one == other or (one != one and other != other):
        return True
    small, large = sorted((abs(one), abs(other)))
    if large < _TINY or (small > _HUGE and math.isinf(large)):
        return True
    return math.isfinite(large) and abs(one - other) <= _ALIKE * large
