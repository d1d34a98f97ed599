"""The dtypes of checkpoints as those of the torch that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt_doctor.core.weight_file import TensorInfo

if TYPE_CHECKING:
    import torch


def torch_dtype(info: TensorInfo) -> torch.dtype:
    """The dtype of a tensor. Raises ``ValueError`` if this torch has none of that name."""
    import torch

    dtype = getattr(torch, info.dtype.name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"this torch version has no dtype {info.dtype.name}")
    return dtype
