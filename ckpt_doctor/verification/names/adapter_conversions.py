"""LoRA tensors of single experts, which PEFT fuses on loading where transformers 5 keeps all experts in one parameter.

PEFT's own conversion is run on tensors whose elements are numbered; where each number comes out is where the element
goes. So nothing about any architecture stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ckpt_doctor.verification.model.live import Target

from .namings import Naming
from .wanted import Wanted

if TYPE_CHECKING:
    import torch
    from torch import nn


def fused_adapter_tensors(model: nn.Module, naming: Naming, absent: list[Wanted]) -> dict[str, Target]:
    """The targets of the tensors in ``absent``, as far as PEFT would fuse them into parameters of this adapter."""
    convert = _conversion()
    if convert is None or not any(".lora_" in item.tensor.name for item in absent):
        return {}
    import torch

    module: Any = model.get_submodule(naming.path)
    numbered, first = {}, {}
    total = 1  # 0 is what a conversion fills gaps with
    for item in absent:
        name, info = item.tensor.name, item.tensor
        first[name] = total
        numbered[name] = torch.arange(total, total + info.numel).reshape(info.shape)
        total += info.numel
    try:
        converted = convert(module, module.peft_config[naming.adapter], numbered, adapter_name=naming.adapter)
    except (RuntimeError, ValueError, KeyError):
        return {}  # experts that are absent, or of different ranks: the load itself will not succeed either
    found: dict[str, Target] = {}
    for key, numbers in converted.items():
        target = naming.targets.get(key)
        if key not in numbered and target is not None and tuple(numbers.shape) == target.shape:
            found |= _taken_apart(numbers, target, absent, first)
    return found


def _taken_apart(
    numbers: torch.Tensor, target: Target, absent: list[Wanted], first: Mapping[str, int]
) -> dict[str, Target]:
    """The tensors whose numbers all stand in ``numbers``, each as a selection of the fused parameter's elements."""
    import torch

    order = numbers.reshape(-1).argsort()
    ranked = numbers.reshape(-1)[order]
    found = {}
    for item in absent:
        info, start = item.tensor, first[item.tensor.name]
        begin, end = (int(torch.searchsorted(ranked, bound)) for bound in (start, start + info.numel))
        if end - begin == info.numel > 0:
            value = partial(_selected, target.value, order[begin:end], tuple(info.shape))
            name = f"{target.name}[...]"
            found[info.name] = Target(
                name, target.names, tuple(info.shape), target.dtype, value, target.trained, computed=True
            )
    return found


def _selected(value: Callable[[], torch.Tensor], index: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    fused = value().reshape(-1)
    return fused[index.to(fused.device)].reshape(shape)


def _conversion() -> Any:
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers
    except ImportError:  # before PEFT 0.19 nothing was fused
        return None
    return convert_peft_adapter_state_dict_for_transformers
